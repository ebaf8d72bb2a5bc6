"""Shot size, angle, framing and number of people of a shot, from the faces of several of its frames.

Sizes, angles and framing are those of ``vision.quality.framing``, which takes one image. Over a shot a face may turn
away, be missed or be detected by mistake, so each result is a median over the frames with faces, and undetermined when
too few frames have one. This takes microseconds, so it is called directly and is not a stage.

Without faces nothing is determined: an empty landscape, a back and a detail of a hand look the same to a face detector.
Nor can a shot over a shoulder be recognised, as the face of the person in front is not visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from vision.faces.face import Face
from vision.quality.framing import UNDETERMINED, framing, shot_angle, shot_size

SEEN: Final = 1 / 3
"""Least share of frames with a face; fewer may be false detections."""
BESIDE: Final = 0.35
"""Least height of a face that counts, as a share of the largest face in its frame."""

Grouping = Literal["single", "two_shot", "group", "undetermined"]


@dataclass(frozen=True, slots=True)
class Scale:
    """``shot_size``, ``shot_angle`` and ``framing``: see ``vision.quality.framing``, "undetermined" without faces.

    ``people``: faces that are not far behind the nearest one, median over the frames with faces, 0 without;
    ``grouping``: single, two_shot or group (three and more). ``seen``: share of the frames with a face, 0 to 1.
    """

    shot_size: str
    shot_angle: str
    framing: str
    people: int
    grouping: Grouping
    seen: float


NOBODY: Final = Scale(UNDETERMINED, UNDETERMINED, UNDETERMINED, 0, "undetermined", 0.0)


def scale(frames: Sequence[Sequence[Face]], width: int, height: int) -> Scale:
    """Measure a shot by the faces of its frames, in pixels of frames of ``width`` by ``height``.

    ``frames``: the faces of each analysed frame, empty for those without any. Leave out frames of transitions, which
    show two shots.
    """
    shown = [faces for faces in frames if faces]
    seen = len(shown) / len(frames) if frames else 0.0
    if not shown or seen < SEEN:
        return replace(NOBODY, seen=seen)
    nearest = [max(faces, key=lambda face: face.height) for faces in shown]
    usual = replace(nearest[0], height=float(np.median([face.height for face in nearest])))
    people = [
        [face for face in faces if face.height >= BESIDE * most.height]
        for faces, most in zip(shown, nearest, strict=True)
    ]
    # Rounded up: as many frames with two as with three people make three.
    count = int(np.ceil(np.median([len(each) for each in people])))
    return Scale(
        shot_size([usual], height),
        shot_angle([face for faces in people for face in faces]),
        framing(float(np.median([_middle(faces) for faces in people])) / width),
        count,
        "single" if count == 1 else "two_shot" if count == 2 else "group",
        seen,
    )


def _middle(faces: Sequence[Face]) -> float:
    """Return the centre of the faces along the width, in pixels, weighted by their area."""
    return float(np.average([face.x + face.width / 2 for face in faces], weights=[f.width * f.height for f in faces]))
