"""Scales from cosines to the percentages that clients compare with their thresholds.

The asset API works in percentages: 75 is "the same" by default, 85 excellent, 65 acceptable, 50 the end of poor.
Cosines of faces and of whole images are distributed differently, so each kind has its own scale, linear between fixed
points and strictly rising. ``ops.calibration.faces`` and ``ops.calibration.images`` measure what the points are based
on; ``ops/bench/reports/characters.md`` has the numbers.

Faces (SFace, 38 labelled pairs of one person and 262 of two): two persons have cosines of 0.14 on average with a
deviation of 0.084, one person has 0.58 or more.

- 0.40 is 75: a normal distribution of two persons' cosines puts about one pair in a thousand above it.
- 0.363 is 65: the threshold OpenCV publishes, where LFW has its fewest errors; from here on an answer is "acceptable".
- 0.27 is 50: one pair of two persons in fifteen lies above.
- 0.55 is 85: no labelled pair of one person is less similar.
- 0.14 is 30: two persons on average.

Whole images (unit features, centred; DINOv2 lineage): of images and their own copies (mirrored, darker, smaller,
cropped a little, turned a little) 95 in 100 lie above 0.70, of images of different scenes 2 in 100.

- 0.70 is 75, 0.30 is 50, 0.85 is 85.

A model with another distribution of cosines needs other points: measure it.

Faces that are blurred look alike, whoever they are: of two persons who are both blurred by the movement of the camera,
one pair in eleven has 0.40 or more, at worst one in three. So the cosine of a blurred face counts less: its vector is
shorter than 1, by ``trust``. ``python -m ops.calibration.faces --degraded`` measures the error rates with and without.
"""

from math import log2, sqrt
from typing import Final

import numpy as np

CLEAR: Final = 8.0
"""Sharpness of a face (see ``vision.faces.face``) from which on its cosines count in full: that of 32 pixels."""
MORE_ALIKE: Final = 0.065
"""Cosine that two faces have to be more alike each time their sharpness halves."""
LEAST_TRUST: Final = 0.75

CLEARLY_SEEN: Final = 0.7
DRAWN: Final = 9.5

Points = tuple[tuple[float, float], ...]

FACE_POINTS: Final[Points] = ((-1, 0), (0.14, 30), (0.27, 50), (0.363, 65), (0.40, 75), (0.55, 85), (1, 100))
"""(cosine, percentage) of two faces."""

IMAGE_POINTS: Final[Points] = ((-1, 0), (0.30, 50), (0.70, 75), (0.85, 85), (1, 100))
"""(cosine, percentage) of two whole images."""


def is_drawn(quality: float, strength: float) -> bool:
    """Return whether a face is surely no photograph of one, by its quality and strength, as of people/identity.

    Only large and clear faces can be told: of photographs they have a strength of 11.7 or more, of pencil drawings,
    cartoons and pictures in flat colours 4.6 to 11.6. Small faces have low ones, too, whatever they are of.
    """
    return quality >= CLEARLY_SEEN and strength < DRAWN


def trust(sharpness: float) -> float:
    """Return the length of the vector of a face of this sharpness, from 0, as ``vision.faces.face.sharpness``: 1 for
    most faces, 0.75 for the most blurred.

    Where both faces have half of what is clear a cosine of 0.465 is needed where 0.40 is needed of clear ones.
    """
    same = face_cosine(75)
    halvings = log2(CLEAR / max(sharpness, 1e-6))
    return float(np.clip(sqrt(same / (same + MORE_ALIKE * max(0.0, halvings))), LEAST_TRUST, 1))


def similarity_percentage(cosine: float) -> float:
    """Return the similarity of two faces, 0 to 100, from the cosine of their vectors; 75 and above: the same person."""
    return _percentage(cosine, FACE_POINTS)


def image_percentage(cosine: float) -> float:
    """Return the similarity of two images, 0 to 100, from the cosine of their features; 75 and above: the same
    scene."""
    return _percentage(cosine, IMAGE_POINTS)


def face_cosine(percentage: float) -> float:
    """Return the cosine of two faces of this similarity, the inverse of ``similarity_percentage``."""
    return _cosine(percentage, FACE_POINTS)


def image_cosine(percentage: float) -> float:
    """Return the cosine of two images of this similarity, the inverse of ``image_percentage``."""
    return _cosine(percentage, IMAGE_POINTS)


def _percentage(cosine: float, points: Points) -> float:
    cosines, percentages = zip(*points, strict=True)
    return float(np.interp(cosine, cosines, percentages))


def _cosine(percentage: float, points: Points) -> float:
    cosines, percentages = zip(*points, strict=True)
    return float(np.interp(percentage, percentages, cosines))
