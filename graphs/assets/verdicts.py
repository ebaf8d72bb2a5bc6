"""What a likeness means to a producer: labels by the contract's ladders, and sentences with the measured numbers."""

from typing import Final, Literal

from graphs.assets.likeness import Likeness
from graphs.assets.similarity import certainty
from vision.faces.calibration import FACE_POINTS, IMAGE_POINTS

Confidence = Literal["high", "medium", "low"]
ShotStatus = Literal["excellent", "good", "acceptable", "poor", "unacceptable"]
SequenceStatus = Literal["excellent", "good", "acceptable", "needs_work"]
Action = Literal["approve", "review", "regenerate"]

SHOT_LADDER: Final[tuple[tuple[float, ShotStatus], ...]] = (
    (85, "excellent"),
    (75, "good"),
    (65, "acceptable"),
    (50, "poor"),
)
SEQUENCE_LADDER: Final[tuple[tuple[float, SequenceStatus], ...]] = (
    (0.9, "excellent"),
    (0.8, "good"),
    (0.7, "acceptable"),
)
CONFIDENCE_LADDER: Final[tuple[tuple[float, Confidence], ...]] = ((0.5, "high"), (0.25, "medium"))

REVIEW_MARGIN: Final = 15.0
"""Percentage points below a compliance threshold within which somebody should look before it is made again."""
IMAGE_WEIGHT: Final = 0.5
"""What a verdict from whole pictures is worth at most: they tell the scene rather than the person."""
CLEAR_FACE: Final = 0.6
"""Quality below which a face is called hard to make out."""

EXPLAINED: Final[dict[str, dict[str, object]]] = {
    "similarity_score": {
        "formula": "piecewise linear in the cosine of the basis, through the points (cosine, per cent)",
        "face": FACE_POINTS,
        "image": IMAGE_POINTS,
        "stages": ["people/faces", "people/identity", "embed/dinov3"],
        "range": [0, 100],
        "direction": "higher is more alike; from 75 on faces are one person's, pictures of one scene",
    },
    "confidence_score": {
        "formula": "distance of similarity_score from the threshold, relative to the room on its side, times the "
        "quality of the worse face; times 0.5 for whole pictures",
        "stages": ["people/identity"],
        "range": [0, 1],
        "direction": "higher is surer",
    },
}
"""What ``/model-info`` says of them."""


def confidence_score(likeness: Likeness, threshold: float) -> float:
    """0-1: how far the percentage is from the threshold, times the quality of the worse face, or ``IMAGE_WEIGHT``."""
    weight = IMAGE_WEIGHT if likeness.quality is None else likeness.quality
    return round(certainty(likeness.percentage, threshold, 0, 100) * weight, 4)


def confidence_level(score: float) -> Confidence:
    """``high`` from 0.5 on, ``medium`` from 0.25."""
    return next((level for least, level in CONFIDENCE_LADDER if score >= least), "low")


def shot_status(percentage: float) -> ShotStatus:
    """By the similarity of a shot to the reference, 0-100."""
    return next((status for least, status in SHOT_LADDER if percentage >= least), "unacceptable")


def sequence_status(rate: float) -> SequenceStatus:
    """By the share of consistent shots, 0-1."""
    return next((status for least, status in SEQUENCE_LADDER if rate >= least), "needs_work")


def action_for(percentage: float, threshold: float) -> Action:
    """``approve`` from the threshold on, ``review`` up to ``REVIEW_MARGIN`` points below it, else ``regenerate``."""
    if percentage >= threshold:
        return "approve"
    return "review" if percentage >= threshold - REVIEW_MARGIN else "regenerate"


def explanation(likeness: Likeness, threshold: float) -> str:
    """What was compared, what came out, and what makes it less certain."""
    same = likeness.percentage >= threshold
    numbers = f"cosine {likeness.cosine:.3f}, {likeness.percentage:.1f} % at a threshold of {threshold:g} %"
    if likeness.compared is None:
        verdict = "The pictures look alike" if same else "The pictures look different"
        why = _faceless(likeness.faces)
        return f"{verdict}: {numbers}. {why}, so whole pictures were compared, which tell the scene, not the person."
    verdict = "The same person" if same else "Different people"
    sizes = " and ".join(f"{round(face.width)} × {round(face.height)}" for face in likeness.compared)
    text = f"{verdict}: {numbers}. Compared by face, {sizes} pixels."
    if max(likeness.faces) > 1:
        text += f" The pictures have {likeness.faces[0]} and {likeness.faces[1]} faces; the best match counts."
    if likeness.quality is not None and likeness.quality < CLEAR_FACE:
        text += f" A face is hard to make out (quality {likeness.quality:.2f}): small, blurred or turned away."
    return text


def shot_recommendation(likeness: Likeness) -> str:
    """What to do with a shot."""
    if likeness.compared is None:
        alike = "like" if shot_status(likeness.percentage) in ("excellent", "good") else "unlike"
        return f"Check by eye: {_faceless(likeness.faces).lower()}, and the picture is {alike} the reference."
    return {
        "excellent": "Use it: the face matches the reference closely.",
        "good": "Use it: the face matches the reference.",
        "acceptable": "Look at it again: the face may be the reference's, but is less alike than it should be.",
        "poor": "Shoot or make it again, closer to the reference: the face is hardly alike.",
        "unacceptable": "Shoot or make it again: the face does not match the reference.",
    }[shot_status(likeness.percentage)]


def sequence_recommendation(consistent: int, processed: int) -> str:
    """What to do with a sequence of shots."""
    if not processed:
        return "No shot could be compared; see the error of each."
    off = processed - consistent
    shots = f"{off} of {processed} shots {'does' if off == 1 else 'do'} not show the reference"
    return {
        "excellent": f"The character is consistent; {shots}." if off else "The character is consistent in every shot.",
        "good": f"The character is mostly consistent; {shots}: replace or check them.",
        "acceptable": f"The character is consistent in the greater part; {shots}: replace them.",
        "needs_work": f"The character is not consistent; {shots}: make them again from the reference.",
    }[sequence_status(consistent / processed)]


def compliance_recommendation(likeness: Likeness, threshold: float) -> str:
    """What to do with a generated picture."""
    away = f"{likeness.percentage:.1f} % at a threshold of {threshold:g} %"
    by = "by face" if likeness.compared else f"by whole picture, as {_faceless(likeness.faces).lower()}"
    return {
        "approve": f"Approve: {away}, {by}.",
        "review": f"Have somebody look at it: {away}, {by}.",
        "regenerate": f"Make it again from the reference: {away}, {by}.",
    }[action_for(likeness.percentage, threshold)]


def _faceless(faces: tuple[int, int]) -> str:
    if not any(faces):
        return "Neither picture has a face that was found"
    return f"No face was found in the {'second' if faces[0] else 'first'} picture"
