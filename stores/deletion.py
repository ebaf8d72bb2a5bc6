"""Deleting an asset with all that is derived from it, in every store; the one place that knows what that is.

A delete begins where the last upload of an asset is withdrawn, which flags its record. It removes what is derived from
the asset, then its bytes, and the record last. So one that was interrupted leaves a flagged record, and is finished by
the next upload of the same bytes or by ``stores.repair``.
The cache and the vector store follow the documents: the gateway tells both, and ``stores.repair`` finds what they
missed.
"""

from stores import derived
from stores.open import Stores


async def delete_asset(stores: Stores, asset_id: str) -> bool:
    """Remove an asset that is flagged as being deleted, and all that is derived from it.

    Return True if its bytes were there, False also if somebody else finished the delete.
    """
    await delete_derived(stores, asset_id)
    # That may have taken long, and the same bytes may have been uploaded again since.
    record = (await stores.documents.get_assets([asset_id])).get(asset_id)
    if record is None or not record.deleting:
        return False
    existed = await stores.objects.delete(asset_id)
    await stores.objects.delete(derived.poster_key(asset_id))
    await stores.documents.delete_asset(asset_id)
    return existed


async def delete_derived(stores: Stores, asset_id: str) -> None:
    """Remove jobs, face traces, shots and derived objects of an asset, but not its record, bytes and poster."""
    await stores.jobs.forget(asset_id)
    await stores.people.delete_index(asset_id)
    await stores.shots.delete_video(asset_id)
    for prefix in (derived.parts(asset_id), derived.folder(asset_id)):
        await derived.remove(stores.objects, prefix)
