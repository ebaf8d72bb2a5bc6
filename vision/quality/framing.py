"""Shot size, shot angle and framing of an image, from its faces.

Sizes are those of film and television (Thompson and Bowen, Grammar of the Shot), which are named by where the frame
cuts a standing figure: below the chin, at the chest, the waist, the thigh, or not at all. Faces give the height of the
frame in heads: a figure is 7.5 heads high, a detected face (forehead to chin) 0.8 heads. Angles come from the landmarks
and are those of the head to the camera, so someone who looks down before a level camera counts as seen from a high
angle.
"""

from collections.abc import Sequence
from math import atan2, degrees
from typing import Final

import numpy as np

from vision.faces.face import Face

UNDETERMINED: Final = "undetermined"

FACE: Final = 0.8
"""Height of a face in heads."""
SHOT_SIZES: Final = (
    # (height of the frame in heads, exclusive; name)
    (1.0, "extreme_close_up"),
    (1.9, "close_up"),
    (2.7, "medium_close_up"),
    (4.1, "medium"),
    (6.3, "medium_full"),
    (10.5, "full"),
    (25.0, "wide"),
)
WIDEST: Final = "extreme_wide"

NOSE_LEVEL: Final = 0.57
"""Position of the tip of the nose between eyes (0) and mouth (1) of a face seen straight on."""
NOSE_DEPTH: Final = 0.45
"""How far the nose stands out before eyes and mouth, in units of their distance."""
TILTED: Final = 20.0
"""Degrees from which an angle is high, low or dutch; heads tilt by up to 15 before a level camera."""

CENTRE: Final = (5 / 12, 7 / 12)


def shot_size(faces: Sequence[Face], height: int) -> str:
    """Return the shot size by the largest face in an image of ``height`` pixels; "undetermined" without faces."""
    if not faces:
        return UNDETERMINED
    heads = height * FACE / max(face.height for face in faces)
    return next((name for limit, name in SHOT_SIZES if heads < limit), WIDEST)


def shot_angle(faces: Sequence[Face]) -> str:
    """Return high_angle (the camera looks down), low_angle, dutch (tilted) or eye_level, by the median over the faces.

    Return "undetermined" without faces that have landmarks.
    """
    angles = [(pitch(face), roll(face)) for face in faces if len(face.landmarks) == 5]
    if not angles:
        return UNDETERMINED
    pitched, rolled = np.median(angles, 0)
    if abs(rolled) > TILTED:
        return "dutch"
    if abs(pitched) > TILTED:
        return "high_angle" if pitched > 0 else "low_angle"
    return "eye_level"


def framing(x: float | None) -> str:
    """Return left_third, centered or right_third for the centre of the subject, 0 to 1; "undetermined" for None."""
    if x is None:
        return UNDETERMINED
    return "left_third" if x < CENTRE[0] else "right_third" if x > CENTRE[1] else "centered"


def roll(face: Face) -> float:
    """Return the clockwise rotation of the line between the eyes, -180 to 180 degrees."""
    (right_x, right_y), (left_x, left_y) = face.landmarks[:2]
    return degrees(atan2(left_y - right_y, left_x - right_x))


def pitch(face: Face) -> float:
    """Return the elevation of the camera over the face in degrees, negative below it.

    It is estimated from the position of the nose between eyes and mouth.
    """
    points = np.array(face.landmarks)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    down = mouth - eyes
    length = float(down @ down)
    if length == 0:
        return 0.0
    level = float((points[2] - eyes) @ down) / length
    return degrees(atan2(level - NOSE_LEVEL, NOSE_DEPTH))
