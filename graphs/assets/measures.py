"""What the quality stages measure of an asset's picture; of a video's poster."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deployments.people.faces import FACES
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.composition import COMPOSITION
from deployments.quality.exposure import EXPOSURE
from deployments.quality.nima import NIMA
from graphs.assets.scores import quality_score, sharpness_score
from graphs.web.context import Context, task_group
from graphs.web.images import DecodedImage, ImageDecoder
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import ModelNotLoaded, StageError
from vision.quality.composition import Composition
from vision.quality.exposure import Lighting

ASSETS_AT_ONCE: Final = 4
"""Pictures of one batch at hand: half of what the gateway holds for all requests."""


@dataclass(frozen=True, slots=True)
class Quality:
    """``technical`` 1-10; ``brisque`` 0-100, lower is better; ``sharpness`` and ``score`` 0-1."""

    technical: float
    brisque: float
    sharpness: float

    @property
    def score(self) -> float:
        """The quality score of the asset API."""
        return quality_score(self.technical, self.brisque, self.sharpness)


@dataclass(frozen=True, slots=True)
class Framing:
    """A picture's composition, its size in pixels and how many faces it has."""

    composition: Composition
    width: int
    height: int
    faces: int


class Measures:
    """Runs the quality stages on assets; each asset is read and decoded once a call."""

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._pictures = ImageDecoder(context.settings.max_image_pixels)

    async def quality(self, asset: Asset) -> Quality:
        """Raises the StageError of this asset."""
        async with self._pictures.decoded(await self._library.picture(asset)) as picture:
            return await self._quality(picture)

    async def framing(self, asset: Asset) -> Framing:
        """Raises the StageError of this asset."""
        async with self._pictures.decoded(await self._library.picture(asset)) as picture:
            return await self._framing(picture)

    async def everything(self, asset: Asset) -> tuple[Quality, Lighting, Framing]:
        """Raises the StageError of this asset."""
        async with self._pictures.decoded(await self._library.picture(asset)) as picture:
            async with task_group() as group:
                quality = group.create_task(self._quality(picture))
                lighting = group.create_task(self._context.stage(EXPOSURE)(picture.image))
                framing = group.create_task(self._framing(picture))
            return quality.result(), lighting.result(), framing.result()

    async def qualities(self, assets: Iterable[Asset]) -> tuple[dict[str, Quality], dict[str, StageError]]:
        """Quality by asset id, and the error of each asset that has none.

        Errors of a stage or a store, which pass by themselves, are raised.
        """
        found: dict[str, Quality] = {}
        failures: dict[str, StageError] = {}

        room = asyncio.Semaphore(ASSETS_AT_ONCE)

        async def one(asset: Asset) -> None:
            async with room:
                try:
                    found[asset.asset_id] = await self.quality(asset)
                except StageError as error:
                    if error.retryable or isinstance(error, ModelNotLoaded):
                        raise
                    failures[asset.asset_id] = error

        async with task_group() as group:
            for asset in assets:
                group.create_task(one(asset))
        return found, failures

    async def _quality(self, picture: DecodedImage) -> Quality:
        async with task_group() as group:
            blur = group.create_task(self._context.stage(BLUR)(picture.image))
            brisque = group.create_task(self._context.stage(BRISQUE)(picture.image))
            nima = group.create_task(self._context.stage(NIMA)(picture.image))
        sharpness, distortion, ratings = blur.result(), brisque.result(), nima.result()
        if ratings.technical is None:
            raise ModelNotLoaded(f"{NIMA.key} has no technical weights, so there is no quality score.")
        return Quality(
            technical=round(ratings.technical.mean, 4),
            brisque=round(distortion.score, 4),
            sharpness=sharpness_score(sharpness.laplacian_variance, sharpness.threshold),
        )

    async def _framing(self, picture: DecodedImage) -> Framing:
        faces = await self._context.stage(FACES)(picture.image)
        composition = await self._context.stage(COMPOSITION)((picture.image, faces))
        return Framing(composition, picture.width, picture.height, len(faces))
