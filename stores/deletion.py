"""Deleting an asset with all that is derived from it, in every store; the one place that knows what that is.

A delete begins where the last upload of an asset is withdrawn, which flags its record. It removes what is derived from
the asset, then its bytes, and the record last. So one that was interrupted leaves a flagged record, and is finished by
the next upload of the same bytes or by ``stores.repair``.
The cache and the vector store follow the documents: the gateway tells both, and ``stores.repair`` finds what they
missed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from stores import derived
from stores.open import Stores


@dataclass(slots=True)
class Removed:
    """What a delete removed, by store: objects, records of documents (those of people and shots too), jobs, vectors,
    and entries of the cache.
    """

    objects: int = 0
    documents: int = 0
    jobs: int = 0
    vectors: int = 0
    cache: int = 0

    def counts(self) -> Mapping[str, int]:
        """Return the counts by store."""
        return asdict(self)


async def delete_asset(stores: Stores, asset_id: str, removed: Removed | None = None) -> bool:
    """Remove an asset that is flagged as being deleted, and all that is derived from it.

    Return True if its bytes were there, False also if somebody else finished the delete. ``removed`` is added to.
    """
    counts = removed or Removed()
    await delete_derived(stores, asset_id, counts)
    # That may have taken long, and the same bytes may have been uploaded again since.
    record = (await stores.documents.get_assets([asset_id])).get(asset_id)
    if record is None or not record.deleting:
        return False
    existed = await stores.objects.delete(asset_id)
    counts.objects += existed + await stores.objects.delete(derived.poster_key(asset_id))
    counts.documents += await stores.documents.delete_asset(asset_id)
    return existed


async def delete_derived(stores: Stores, asset_id: str, removed: Removed | None = None) -> None:
    """Remove jobs with what tells of them, face traces, shots and derived objects of an asset.

    Its record, bytes and poster stay. Nothing else names it then: no identity as a photo of it, no upload in parts as
    what became of it.
    """
    counts = removed or Removed()
    counts.jobs += await stores.jobs.forget(asset_id)
    counts.jobs += await stores.deliveries.forget(asset_id)  # what they say of those jobs
    counts.documents += await stores.people.delete_index(asset_id)
    counts.documents += await stores.people.forget_reference(asset_id)
    counts.documents += await stores.shots.delete_video(asset_id)
    counts.documents += await stores.partial_uploads.forget_asset(asset_id)
    for prefix in (derived.parts(asset_id), derived.folder(asset_id)):
        counts.objects += await derived.remove(stores.objects, prefix)
