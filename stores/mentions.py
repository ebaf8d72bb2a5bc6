"""A search of all stores for an id, which proves that nothing is left of what was deleted.

It looks at everything there is: every text and number of every record, every key of an object, vector or cache. So it
finds what no code knows any more, and takes as long as reading all of it.
"""

from collections.abc import Mapping
from typing import Final

from stores.open import Stores

TRAIL: Final = "audit"
"""The audit trail, where the id of what was deleted stays on purpose until its time is over."""


async def mentions(stores: Stores, text: str) -> Mapping[str, int]:
    """Return how many records, objects, vectors and entries of the cache name a text, by place; none has no entry.

    Raises StoreError, ValueError for a text that is too short to mean one thing.
    """
    if len(text) < 4:
        raise ValueError("an id has four characters or more")
    found = {f"documents: {name}": count for name, count in (await stores.mentions(text)).items()}
    found["objects"] = sum([text in info.key async for info in stores.objects.list()])
    found["vectors"] = sum([text in each async for each in stores.vectors.ids()])
    found["cache"] = await stores.cache.mentions(text)
    return {place: count for place, count in found.items() if count}
