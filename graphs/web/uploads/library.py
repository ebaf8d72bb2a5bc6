"""The asset library: what was uploaded, in the object store and the document store together.

An upload puts the object first and the record after it; a delete (``stores.deletion``) flags the record, removes the
object, then the record. So a crash leaves either an object without a record, which the next upload of the same bytes or
``visiongraph check --repair`` heals, or a flagged record, which both of them finish deleting. It never leaves a
record that was acknowledged without its bytes.

The same bytes of several clients are one asset with an upload of each (``stores.uploads``). A client adds its own and
withdraws its own; with the last one the asset is flagged in the same step, so an upload comes either before, and the
asset stays, or after, and waits until the delete has ended.
"""

import asyncio
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deployments.serving.handle import work_on
from deployments.serving.streams import in_time
from graphs.web.access import caller
from graphs.web.admission import Admission
from graphs.web.audit import note
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound, BatchTooLarge, StorageUnavailable, UploadOfOthers
from graphs.web.quotas import FORM_BYTES, within
from graphs.web.uploads.spool import Spooled, spool_upload
from stores.deletion import Removed, delete_asset
from stores.derived import poster_key
from stores.errors import disk_errors
from stores.objects import ObjectNotFound
from stores.records import Asset
from stores.uploads import Upload, Withdrawal
from vision.errors import InvalidInput, StageError
from vision.media.probe import Limits, Probe, probe
from vision.media.sniff import MediaKind

ID_LENGTH = 32
DELETE_GRACE_S = 2.0
"""How long an upload waits for a delete of the same bytes before it takes the delete for cut short, and finishes it."""
DELETE_POLL_S = 0.02
MAX_LABEL: Final = 64
LABEL: Final = re.compile(rf"[\w.-]{{1,{MAX_LABEL}}}", re.ASCII)
"""Of files, to which keys may be held."""


