"""The document store: assets, features, faces and configuration, behind one protocol with two backends.

``sqlite:///file`` is embedded; ``mongodb://…`` serves many machines. ``open_documents`` picks by URL.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from stores.records import Asset, Features, PictureFaces


class StoreError(Exception):
    """A store cannot be reached or refused the operation; the message names the store, never its secrets."""


class Documents(Protocol):
    """Domain operations of the document store; every write that returned is durable."""

    type: str
    """Backend name for health answers: ``sqlite`` or ``mongodb``."""
    remote: bool
    """Whether a keyed read goes over a network, so that a cache before it pays."""

    async def insert_asset(self, asset: Asset) -> bool:
        """Store a new asset; False, changing nothing, when the id is known already."""
        ...

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """The known ones among the ids, those being deleted included."""
        ...

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        """Assets in id order, starting behind ``after``."""
        ...

    async def mark_deleting(self, asset_id: str) -> bool:
        """Flag an asset as being deleted; False when the id is unknown."""
        ...

    async def delete_asset(self, asset_id: str) -> bool:
        """Remove an asset, its features and its faces; False when the id is unknown."""
        ...

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        """Remember why processing of an asset failed; None clears it."""
        ...

    async def put_features(self, features: Features) -> bool:
        """Store features, replacing those of the same asset and model, and mark them as not yet indexed.

        False, changing nothing, when the asset is unknown or being deleted. Clears the asset's error.
        """
        ...

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        """The stored features of one model among the ids."""
        ...

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        """Features of one model that the vector store has not taken yet, oldest first."""
        ...

    async def unindexed_models(self) -> list[str]:
        """Model versions with features that the vector store has not taken yet."""
        ...

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        """Note that the vector store holds exactly these features (same ``created_at``)."""
        ...

    async def mark_unindexed(self, model_version: str) -> None:
        """Have every feature of one model indexed again, after the vector store was lost."""
        ...

    async def put_faces(self, faces: PictureFaces) -> bool:
        """Store the faces of an asset, replacing those of the same asset and models.

        False, changing nothing, when the asset is unknown or being deleted. Clears the asset's error.
        """
        ...

    async def get_faces(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, PictureFaces]:
        """The stored faces of one pair of models among the ids; an asset without faces is among them too."""
        ...

    async def get_config(self) -> dict[str, float]:
        """All configuration values that were ever set."""
        ...

    async def set_config(self, values: Mapping[str, float]) -> None:
        """Set configuration values, seen at once by every reader."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def close(self) -> None: ...
