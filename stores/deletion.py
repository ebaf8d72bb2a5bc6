"""Deleting an asset with all that is derived from it, in every store; the one place that knows what that is.

A delete flags the record, removes what is derived from the asset, then its bytes, and the record last. So one that was
interrupted leaves a flagged record, and is finished by the next upload of the same bytes or by ``stores.repair``.
The cache and the vector store follow the documents: the gateway tells both, and ``stores.repair`` finds what they
missed.
"""

from stores import derived
from stores.open import Stores


async def delete_asset(stores: Stores, asset_id: str) -> bool:
    """Remove an asset, known or half deleted, and all that is derived from it; True if its bytes were there."""
    await stores.documents.mark_deleting(asset_id)
    await delete_derived(stores, asset_id)
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
