"""Whether two assets show the same person: by their faces where both have one, else by their whole pictures."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from graphs.assets.features import FeatureSource
from graphs.assets.similarity import between, of_cosine
from graphs.indexing.faces import EmbeddedFace, FaceSource
from stores.records import Asset, Features
from vision.errors import StageError
from vision.faces.calibration import image_percentage, similarity_percentage
from vision.faces.face import Face

Basis = Literal["face", "image"]


@dataclass(frozen=True, slots=True)
class Likeness:
    """``percentage`` 0-100 on the scale of its basis; ``cosine`` -1..1; ``distance`` 0..2, of the unit vectors.

    ``faces``: how many each asset has; ``compared``: the two that were compared; ``quality`` 0-1: of the worse one.
    """

    basis: Basis
    percentage: float
    cosine: float
    distance: float
    faces: tuple[int, int]
    compared: tuple[Face, Face] | None = None
    quality: float | None = None


class Comparison:
    """Compares assets, each read at most once a call."""

    def __init__(self, features: FeatureSource, faces: FaceSource) -> None:
        self._features = features
        self._faces = faces

    async def pair(self, first: Asset, second: Asset) -> Likeness:
        """The largest face of either asset and the one of the other that is most like it, whichever is more alike.

        Raises the StageError of either.
        """
        faces, failures = await self._faces.many([first, second])
        for error in failures.values():
            raise error
        ones, others = faces[first.asset_id], faces[second.asset_id]
        if ones and others:
            forth, back = by_faces(ones, others), by_faces(others, ones)
            return forth if forth.cosine >= back.cosine else _swapped(back)
        features, failures = await self._features.many([first, second])
        for error in failures.values():
            raise error
        return by_pictures(features[first.asset_id], features[second.asset_id], (len(ones), len(others)))

    async def against(
        self, reference: Asset, others: Iterable[Asset]
    ) -> tuple[dict[str, Likeness], dict[str, StageError]]:
        """The largest face of a reference and, of each other asset, the face most like it; or the whole pictures.

        Raises the StageError of the reference; those of the others are returned by id.
        """
        assets = {asset.asset_id: asset for asset in others}
        faces, failures = await self._faces.many([reference, *assets.values()])
        if reference.asset_id in failures:
            raise failures[reference.asset_id]
        own = faces[reference.asset_id]
        looked_at = [asset for asset_id, asset in assets.items() if asset_id in faces]
        found = {
            asset.asset_id: by_faces(own, faces[asset.asset_id]) for asset in looked_at if own and faces[asset.asset_id]
        }
        faceless = [asset for asset in looked_at if asset.asset_id not in found]
        if faceless:
            features, theirs, more = await self._features.against(reference, faceless)
            failures |= more
            for asset_id, other in theirs.items():
                found[asset_id] = by_pictures(features, other, (len(own), len(faces[asset_id])))
        return {asset_id: found[asset_id] for asset_id in assets if asset_id in found}, failures


def by_pictures(reference: Features, other: Features, faces: tuple[int, int]) -> Likeness:
    """Whole pictures; ``faces``: how many each has."""
    similarity = between(reference, other)
    return Likeness(
        basis="image",
        percentage=round(image_percentage(similarity.cosine), 2),
        cosine=similarity.cosine,
        distance=similarity.distance,
        faces=faces,
    )


def by_faces(reference: tuple[EmbeddedFace, ...], others: tuple[EmbeddedFace, ...]) -> Likeness:
    """The first of the reference's faces and the most alike of the others; both tuples have some."""
    face, vector = reference[0]
    cosines = [float(vector.vector @ other.vector) for _, other in others]
    best = max(range(len(cosines)), key=cosines.__getitem__)
    similarity = of_cosine(cosines[best])
    return Likeness(
        basis="face",
        percentage=round(similarity_percentage(similarity.cosine), 2),
        cosine=similarity.cosine,
        distance=similarity.distance,
        faces=(len(reference), len(others)),
        compared=(face, others[best][0]),
        quality=min(vector.quality, others[best][1].quality),
    )


def average_percentage(likenesses: Iterable[Likeness]) -> float | None:
    """Mean percentage, None of none."""
    percentages = [likeness.percentage for likeness in likenesses]
    return round(fmean(percentages), 2) if percentages else None


def _swapped(likeness: Likeness) -> Likeness:
    assert likeness.compared is not None
    return replace(likeness, faces=likeness.faces[::-1], compared=likeness.compared[::-1])
