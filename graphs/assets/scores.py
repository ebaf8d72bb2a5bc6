"""Quality and composition of assets: what the quality stages measure, and the scores that are formed of it.

Scores are 0-1, higher is better, and rise with each of their parts. A video is judged by its poster.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from deployments.people.faces import FACES
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.composition import COMPOSITION
from deployments.quality.exposure import EXPOSURE
from deployments.quality.nima import NIMA
from graphs.web.context import Context, task_group
from graphs.web.images import DecodedImage, ImageDecoder
from graphs.web.parts import OptionalParts
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import StageError
from vision.quality.composition import Composition
from vision.quality.content import Content
from vision.quality.exposure import Lighting

ScorePart = Literal["nima", "brisque", "sharpness"]

ASSETS_AT_ONCE: Final = 4
"""Pictures of one batch in memory at once: half of what the gateway holds for all requests."""
QUALITY_WEIGHTS: Final = {"technical": 0.5, "undistorted": 0.3, "sharpness": 0.2}
OVERALL_WEIGHTS: Final = {"quality": 0.6, "lighting": 0.2, "composition": 0.2}

_RISING: Final = {"range": [0, 1], "direction": "higher is better"}
EXPLAINED: Final[dict[str, dict[str, object]]] = {
    "quality_score": {
        "formula": "0.5·(NIMA technical mean − 1)/9 + 0.3·(1 − BRISQUE/100) + 0.2·sharpness_score; without NIMA or "
        "BRISQUE the weights of the others are scaled to add up to 1, without both there is no score",
        "stages": ["quality/nima", "quality/brisque", "quality/blur"],
        **_RISING,
    },
    "sharpness_score": {
        "formula": "v/(v + t): v the variance of the Laplacian, t the blur threshold, so 0.5 at the threshold",
        "stages": ["quality/blur"],
        **_RISING,
    },
    "lighting_quality": {"formula": "score of the stage", "stages": ["quality/exposure"], **_RISING},
    "composition_score": {"formula": "score of the stage", "stages": ["quality/composition"], **_RISING},
    "overall_quality": {
        "formula": "0.6·quality_score + 0.2·lighting_quality + 0.2·composition_score",
        "stages": ["quality/nima", "quality/brisque", "quality/blur", "quality/exposure", "quality/composition"],
        **_RISING,
    },
    "diversity_score": {
        "formula": "exp(H)/n: H the entropy of the shares x²/Σx² of the n raw DINOv3 features x",
        "stages": ["embed/dinov3"],
        "range": [0, 1],
        "direction": "none: the share of the dimensions that carry the features, no verdict on the picture",
    },
    "dinov3_quality": {
        "formula": "diversity_score",
        "stages": ["embed/dinov3"],
        "range": [0, 1],
        "direction": "none: diversity_score under the name that older clients read",
    },
}
"""What ``/model-info`` says about these scores."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Technical quality: ``technical`` 1-10; ``brisque`` 0-100, lower is better, by the version ``brisque_model``;
    ``sharpness`` and ``score`` 0-1. What a missing model would have measured is None. ``outside``: why BRISQUE may
    misjudge the picture."""

    technical: float | None
    brisque: float | None
    brisque_model: str | None
    sharpness: float
    outside: tuple[Content, ...] = ()

    @property
    def score(self) -> float | None:
        """Return the quality score of the asset API, of the parts that are there; None for sharpness alone."""
        return quality_score(self.technical, self.brisque, self.sharpness)

    @property
    def confidence(self) -> float | None:
        """Return how far the parts of the score agree, times the share of its weights that can be relied on, 0-1.

        Parts agree by 1 less the largest minus the smallest of them; BRISQUE is not relied on outside of what it was
        made for. None without a score.
        """
        parts = _parts(self.technical, self.brisque, self.sharpness)
        if len(parts) == 1:
            return None
        relied_on = sum(weight for name, weight in QUALITY_WEIGHTS.items() if name in parts)
        if self.outside and "undistorted" in parts:
            relied_on -= QUALITY_WEIGHTS["undistorted"]
        return round((1 - max(parts.values()) + min(parts.values())) * relied_on, 4)

    @property
    def based_on(self) -> list[ScorePart] | None:
        """Return the parts of the score; None where all are there."""
        measured: dict[ScorePart, float | None] = {"nima": self.technical, "brisque": self.brisque}
        there: list[ScorePart] = [name for name, value in measured.items() if value is not None]
        return None if len(there) == len(measured) else [*there, "sharpness"] if there else []


@dataclass(frozen=True, slots=True)
class Framing:
    """The composition of a picture, its size in pixels and its number of faces; None where nobody could look."""

    composition: Composition
    width: int
    height: int
    faces: int | None


class Measures:
    """Runs the quality stages on assets, reading and decoding each once per call.

    What a missing model would have measured is None, and named in the ``parts`` of the response.
    """

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._pictures = ImageDecoder(context.settings.max_image_pixels)

    async def quality(self, asset: Asset, parts: OptionalParts) -> Quality:
        """Measure technical quality. Raises the StageError of this asset."""
        async with self._pictures.decoded(await self._library.picture(asset)) as picture:
            return await self._quality(picture, parts)

    async def framing(self, asset: Asset, parts: OptionalParts) -> Framing:
        """Measure composition. Raises the StageError of this asset."""
        async with self._pictures.decoded(await self._library.picture(asset)) as picture:
            return await self._framing(picture, parts)

    async def everything(self, asset: Asset, parts: OptionalParts) -> tuple[Quality, Lighting, Framing]:
        """Measure quality, lighting and composition. Raises the StageError of this asset."""
        async with self._pictures.decoded(await self._library.picture(asset)) as picture:
            async with task_group() as group:
                quality = group.create_task(self._quality(picture, parts))
                lighting = group.create_task(self._context.stage(EXPOSURE)(picture.image))
                framing = group.create_task(self._framing(picture, parts))
            return quality.result(), lighting.result(), framing.result()

    async def qualities(
        self, assets: Iterable[Asset], parts: OptionalParts
    ) -> tuple[dict[str, Quality], dict[str, StageError]]:
        """Return quality by asset id, and the error of each asset whose picture cannot be used.

        Errors that may go away by themselves, of a stage or a store, are raised.
        """
        qualities: dict[str, Quality] = {}
        failures: dict[str, StageError] = {}
        slots = asyncio.Semaphore(ASSETS_AT_ONCE)

        async def one(asset: Asset) -> None:
            async with slots:
                try:
                    qualities[asset.asset_id] = await self.quality(asset, parts)
                except StageError as error:
                    if not error.concerns_input:
                        raise
                    failures[asset.asset_id] = error

        async with task_group() as group:
            for asset in assets:
                group.create_task(one(asset))
        return qualities, failures

    async def _quality(self, picture: DecodedImage, parts: OptionalParts) -> Quality:
        async with task_group() as group:
            blur = group.create_task(self._context.stage(BLUR)(picture.image))
            brisque = group.create_task(parts.of("quality.brisque", self._context.stage(BRISQUE)(picture.image)))
            nima = group.create_task(parts.of("quality.nima", self._technical(picture)))
        sharpness, distortion = blur.result(), brisque.result()
        return Quality(
            technical=nima.result(),
            brisque=None if distortion is None else round(distortion.score, 4),
            brisque_model=None if distortion is None else distortion.model_version,
            outside=() if distortion is None else distortion.outside,
            sharpness=sharpness_score(sharpness.laplacian_variance, sharpness.threshold),
        )

    async def _technical(self, picture: DecodedImage) -> float:
        return round((await self._context.stage(NIMA)(picture.image)).of("technical").mean, 4)

    async def _framing(self, picture: DecodedImage, parts: OptionalParts) -> Framing:
        faces = await parts.of("faces", self._context.stage(FACES)(picture.image))
        composition = await self._context.stage(COMPOSITION)((picture.image, faces or ()))
        return Framing(composition, picture.width, picture.height, None if faces is None else len(faces))


def sharpness_score(laplacian_variance: float, threshold: float) -> float:
    """Return 0-1 for a variance ≥ 0; 0.5 at the threshold below which a picture is called blurry."""
    return round(laplacian_variance / (laplacian_variance + threshold), 4) if laplacian_variance else 0.0


def quality_score(technical: float | None, brisque: float | None, sharpness: float) -> float | None:
    """Return 0-1 for NIMA's technical mean (1-10), BRISQUE (0-100, lower is better) and ``sharpness_score``.

    Without one of the first two the weights of the others are scaled to add up to 1; without both there is no score.
    """
    if technical is None and brisque is None:
        return None
    return _weighted(_parts(technical, brisque, sharpness), QUALITY_WEIGHTS)


def _parts(technical: float | None, brisque: float | None, sharpness: float) -> dict[str, float]:
    """Return the parts of the quality score that are there, 0-1 each, by the names of their weights."""
    parts = {"sharpness": sharpness}
    if technical is not None:
        parts["technical"] = (technical - 1) / 9
    if brisque is not None:
        parts["undistorted"] = 1 - brisque / 100
    return parts


def overall_quality(quality: float | None, lighting: float, composition: float) -> float | None:
    """Return 0-1 for three scores of 0-1; None without the first, which counts most."""
    if quality is None:
        return None
    return _weighted({"quality": quality, "lighting": lighting, "composition": composition}, OVERALL_WEIGHTS)


def diversity_score(features: NDArray[np.float32]) -> float:
    """Return 1/n when one feature has all the energy, 1 when all n have the same, 0 for a vector of zeros."""
    energy = features.astype(np.float64) ** 2
    total = energy.sum()
    if total == 0:
        return 0.0
    shares = energy[energy > 0] / total
    return round(float(np.exp(-(shares * np.log(shares)).sum()) / len(features)), 4)


def feature_statistics(features: NDArray[np.float32]) -> dict[str, float]:
    """Return mean, standard deviation (of the population), largest and smallest of raw features."""
    wide = features.astype(np.float64)
    values = {"mean": wide.mean(), "std": wide.std(), "max": wide.max(), "min": wide.min()}
    return {name: round(float(value), 6) for name, value in values.items()}


def batch_statistics(qualities: Sequence[float]) -> dict[str, float] | None:
    """Return mean, standard deviation (of the population), extremes and median of scores; None without scores."""
    if not qualities:
        return None
    values = {
        "mean_quality": fmean(qualities),
        "std_quality": pstdev(qualities),
        "min_quality": min(qualities),
        "max_quality": max(qualities),
        "median_quality": median(qualities),
    }
    return {name: round(value, 4) for name, value in values.items()}


def _weighted(parts: dict[str, float], weights: dict[str, float]) -> float:
    total = sum(weights[name] for name in weights if name in parts)
    return round(sum(weights[name] * parts[name] for name in weights if name in parts) / total, 4)
