"""Encoded pictures by their key in the object store, for stages that look at stored assets.

By key the bytes cross neither the gateway nor the line between it and the stage.
"""

from configs.settings import settings
from stores.documents import StoreError
from stores.objects import ObjectNotFound
from stores.open import open_objects
from vision.errors import MediaNotFound, StageUnavailable


class StoredPictures:
    """Reads from the object store that the settings name."""

    def __init__(self) -> None:
        self._objects = open_objects(settings().objects)

    def encoded(self, item: str | bytes) -> bytes:
        """The bytes under a key; bytes are given back as they are. Raises MediaNotFound and StageUnavailable."""
        if isinstance(item, bytes):
            return item
        try:
            return self._objects.read(item)
        except ObjectNotFound:
            raise MediaNotFound("This picture is not in the object store any more; upload it again.") from None
        except StoreError as error:
            raise StageUnavailable("The object store does not answer; try again soon.") from error
