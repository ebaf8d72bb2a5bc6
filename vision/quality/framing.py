"""What the faces say about a shot: its size, its angle, and on which side the subject is.

Sizes are those of film and television (Thompson and Bowen, Grammar of the Shot), which tell where the frame cuts a
standing figure: below the chin, at the chest, the waist, the thigh, or not at all. Faces tell how many heads high the
frame is: a figure is 7.5 heads high, a detected face (forehead to chin) 0.8 heads. Angles come from the landmarks and
are those of the head to the camera: someone who looks down before a level camera is seen from a high angle too.
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
    # (the frame is less than so many heads high, name)
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
"""Where the tip of the nose is between eyes (0) and mouth (1) of a face seen straight on."""
NOSE_DEPTH: Final = 0.45
"""How far it stands out before them, in the same measure."""
TILTED: Final = 20.0
"""Degrees from which an angle is called high or low, or dutch; heads tilt by 15 before a level camera."""

CENTRE: Final = (5 / 12, 7 / 12)


def shot_size(faces: Sequence[Face], height: int) -> str:
    """By the highest face in a picture of ``height`` pixels; "undetermined" without faces."""
    if not faces:
        return UNDETERMINED
    heads = height * FACE / max(face.height for face in faces)
    return next((name for limit, name in SHOT_SIZES if heads < limit), WIDEST)


def shot_angle(faces: Sequence[Face]) -> str:
    """high_angle (the camera looks down), low_angle, dutch (tilted) or eye_level, by the median over the faces.

    "undetermined" without faces with landmarks.
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
    """left_third, centered or right_third, by the middle of the subject as a share of the width."""
    if x is None:
        return UNDETERMINED
    return "left_third" if x < CENTRE[0] else "right_third" if x > CENTRE[1] else "centered"


def roll(face: Face) -> float:
    """Degrees that the line of the eyes is turned clockwise in the picture, -180 to 180."""
    (right_x, right_y), (left_x, left_y) = face.landmarks[:2]
    return degrees(atan2(left_y - right_y, left_x - right_x))


def pitch(face: Face) -> float:
    """Degrees that the camera is above the face, negative below it; from where the nose is between eyes and mouth."""
    points = np.array(face.landmarks)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    down = mouth - eyes
    length = float(down @ down)
    if length == 0:
        return 0.0
    level = float((points[2] - eyes) @ down) / length
    return degrees(atan2(level - NOSE_LEVEL, NOSE_DEPTH))
