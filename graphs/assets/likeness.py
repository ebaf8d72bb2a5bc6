"""Whether two assets show the same person: by their faces where both have one, else by their whole pictures.

A likeness is measured by ``Comparison``; labels by the contract's thresholds, and sentences with the measured numbers,
are made of it here too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

import numpy as np

from graphs.assets.character_schemas import Action, Basis, ConfidenceLevel, SequenceStatus, ShotStatus
from graphs.assets.features import FeatureSource
from graphs.assets.similarity import between, certainty, of_cosine
from graphs.indexing.faces import EmbeddedFace, FaceSource
from stores.records import Asset, Features
from vision.errors import StageError
from vision.faces.calibration import FACE_POINTS, IMAGE_POINTS, image_percentage, similarity_percentage
from vision.faces.face import Face

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
CONFIDENCE_LADDER: Final[tuple[tuple[float, ConfidenceLevel], ...]] = ((0.5, "high"), (0.25, "medium"))

REVIEW_MARGIN: Final = 15.0
"""Percentage points below a compliance threshold within which an asset should be reviewed, not regenerated."""
IMAGE_WEIGHT: Final = 0.5
"""Highest confidence of a verdict from whole pictures: they show the scene rather than the person."""
CLEAR_FACE: Final = 0.6
"""Quality below which an explanation calls a face hard to make out."""

EXPLAINED: Final[dict[str, dict[str, object]]] = {
    "similarity_score": {
        "formula": "piecewise linear in the cosine of the basis, through the points (cosine, per cent); that of "
        "blurred faces counts less, down to 0.75 of it for each of the two",
        "face": FACE_POINTS,
        "image": IMAGE_POINTS,
        "stages": ["people/faces", "people/identity", "embed/dinov3"],
        "range": [0, 100],
        "direction": "higher is more alike; from 75 on faces are one person's, pictures of one scene",
    },
    "confidence_score": {
        "formula": "distance of similarity_score from the threshold, relative to the part of 0-100 on its side, times "
        "the quality of the worse face; times 0.5 for whole pictures",
        "stages": ["people/identity"],
        "range": [0, 1],
        "direction": "higher is surer",
    },
}
"""What ``/model-info`` says about these scores."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two assets are, and by what.

    ``percentage`` 0-100 on the scale of ``basis``; ``cosine`` -1..1; ``distance`` 0..2, of the unit vectors.
    ``face_counts``: faces of each asset; ``compared``: the two faces compared; ``quality`` 0-1: of the worse of them.
    """

    basis: Basis
    percentage: float
    cosine: float
    distance: float
    face_counts: tuple[int, int]
    compared: tuple[Face, Face] | None = None
    quality: float | None = None


class Comparison:
    """Compares assets, reading each at most once per call."""

    def __init__(self, features: FeatureSource, faces: FaceSource) -> None:
        self._features = features
        self._faces = faces

    async def pair(self, first: Asset, second: Asset) -> Likeness:
        """Compare the largest face of each asset with the faces of the other, and return the better match.

        Where either has no face the whole pictures are compared. Raises the StageError of either asset.
        """
        faces, failures = await self._faces.many([first, second])
        for error in failures.values():
            raise error
        ones, others = faces[first.asset_id], faces[second.asset_id]
        if ones and others:
            forth, back = by_faces(ones, others), by_faces(others, ones)
            is_forth = (forth.percentage, forth.cosine) >= (back.percentage, back.cosine)
            return forth if is_forth else _swapped(back)
        features, failures = await self._features.many([first, second])
        for error in failures.values():
            raise error
        return by_pictures(features[first.asset_id], features[second.asset_id], (len(ones), len(others)))

    async def against(
        self, reference: Asset, others: Iterable[Asset]
    ) -> tuple[dict[str, Likeness], dict[str, StageError]]:
        """Compare the largest face of a reference with the most alike face of each other asset, or whole pictures.

        Returns the likenesses and the errors of the other assets, by id. Raises the StageError of the reference.
        """
        assets = {asset.asset_id: asset for asset in others}
        faces, failures = await self._faces.many([reference, *assets.values()])
        if reference.asset_id in failures:
            raise failures[reference.asset_id]
        own = faces[reference.asset_id]
        likenesses = {asset_id: by_faces(own, faces[asset_id]) for asset_id in assets if own and faces.get(asset_id)}
        faceless = [asset for asset_id, asset in assets.items() if asset_id in faces and asset_id not in likenesses]
        if faceless:
            features, theirs, more = await self._features.against(reference, faceless)
            failures |= more
            for asset_id, other in theirs.items():
                likenesses[asset_id] = by_pictures(features, other, (len(own), len(faces[asset_id])))
        return {asset_id: likenesses[asset_id] for asset_id in assets if asset_id in likenesses}, failures


def by_pictures(reference: Features, other: Features, face_counts: tuple[int, int]) -> Likeness:
    """Compare whole pictures."""
    similarity = between(reference, other)
    return Likeness(
        basis="image",
        percentage=round(image_percentage(similarity.cosine), 2),
        cosine=similarity.cosine,
        distance=similarity.distance,
        face_counts=face_counts,
    )


def by_faces(reference: tuple[EmbeddedFace, ...], others: tuple[EmbeddedFace, ...]) -> Likeness:
    """Compare the first face of the reference with the most alike of the others; neither tuple is empty.

    Blurred faces have to be more alike for the same percentage; the cosine is as it is.
    """
    face, vector = reference[0]
    trusted = [float(vector.vector @ other.vector) for _, other in others]
    best = max(range(len(trusted)), key=trusted.__getitem__)
    lengths = np.linalg.norm(vector.vector) * np.linalg.norm(others[best][1].vector)
    similarity = of_cosine(trusted[best] / float(lengths))
    return Likeness(
        basis="face",
        percentage=round(similarity_percentage(trusted[best]), 2),
        cosine=similarity.cosine,
        distance=similarity.distance,
        face_counts=(len(reference), len(others)),
        compared=(face, others[best][0]),
        quality=min(vector.quality, others[best][1].quality),
    )


def average_percentage(likenesses: Iterable[Likeness]) -> float | None:
    """Return the mean percentage, or None if there are no likenesses."""
    percentages = [likeness.percentage for likeness in likenesses]
    return round(fmean(percentages), 2) if percentages else None


def confidence_score(likeness: Likeness, threshold: float) -> float:
    """Return 0-1: certainty of the percentage times the quality of the worse face, or times ``IMAGE_WEIGHT``."""
    weight = IMAGE_WEIGHT if likeness.quality is None else likeness.quality
    return round(certainty(likeness.percentage, threshold, 0, 100) * weight, 4)


def confidence_level(score: float) -> ConfidenceLevel:
    """Return ``high`` from 0.5 on, ``medium`` from 0.25, else ``low``."""
    return next((level for least, level in CONFIDENCE_LADDER if score >= least), "low")


def shot_status(percentage: float) -> ShotStatus:
    """Return the status of a shot by its similarity to the reference, 0-100."""
    return next((status for least, status in SHOT_LADDER if percentage >= least), "unacceptable")


def sequence_status(rate: float) -> SequenceStatus:
    """Return the status of a sequence by its share of consistent shots, 0-1."""
    return next((status for least, status in SEQUENCE_LADDER if rate >= least), "needs_work")


def action_for(percentage: float, threshold: float) -> Action:
    """Return ``approve`` from the threshold on, ``review`` up to ``REVIEW_MARGIN`` below it, else ``regenerate``."""
    if percentage >= threshold:
        return "approve"
    return "review" if percentage >= threshold - REVIEW_MARGIN else "regenerate"


def explanation(likeness: Likeness, threshold: float) -> str:
    """Describe what was compared, with which result, and what makes the result less certain."""
    same = likeness.percentage >= threshold
    numbers = f"cosine {likeness.cosine:.3f}, {likeness.percentage:.1f} % at a threshold of {threshold:g} %"
    if likeness.compared is None:
        verdict = "The pictures look alike" if same else "The pictures look different"
        why = _faceless(likeness.face_counts)
        return f"{verdict}: {numbers}. {why}, so whole pictures were compared, which show the scene, not the person."
    verdict = "The same person" if same else "Different people"
    sizes = " and ".join(f"{round(face.width)} × {round(face.height)}" for face in likeness.compared)
    text = f"{verdict}: {numbers}. Compared by face, {sizes} pixels."
    if max(likeness.face_counts) > 1:
        first, second = likeness.face_counts
        text += f" The pictures have {first} and {second} faces; the best match counts."
    if likeness.quality is not None and likeness.quality < CLEAR_FACE:
        text += f" A face is hard to make out (quality {likeness.quality:.2f}): small, blurred or turned away."
    return text


def shot_recommendation(likeness: Likeness) -> str:
    """Recommend what to do with a shot."""
    if likeness.compared is None:
        alike = "like" if shot_status(likeness.percentage) in ("excellent", "good") else "unlike"
        return f"Check by eye: {_faceless(likeness.face_counts).lower()}, and the picture is {alike} the reference."
    return {
        "excellent": "Use it: the face matches the reference closely.",
        "good": "Use it: the face matches the reference.",
        "acceptable": "Check by eye: the face may be the same as in the reference, but matches less than it should.",
        "poor": "Shoot or generate it again, closer to the reference: the face hardly matches.",
        "unacceptable": "Shoot or generate it again: the face does not match the reference.",
    }[shot_status(likeness.percentage)]


def sequence_recommendation(consistent: int, processed: int) -> str:
    """Recommend what to do with a sequence of shots."""
    if not processed:
        return "No shot could be compared; see the error of each."
    off = processed - consistent
    shots = f"{off} of {processed} shots {'does' if off == 1 else 'do'} not show the reference"
    return {
        "excellent": f"The character is consistent; {shots}." if off else "The character is consistent in every shot.",
        "good": f"The character is mostly consistent; {shots}: check or replace them.",
        "acceptable": f"The character is consistent in most shots; {shots}: replace them.",
        "needs_work": f"The character is not consistent; {shots}: generate them again from the reference.",
    }[sequence_status(consistent / processed)]


def compliance_recommendation(likeness: Likeness, threshold: float) -> str:
    """Recommend what to do with a generated picture."""
    numbers = f"{likeness.percentage:.1f} % at a threshold of {threshold:g} %"
    by = "by face" if likeness.compared else f"by whole picture, as {_faceless(likeness.face_counts).lower()}"
    return {
        "approve": f"Approve: {numbers}, {by}.",
        "review": f"Review by eye: {numbers}, {by}.",
        "regenerate": f"Generate it again from the reference: {numbers}, {by}.",
    }[action_for(likeness.percentage, threshold)]


def _swapped(likeness: Likeness) -> Likeness:
    assert likeness.compared is not None
    return replace(likeness, face_counts=likeness.face_counts[::-1], compared=likeness.compared[::-1])


def _faceless(face_counts: tuple[int, int]) -> str:
    if not any(face_counts):
        return "No face was found in either picture"
    return f"No face was found in the {'second' if face_counts[0] else 'first'} picture"
