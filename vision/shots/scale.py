"""How close a shot is to its people, from which angle, and how many they are, by the faces of several of its frames.

Sizes, angles and sides are those of quality/framing, which looks at one picture. Over a shot a face turns away, is
missed, or is seen where none is, so every answer is a median over the frames with faces, and there is none where too
few frames have one. It is arithmetic of microseconds, so whoever has the faces calls it; a stage would cost a thousand
times as much on the way there.

Without a face it says nothing: an empty landscape, a back and a detail of a hand look alike to a detector of faces.
Nor can it tell a shot over a shoulder, as the person in front has no face in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from vision.faces.face import Face
from vision.quality.framing import UNDETERMINED, framing, shot_angle, shot_size

SEEN: Final = 1 / 3
"""Share of the frames that must have a face; fewer may be false alarms."""
BESIDE: Final = 0.35
"""Height of a face, as a share of the highest in its frame, from which it belongs to the people of the shot."""

Grouping = Literal["single", "two_shot", "group", "undetermined"]


@dataclass(frozen=True, slots=True)
class Scale:
    """``shot_size``, ``shot_angle`` and ``framing``: see quality/framing, "undetermined" without faces.

    ``people``: faces that are not far behind the nearest one, median over the frames with faces, 0 without;
    ``grouping``: what that makes it, single, two_shot or group (three and more). ``seen``: share of the frames with a
    face, 0 to 1.
    """

    shot_size: str
    shot_angle: str
    framing: str
    people: int
    grouping: Grouping
    seen: float


NOBODY: Final = Scale(UNDETERMINED, UNDETERMINED, UNDETERMINED, 0, "undetermined", 0.0)


def scale(frames: Sequence[Sequence[Face]], width: int, height: int) -> Scale:
    """Of a shot; ``frames``: the faces of each frame that was looked at, also of those without any, in pixels of frames
    of ``width`` by ``height``. Frames of a transition show two shots and do not belong here."""
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
    # The one that more frames have: of as many with two as with three, three.
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
    """Where the faces together are along the width, in pixels; the nearer count for more."""
    return float(np.average([face.x + face.width / 2 for face in faces], weights=[f.width * f.height for f in faces]))
