"""Features of assets on demand: from the cache, the document store or the embedding stage, in this order."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from deployments.embed.dinov3 import DINOV3
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.per_asset import PerAsset
from graphs.web.uploads.library import Library
from stores.cache import Cache, features_key
from stores.records import Asset, Features
from vision.errors import InvalidMedia, MediaNotFound, ModelNotLoaded, StageError, StageUnavailable

INFO_TTL_S: Final = 15.0
_HEADER: Final = np.dtype([("created_at", "<f8"), ("kind", "S5"), ("dimensions", "<u2")])


class FeatureSource:
    """Get the features of any number of assets, computing those of each at most once at a time in this process."""

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._stage = context.stage(DINOV3)
        # A keyed read of an embedded document store is cheaper than a round trip to the cache.
        self._cache = context.cache if context.documents.remote else Cache("")
        self._computed = PerAsset(self._compute)
        self._info: dict[str, Any] = {}
        self._info_at = 0.0

    async def model(self) -> dict[str, Any]:
        """Return ``info`` of the embedding stage, up to ``INFO_TTL_S`` old, or older while the stage does not answer.

        One that is loading for the first time is waited for. Raises StageUnavailable when that takes longer than the
        request may, and when the stage has never answered.
        """
        if time.monotonic() - self._info_at > INFO_TTL_S:
            try:
                info = await (self._stage.info(5.0) if self._info else self._stage.loaded_info())
                self._info = self._info if info.get("loading") else info
            except StageError:
                if not self._info:
                    raise
            self._info_at = time.monotonic()
        return self._info

    async def model_version(self) -> str:
        """Return the version of the model that serves now; empty when none is loaded."""
        return str((await self.model()).get("model_version", ""))

    async def ready_model(self) -> dict[str, Any]:
        """Return ``model()`` of a loaded model. Raises ModelNotLoaded with the reason of the stage."""
        model = await self.model()
        if not model.get("loaded"):
            raise ModelNotLoaded(str(model.get("error", "The embedding model is not loaded.")))
        return model

    async def one(self, asset: Asset) -> tuple[Features, bool]:
        """Return (features, whether they were stored already). Raises the StageError of this asset."""
        stored = await self._stored([asset.asset_id])
        if asset.asset_id in stored:
            return stored[asset.asset_id], True
        return await self._computed.one(asset), False

    async def many(self, assets: Iterable[Asset]) -> tuple[dict[str, Features], dict[str, StageError]]:
        """Return features by asset id, all of one model, and the error of each asset whose picture cannot be used.

        Errors that may go away by themselves, of the stage or a store, are raised, and so is ModelNotLoaded.
        """
        wanted = {asset.asset_id: asset for asset in assets}
        for _ in range(2):
            features, failures = await self._of_any_model(wanted)
            if len({f.model_version for f in features.values()}) < 2:
                return features, failures
            self._info_at = 0.0  # the model was changed in between
        raise StageUnavailable("The embedding model is being changed; try again in a few seconds.")

    async def against(
        self, reference: Asset, others: Iterable[Asset]
    ) -> tuple[Features, dict[str, Features], dict[str, StageError]]:
        """Return the features of a reference, then those of others and their errors as ``many`` does; all of one model.

        Raises the StageError of the reference.
        """
        wanted = {asset.asset_id: asset for asset in others}
        features, failures = await self.many([reference, *wanted.values()])
        if reference.asset_id in failures:
            raise failures[reference.asset_id]
        return (
            features[reference.asset_id],
            {key: features[key] for key in wanted if key in features},
            failures,
        )

    async def _of_any_model(self, wanted: dict[str, Asset]) -> tuple[dict[str, Features], dict[str, StageError]]:
        features = await self._stored(list(wanted))
        missing = [asset for asset_id, asset in wanted.items() if asset_id not in features]
        computed, failures = await self._computed.many(missing)
        return features | computed, failures

    async def stored(self, asset_id: str) -> Features | None:
        """Return stored features of the model that serves now; None when they were not computed yet."""
        return (await self._stored([asset_id])).get(asset_id)

    async def forget(self, asset_id: str) -> tuple[str, int]:
        """Remove the cached features of an asset whose record was deleted.

        Return the version of the model and how many entries were removed. While none is loaded the version is empty,
        and nothing is removed.
        """
        model = self._info or await self._stage.info()
        version = str(model.get("model_version", ""))
        if not version:
            return "", 0
        keys = [features_key(version, asset_id)]
        cached = sum(each is not None for each in await self._cache.get_many(keys))
        return version, cached if await self._cache.delete(keys) else 0

    async def _stored(self, asset_ids: list[str]) -> dict[str, Features]:
        version = await self.model_version()
        if not version:
            return {}
        keys = [features_key(version, asset_id) for asset_id in asset_ids]
        cached = await self._cache.get_many(keys)
        features = {
            asset_id: _unpack(asset_id, version, value)
            for asset_id, value in zip(asset_ids, cached, strict=True)
            if value is not None
        }
        uncached = [asset_id for asset_id in asset_ids if asset_id not in features]
        lookups = self._context.lookups
        lookups["features", "cache"] += len(features)
        if uncached:
            stored = await self._context.documents.get_features(version, uncached)
            if stored:
                await self._remember(stored.values())
            features |= stored
            lookups["features", "store"] += len(stored)
            lookups["features", "miss"] += len(uncached) - len(stored)
        return features

    async def _compute(self, asset: Asset) -> Features:
        try:
            embedding = await self._stage(self._library.picture_key(asset))
        except MediaNotFound:
            raise AssetNotFound([asset.asset_id]) from None
        except InvalidMedia as error:
            await self._context.documents.set_asset_error(asset.asset_id, error.message)
            raise
        features = Features(
            asset_id=asset.asset_id,
            model_version=embedding.model_version,
            kind=asset.kind,
            raw=embedding.raw,
            unit=embedding.unit,
            created_at=datetime.now(UTC),
        )
        if not await self._context.documents.put_features(features):
            raise AssetNotFound([asset.asset_id])
        return features

    async def _remember(self, features: Iterable[Features]) -> None:
        packed = {features_key(f.model_version, f.asset_id): _pack(f) for f in features}
        await self._cache.set_many(packed, self._context.settings.feature_cache_ttl_s)


def _pack(features: Features) -> bytes:
    header = np.array([(features.created_at.timestamp(), features.kind.encode(), len(features.raw))], _HEADER)
    return header.tobytes() + features.raw.tobytes() + features.unit.tobytes()


def _unpack(asset_id: str, model_version: str, data: bytes) -> Features:
    header = np.frombuffer(data, _HEADER, 1)[0]
    # Copied: a view behind the header would not be aligned, and LanceDB panics on it.
    vectors = np.frombuffer(data, "<f4", offset=_HEADER.itemsize).copy()
    dimensions = int(header["dimensions"])
    return Features(
        asset_id=asset_id,
        model_version=model_version,
        kind=header["kind"].decode(),
        raw=vectors[:dimensions],
        unit=vectors[dimensions:],
        created_at=datetime.fromtimestamp(float(header["created_at"]), UTC),
    )
