"""The document store: assets, uploads, what was computed of them, and configuration, behind one protocol.

``sqlite:///file`` is embedded; ``mongodb://…`` serves many machines.
"""

from collections.abc import AsyncIterator, Collection, Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from stores.records import Asset, ClassCount, Features, PictureFaces, PictureObjects, Vector
from stores.uploads import ANYONE, Addition, Upload, Withdrawal
from vision.media.sniff import MediaKind
from vision.objects.tags import Tag


class Documents(Protocol):
    """Assets and what was computed of them; every write that returned is durable."""

    type: str
    """Backend name for health answers: ``sqlite`` or ``mongodb``."""
    remote: bool
    """Whether a keyed read goes over a network, so that a cache before it pays."""

    async def insert_asset(self, asset: Asset, owner: str = ANYONE) -> bool:
        """Store a new asset, uploaded by ``owner``; False, changing nothing, if the id is known already."""
        ...

    async def add_upload(self, asset_id: str, upload: Upload) -> Addition:
        """Store a client's upload of a known asset, unless it has one; "" if it is unknown or being deleted."""
        ...

    async def add_label(self, asset_id: str, label: str) -> bool:
        """Label an asset; False if it is unknown or being deleted."""
        ...

    async def labelled(self, asset_ids: Iterable[str], labels: Iterable[str]) -> set[str]:
        """Return those of these assets that have one of these labels."""
        ...

    async def withdraw(self, asset_id: str, owner: str, clients: Container[str]) -> Withdrawal:
        """Remove the uploads that a client may delete, see ``stores.uploads``, in one step.

        The last ones stay, and the asset is flagged as being deleted instead.
        """
        ...

    async def uploaded_by(self, owner: str) -> tuple[int, int]:
        """Return how many assets an owner has uploads of, and their bytes together; not those being deleted."""
        ...

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Return the known assets among the ids, those being deleted included."""
        ...

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        """Return assets in id order, starting behind ``after``."""
        ...

    async def newest_assets(
        self,
        kind: MediaKind | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 1000,
        among: Collection[str] | None = None,
    ) -> list[Asset]:
        """Return assets, those being deleted left out, by their latest upload and then their id, last ones first.

        ``kind`` leaves others out, and so do the ids ``among``. ``before`` is the latest upload and the id of the last
        asset of the page before.
        """
        ...

    async def old_assets(self, before: datetime, after: str = "", limit: int = 1000) -> list[Asset]:
        """Return assets whose latest upload is before a moment, those being deleted too, in id order from ``after``."""
        ...

    async def expire_asset(self, asset_id: str, before: datetime) -> bool:
        """Flag an asset as being deleted if its latest upload is before a moment; True also if it was flagged before.

        False if it is unknown, or there is a later upload.
        """
        ...

    async def count_assets(self) -> dict[MediaKind, int]:
        """Return how many assets of each kind there are, those being deleted left out."""
        ...

    async def hidden_from(self, owner: str) -> set[str]:
        """Return assets that a client does not see: those being deleted, and those of others that it has withdrawn."""
        ...

    async def mark_deleting(self, asset_id: str) -> bool:
        """Flag an asset as being deleted; False if the id is unknown."""
        ...

    async def delete_asset(self, asset_id: str) -> int:
        """Remove an asset, its features, faces and objects; return how many records there were, 0 for an unknown id."""
        ...

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        """Set why processing of an asset failed; None clears it."""
        ...

    async def put_features(self, features: Features) -> bool:
        """Store features, replacing those of the same asset and model, and mark them as not yet indexed.

        Return False, changing nothing, if the asset is unknown or being deleted. Clears the asset's error.
        """
        ...

    async def without_features(self, model_version: str, limit: int) -> list[Asset]:
        """Return assets with a picture that have no features of one model yet, in any order.

        Those being deleted are left out, and those whose ``error_message`` says that they cannot be processed.
        """
        ...

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        """Return the stored features of one model, by asset id."""
        ...

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        """Return features of one model that the vector store does not have yet, oldest first."""
        ...

    async def unindexed_models(self) -> list[str]:
        """Return model versions with features that the vector store does not have yet."""
        ...

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        """Record that the vector store has exactly these features (same ``created_at``)."""
        ...

    async def mark_unindexed(self, model_version: str) -> None:
        """Record that the vector store has no features of one model, after it was lost."""
        ...

    async def put_faces(self, faces: PictureFaces) -> bool:
        """Store the faces of an asset, replacing those of the same asset and models.

        Return False, changing nothing, if the asset is unknown or being deleted. Clears the asset's error.
        """
        ...

    async def get_faces(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, PictureFaces]:
        """Return the stored faces of one pair of models, by asset id; an asset without faces has an empty record."""
        ...

    async def without_faces(self, model_version: str, limit: int, since: datetime | None = None) -> list[Asset]:
        """Return pictures whose faces one pair of models never looked for, as ``without_features`` does.

        ``since`` leaves out those whose latest upload is earlier.
        """
        ...

    def face_vectors(
        self, model_version: str, among: Collection[str] | None = None
    ) -> AsyncIterator[tuple[list[str], Vector]]:
        """Yield the faces that one pair of models found, some thousand at a time.

        The asset id of each face, and float32[n, d], a row for each. ``among``: of these assets alone.
        """
        ...

    async def put_objects(self, objects: PictureObjects) -> bool:
        """Store the objects of an asset, replacing those that any model found before.

        Return False, changing nothing, if the asset is unknown or being deleted. Clears the asset's error.
        """
        ...

    async def get_objects(self, asset_ids: Iterable[str]) -> dict[str, PictureObjects]:
        """Return the stored objects, by asset id; an asset without any has an empty record."""
        ...

    async def picture_tags(self, asset_ids: Iterable[str]) -> dict[str, tuple[Tag, ...]]:
        """Return the classes of objects in pictures, surest first; of those where objects were looked for."""
        ...

    async def without_objects(self, model_version: str, limit: int, since: datetime | None = None) -> list[Asset]:
        """Return pictures whose objects one model never looked for, as ``without_faces`` does; videos are left out."""
        ...

    async def pictures_with(self, labels: Sequence[str], least: float = 0.0) -> set[str]:
        """Return pictures that have objects of all of these classes, one of each with at least this confidence."""
        ...

    async def count_classes(self, without: Collection[str] = ()) -> tuple[list[ClassCount], int]:
        """Return the classes of objects in pictures, by label, and how many pictures were looked at.

        ``without``: ids of assets that do not count.
        """
        ...

    async def get_config(self) -> dict[str, float]:
        """Return all configuration values that were ever set."""
        ...

    async def set_config(self, values: Mapping[str, float]) -> None:
        """Set configuration values, seen at once by every reader."""
        ...

    def owner_ids(self) -> AsyncIterator[str]:
        """Yield the ids of all assets with features, faces or objects, some perhaps twice."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def check_room(self) -> None:
        """Raise StoreFull or StoreReadOnly while nothing more can be stored; deletes may work."""
        ...