def asset_id_of(sha256_hex: str) -> str:
    """Return the id of the file with this hash."""
    return sha256_hex[:ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Removal:
    """What a delete removed: ``everything``, or one client's upload; ``had_bytes``: the file was there and is gone."""

    everything: bool
    had_bytes: bool
    removed: Removed


class Library:
    """Uploads, finds and deletes assets for the client of the request, or for anyone outside of requests."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits = Limits.of(context.settings)
        self._spool = context.settings.spool
        self._admission = Admission(
            "uploads", context.settings.max_uploads_at_once, context.settings.max_requests_at_once
        )

    async def get(self, asset_id: str) -> Asset:
        """Return one asset. Raises AssetNotFound."""
        return (await self.get_all([asset_id]))[asset_id]

    def batch(self, asset_ids: Iterable[str]) -> list[str]:
        """Return the distinct ids of a request's list, in its order. Raises BatchTooLarge above the limit."""
        wanted = list(dict.fromkeys(asset_ids))
        if len(wanted) > self._context.settings.max_batch_assets:
            raise BatchTooLarge(len(wanted), self._context.settings.max_batch_assets)
        return wanted

    async def get_all(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Return all of these assets, in that order. Raises AssetNotFound with all unknown ids."""
        wanted = list(dict.fromkeys(asset_ids))
        assets = await self.known(wanted)
        missing = [asset_id for asset_id in wanted if asset_id not in assets]
        if missing:
            raise AssetNotFound(missing)
        return {asset_id: assets[asset_id] for asset_id in wanted}

    async def find(self, asset_ids: Iterable[str]) -> tuple[dict[str, Asset], dict[str, StageError]]:
        """Return those of these assets that exist, in that order, and AssetNotFound by id for each of the others."""
        wanted = list(dict.fromkeys(asset_ids))
        assets = await self.known(wanted)
        unknown: dict[str, StageError] = {each: AssetNotFound([each]) for each in wanted if each not in assets}
        return {asset_id: assets[asset_id] for asset_id in wanted if asset_id in assets}, unknown

    async def find_with(
        self, reference_id: str, asset_ids: Iterable[str]
    ) -> tuple[Asset, dict[str, Asset], dict[str, StageError]]:
        """Return a reference, then the other assets as ``find`` does. Raises AssetNotFound for the reference alone."""
        others = list(dict.fromkeys(asset_ids))
        assets, unknown = await self.find([reference_id, *others])
        if reference_id in unknown:
            raise unknown[reference_id]
        return assets[reference_id], {each: assets[each] for each in others if each in assets}, unknown

    async def known(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Return those of these assets that exist, are not being deleted, and were not deleted by this client.

        What the request does from here on is done for them, so the log names them.
        """
        wanted, who = list(asset_ids), caller.get()
        work_on(*wanted)
        if who.labels:
            allowed = await self._context.documents.labelled(wanted, who.labels)
            wanted = [asset_id for asset_id in wanted if asset_id in allowed]
        if who.asset_id is not None:
            wanted = [asset_id for asset_id in wanted if asset_id == who.asset_id]
        assets, owner = await self._context.documents.get_assets(wanted), who.name
        seen = {asset_id: asset.seen_by(owner) for asset_id, asset in assets.items() if not asset.deleting}
        return {asset_id: asset for asset_id, asset in seen.items() if asset is not None}

    async def gone(self, asset_ids: Iterable[str]) -> list[str]:
        """Return those of these ids that no client has an asset of; others may only be hidden from this one."""
        wanted = list(asset_ids)
        assets = await self._context.documents.get_assets(wanted) if wanted else {}
        return [asset_id for asset_id in wanted if asset_id not in assets or assets[asset_id].deleting]

    async def upload(self, body: AsyncIterator[bytes], content_type: str, length: int = 0) -> tuple[Asset, bool]:
        """Store one multipart upload and return (asset, existed before). Durable when this returns.

        ``length``: of the body, where that is known. Raises StageOverloaded when the spool is full, or too many uploads
        that are here are being stored, and StorageQuotaExceeded.
        """
        room = await self._context.quotas.room(length - FORM_BYTES)
        limit = max(self._limits.max_image_bytes, self._limits.max_video_bytes, self._limits.max_audio_bytes)
        async with (
            spool_upload(within(body, room), content_type, self._context.spool, limit) as upload,
            self.admitted(),
        ):
            return await self.register(upload, label=checked_label(upload.fields.get("label", "")))

    def admitted(self) -> AbstractAsyncContextManager[None]:
        """Hold a slot for storing an upload that is here. Raises StageOverloaded."""
        return self._admission.slot()

    async def register(self, upload: Spooled, *, only: MediaKind | None = None, label: str = "") -> tuple[Asset, bool]:
        """Make an asset of a spooled file, which may be moved away, and return (asset, existed before).

        Durable when this returns. Raises InvalidMedia and MediaTooLarge, StorageQuotaExceeded, and InvalidInput for
        another kind than ``only``.
        """
        asset_id = asset_id_of(upload.sha256_hex)
        work_on(asset_id)
        note(asset_id)
        if (stored := await self._own(asset_id, upload, only, label)) is not None:
            return stored, True
        async with self._context.quotas.storing(upload.size) as storing:
            asset, existed, storing.added = await self._register(asset_id, upload, only, label)
            return asset, existed

    async def _own(self, asset_id: str, upload: Spooled, only: MediaKind | None, label: str) -> Asset | None:
        """Return an asset that the client has uploaded before, which takes nothing of its quota; None for any other."""
        known = (await self.known([asset_id])).get(asset_id)
        if known is None or not _uploaded_by(known, caller.get().name):
            return None
        return (await self._upload_again(asset_id, upload.filename, only, label))[0]

    async def _register(
        self, asset_id: str, upload: Spooled, only: MediaKind | None, label: str
    ) -> tuple[Asset, bool, bool]:
        """Return (asset, existed before, the client has one more)."""
        stored, added = await self._upload_again(asset_id, upload.filename, only, label)
        if stored is not None:
            return stored, True, added
        facts = await self._store_bytes(asset_id, upload.path, only)
        own = Upload(caller.get().name, upload.filename, datetime.now(UTC))
        asset = Asset(
            asset_id=asset_id,
            filename=own.filename,
            file_size=upload.size,
            uploaded_at=own.uploaded_at,
            **asdict(facts),
        )
        documents = self._context.documents
        first = added = await documents.insert_asset(asset, own.owner)
        if not first:
            # Another request uploaded the same bytes at the same time, or the object store had lost them.
            added = await documents.add_upload(asset_id, own) == "added"
        if label:
            await documents.add_label(asset_id, label)
        recorded = (await self.known([asset_id])).get(asset_id)
        if recorded is None or not await self._is_whole(recorded):
            # A delete of the same bytes was under way and removed the object that was just put.
            if first and await self._withdraw(asset_id) == "last":
                await delete_asset(self._context.stores, asset_id)
            raise StorageUnavailable("This file was being deleted at the same time; upload it again.")
        return recorded, not first, added

    async def upload_again(
        self, asset_id: str, filename: str, *, only: MediaKind | None = None, label: str = ""
    ) -> Asset | None:
        """Record that the client uploads bytes that are stored already; None, recording nothing, if they are not.

        Raises InvalidInput for another kind than ``only``.
        """
        known = (await self._context.documents.get_assets([asset_id])).get(asset_id)
        if known is None or _uploaded_by(known, caller.get().name):
            return (await self._upload_again(asset_id, filename, only, label))[0]
        async with self._context.quotas.storing(known.file_size) as storing:
            asset, storing.added = await self._upload_again(asset_id, filename, only, label)
            return asset

    async def _upload_again(
        self, asset_id: str, filename: str, only: MediaKind | None, label: str
    ) -> tuple[Asset | None, bool]:
        """Do as ``upload_again``; return its asset, and whether the client has one more."""
        stored = await self._settled(asset_id)
        if stored is None:
            return None, False
        if not await self._is_whole(stored):
            await self._settled(asset_id)  # perhaps not lost, but removed by a delete that began meanwhile
            return None, False
        _require(stored.kind, stored.format, only)
        owner = caller.get().name
        if label and not await self._context.documents.add_label(asset_id, label):
            return await self._upload_again(asset_id, filename, only, label)
        if _uploaded_by(stored, owner):
            return stored.seen_by(owner), False
        addition = await self._context.documents.add_upload(asset_id, Upload(owner, filename, datetime.now(UTC)))
        if not addition:
            return await self._upload_again(asset_id, filename, only, label)
        # The upload that made the asset may have failed, as its bytes had been deleted meanwhile.
        recorded = (await self.known([asset_id])).get(asset_id) if await self._is_whole(stored) else None
        return recorded, addition == "added"

    async def delete(self, asset_id: str) -> Removal:
        """Remove the client's upload of an asset, and the asset everywhere if nobody else has one.

        Uploads of nobody go with it, whose key is not set any more or which were made without keys. Raises
        AssetNotFound, and UploadOfOthers where there is nothing that this client may delete.
        """
        asset = await self.get(asset_id)
        own_bytes = asset.file_size if _uploaded_by(asset, caller.get().name) else 0
        async with self._context.quotas.removing() as removing:
            outcome = await self._withdraw(asset_id)
            removing.size = own_bytes if outcome in ("withdrawn", "last") else 0
        if outcome == "unknown":
            raise AssetNotFound([asset_id])
        if outcome == "of others":
            raise UploadOfOthers([asset_id])
        if outcome == "withdrawn":
            return Removal(everything=False, had_bytes=False, removed=Removed())
        removed = Removed()
        had_bytes = await delete_asset(self._context.stores, asset_id, removed)
        return Removal(everything=True, had_bytes=had_bytes, removed=removed)

    async def _withdraw(self, asset_id: str) -> Withdrawal:
        names = await self._context.access.names()
        return await self._context.documents.withdraw(asset_id, caller.get().name, names)

    async def _settled(self, asset_id: str) -> Asset | None:
        """Return a record once no delete of it is under way; a delete that does not end is finished here."""
        give_up = time.monotonic() + DELETE_GRACE_S
        while True:
            stored = (await self._context.documents.get_assets([asset_id])).get(asset_id)
            if stored is None or not stored.deleting:
                return stored
            if time.monotonic() > give_up:
                await delete_asset(self._context.stores, asset_id)
            await asyncio.sleep(DELETE_POLL_S)

    @staticmethod
    def picture_key(asset: Asset) -> str:
        """Return the object key of the encoded image of an asset: its own, or that of a video's poster.

        Raises InvalidInput for audio.
        """
        if asset.kind == "audio":
            raise InvalidInput(f"{asset.asset_id} is audio and has no picture.")
        return asset.asset_id if asset.kind == "image" else poster_key(asset.asset_id)

    async def picture(self, asset: Asset) -> bytes:
        """Return the encoded image of an asset, see ``picture_key``.

        Raises InvalidInput for audio, AssetNotFound when the bytes were lost or are being deleted.
        """
        try:
            return await self._context.objects.get(self.picture_key(asset))
        except ObjectNotFound:
            raise AssetNotFound([asset.asset_id]) from None

    async def _is_whole(self, asset: Asset) -> bool:
        keys = [asset.asset_id] if asset.kind != "video" else [asset.asset_id, poster_key(asset.asset_id)]
        return all([await self._context.objects.head(key) is not None for key in keys])

    async def _store_bytes(self, asset_id: str, path: Path, only: MediaKind | None) -> Probe:
        """Put a file into the object store, after the poster if it is a video, and return its facts."""
        poster, left = self._spool / f"poster-{uuid.uuid4().hex}.jpg", threading.Event()
        with disk_errors("spool"):
            try:
                facts = await in_time(asyncio.to_thread(_probe, path, self._limits, poster, left))
                _require(facts.kind, facts.format, only)
                if facts.kind == "video":
                    await self._context.objects.put_file(poster_key(asset_id), poster, "image/jpeg")
            finally:
                left.set()
                poster.unlink(missing_ok=True)
            await self._context.objects.put_file(asset_id, path, facts.content_type)
            return facts


def _probe(path: Path, limits: Limits, poster: Path, left: threading.Event) -> Probe:
    """Probe a file, and leave no poster to a caller who was cancelled meanwhile."""
    try:
        return probe(path, limits, poster=poster)
    finally:
        if left.is_set():
            poster.unlink(missing_ok=True)


def _uploaded_by(asset: Asset, owner: str) -> bool:
    return any(each.owner == owner and not each.withdrawn for each in asset.uploads)


def checked_label(given: str) -> str:
    """Return the label of an upload; one who is held to one label need not say it. Raises InvalidInput."""
    own = caller.get().labels
    label = given or (next(iter(own)) if len(own) == 1 else "")
    if label and not LABEL.fullmatch(label):
        raise InvalidInput(f"A label has 1 to {MAX_LABEL} letters, digits, dots, hyphens and underscores.")
    if own and label not in own:
        raise InvalidInput(f"Your key is held to files with the label {' or '.join(sorted(own))}; send one as `label`.")
    return label


def _require(kind: MediaKind, file_format: str, only: MediaKind | None) -> None:
    if only is not None and kind != only:
        raise InvalidInput(f"This {file_format} is {kind}, not {only}.")


class Videos:
    """Look-up of videos among the assets; a ``file_uuid`` is an asset id."""

    def __init__(self, context: Context) -> None:
        self._library = Library(context)

    async def get(self, file_uuid: str) -> Asset:
        """Return a video's record. Raises AssetNotFound, and InvalidInput for images and audio."""
        asset = await self._library.get(file_uuid)
        if asset.kind != "video":
            raise InvalidInput(f"{file_uuid} is {asset.kind} ({asset.format}); this route takes videos only.")
        return asset

    async def is_gone(self, file_uuid: str) -> bool:
        """Return whether no client has this video any more; it may only be hidden from this one."""
        return bool(await self._library.gone([file_uuid]))
