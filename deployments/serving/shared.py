"""A decoded image that several stages of one request look at, decoded once and copied once.

Between processes it lies in Ray's object store, where every stage of a machine reads the same memory; inside one
process it is the array itself. Either way it is read-only.
"""

import asyncio
from typing import Any, TypeAlias

import ray
from ray import ObjectRef
from ray.exceptions import ObjectStoreFullError, OutOfDiskError

from vision.errors import StageOverloaded
from vision.images import Pixels

SharedImage: TypeAlias = ObjectRef | Pixels
"""What a stage handle takes for an image: as the whole item, or as a part of a tuple."""


async def share(image: Pixels) -> SharedImage:
    """Make an image ready for handles; it is freed when nobody holds the result any more. Raises StageOverloaded."""
    if not ray.is_initialized():
        image.flags.writeable = False
        return image
    try:
        return await asyncio.to_thread(ray.put, image)
    except (ObjectStoreFullError, OutOfDiskError):
        raise StageOverloaded("Too many large pictures are being looked at; try again in a few seconds.") from None


async def resolved(item: Any) -> Any:
    """An item as its stage takes it: every shared image replaced by its pixels."""
    if isinstance(item, ObjectRef):
        return await item
    if isinstance(item, tuple) and any(isinstance(part, ObjectRef) for part in item):
        return tuple([await part if isinstance(part, ObjectRef) else part for part in item])
    return item
