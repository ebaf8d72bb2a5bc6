"""Who is in two frames of a shot at about the same place: also in the frames between them, and where there.

A search of a whole frame costs several times a look at the places where faces are expected. So it can be left out where
the frames before and after it show the same faces, each surely, by place and by looks, and none near another.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.faces.detection import overlap
from vision.faces.face import Face

SURE: Final = 0.8
"""Least confidence of a face in both frames: one near the threshold may be missing in between."""
STAYS: Final = 0.5
"""Least intersection over union of a face's places in the two frames,"""
APART: Final = 0.05
"""and the most of two faces in one: people who cross may be taken for each other."""
SAME: Final = 0.6
"""Least cosine of a face's vectors: those of two people are below 0.45 nearly always."""


def continued(before: Sequence[Face], after: Sequence[Face], cosines: NDArray[np.float32]) -> tuple[int, ...] | None:
    """Return the index of each face of a frame in a later one; None unless all of both are surely the same.

    ``cosines``: float32[n, m], of the vectors of n faces before and m after.
    """
    sure = all(face.confidence >= SURE for face in (*before, *after))
    if len(before) != len(after) or not sure or _crowded(before) or _crowded(after):
        return None
    partners = matched(before, after)
    if partners is None or any(cosines[index, partner] < SAME for index, partner in enumerate(partners)):
        return None
    return partners


def matched(faces: Sequence[Face], others: Sequence[Face]) -> tuple[int, ...] | None:
    """Return for each face the index of the one at its place; None unless that is one to one."""
    if len(faces) != len(others):
        return None
    shares = _overlaps(faces, others)
    partners = tuple(int(row.argmax()) for row in shares)
    stay = all(shares[index, partner] >= STAYS for index, partner in enumerate(partners))
    return partners if stay and len(set(partners)) == len(partners) else None


def between(before: Face, after: Face, share: float) -> Face:
    """Return where a face is expected that has gone this share of its way, 0 to 1, at a constant velocity."""

    def at(one: float, other: float) -> float:
        return one + share * (other - one)

    points = zip(before.landmarks, after.landmarks, strict=True)
    return Face(
        x=at(before.x, after.x),
        y=at(before.y, after.y),
        width=at(before.width, after.width),
        height=at(before.height, after.height),
        confidence=min(before.confidence, after.confidence),
        landmarks=tuple((at(a[0], b[0]), at(a[1], b[1])) for a, b in points),
    )


def _crowded(faces: Sequence[Face]) -> bool:
    return bool((np.triu(_overlaps(faces, faces), 1) > APART).any())


def _overlaps(faces: Sequence[Face], others: Sequence[Face]) -> NDArray[np.float32]:
    """Return float32[n, m], the intersection over union of n faces with m others."""
    boxes = _boxes(others)
    return np.array([overlap(box, boxes) for box in _boxes(faces)], np.float32).reshape(len(faces), len(others))


def _boxes(faces: Sequence[Face]) -> NDArray[np.float32]:
    return np.array([(face.x, face.y, face.width, face.height) for face in faces], np.float32).reshape(-1, 4)
