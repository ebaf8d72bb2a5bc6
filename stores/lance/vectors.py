"""Vectors in LanceDB: tables of files in a folder or a bucket, without a server, shared by all processes.

A space has two tables. New vectors go to a small one, which every search scans, so that a write costs no more in a
large library than in a small one. From there they are moved in batches to the large one, which has an index of its ids
and, from a size on, one of its vectors (``stores.lance.maintenance``). Where both have a vector of an asset, the small
one's counts. Deletes take effect in both at once.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from stores.errors import StoreDamaged, StoreError, StoreFull, StoreReadOnly
from stores.lance.maintenance import MAINTENANCE, Upkeep, compact_recent, is_due
from stores.lance.search import search
from stores.lance.tables import (
    RECENT,
    ConflictError,
    Table,
    Tables,
    check_dimension,
    check_ids,
    rows_of,
    table_name,
    translated,
)
from stores.records import Features, Vector
from stores.vectors import Neighbour
from vision.media.sniff import MediaKind
from vision.parent import launcher

log = logging.getLogger(__name__)

THREADS = dict.fromkeys(("LANCE_CPU_THREADS", "TOKIO_WORKER_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Of the process that maintains a space."""
MAINTAIN_ATTEMPTS = 3
ERRORS = {each.__name__: each for each in (StoreError, StoreFull, StoreReadOnly, StoreDamaged, ConflictError)}
"""That it may end with."""


class LanceVectors:
    """``file:///dir`` or ``s3://bucket/prefix?endpoint_url=…&region=…``; one space per model version.

    :raises ValueError: the URL is not of one of these forms.
    """

    type = "lance"

    def __init__(self, url: str, upkeep: Upkeep | None = None) -> None:
        self._url, self._upkeep = url, upkeep or Upkeep()
        self._tables = Tables(url)

    async def add(self, features: Sequence[Features]) -> None:
        if not features:
            return
        model_version, dimension = features[0].model_version, features[0].unit.size
        if any(item.model_version != model_version for item in features):
            raise ValueError("one call adds vectors of one model version")
        name = table_name(model_version)
        main = await self._tables.open(name) or await self._tables.create(name, dimension)
        recent = await self._tables.open(name + RECENT) or await self._tables.create(name + RECENT, main.dimension)
        for item in features:
            check_dimension(main, item.unit.shape)
        latest = {item.asset_id: item for item in features}
        await recent.merge(rows_of(list(latest.values()), dimension))
        await main.delete(list(latest))

    async def remove(self, model_version: str, asset_ids: Sequence[str]) -> int:
        check_ids(asset_ids)
        # The recent ones first: what is being moved is looked for there once it has arrived.
        return sum([await table.delete(asset_ids) for table in reversed(await self._space(model_version))])

    async def remove_all(self, asset_ids: Sequence[str]) -> int:
        check_ids(asset_ids)
        removed = 0
        for name in sorted(await self._tables.names(), key=lambda name: not name.endswith(RECENT)):
            table = await self._tables.open(name)
            if table is not None:
                removed += await table.delete(asset_ids)
        return removed

    async def search(
        self, model_version: str, unit: Vector, k: int, *, kind: MediaKind | None = None, exact: bool = False
    ) -> list[Neighbour]:
        if kind is not None and kind not in get_args(MediaKind):  # it becomes part of a filter expression
            raise ValueError(f"not a media kind: {kind[:16]!r}")
        where = None if kind is None else f"kind = '{kind}'"
        space = await self._space(model_version)
        for table in space:
            check_dimension(table, unit.shape)
        found = await asyncio.gather(*(search(table, unit, k, where=where, exact=exact) for table in space))
        both = {hit.asset_id: hit for hits in found for hit in hits}
        return sorted(both.values(), key=lambda hit: hit.cosine, reverse=True)[:k]

    async def count(self, model_version: str) -> int:
        return sum([await table.count() for table in await self._space(model_version)])

    async def ids(self) -> AsyncIterator[str]:
        for name in await self._tables.names():
            table = await self._tables.open(name)
            if table is not None:
                async for asset_id in _ids_in(table):
                    yield asset_id

    async def ids_of(self, model_version: str) -> AsyncIterator[str]:
        """Yield the ids of the vectors of one model version, some perhaps twice."""
        for table in await self._space(model_version):
            async for asset_id in _ids_in(table):
                yield asset_id

    async def maintain(self, model_version: str, *, indexed: bool = True) -> None:
        name = table_name(model_version)
        main, recent = await self._tables.open(name), await self._tables.open(name + RECENT)
        upkeep = self._upkeep if indexed else self._upkeep.unindexed()
        for _ in range(MAINTAIN_ATTEMPTS):
            try:
                if recent is not None:
                    await compact_recent(recent, upkeep.fragments)
                if main is not None and await is_due(main, recent, upkeep):
                    await _maintain_in_child(self._url, name, upkeep)
            except ConflictError:
                continue
            return
        log.info("the vectors of %s are being changed; they are maintained next time", model_version)

    async def close(self) -> None:
        self._tables.close()

    async def _space(self, model_version: str) -> list[Table]:
        """Return the tables of a space, the recent one last; none before its first vector."""
        name = table_name(model_version)
        tables = [await self._tables.open(name), await self._tables.open(name + RECENT)]
        return [table for table in tables if table is not None]


async def _ids_in(table: Table) -> AsyncIterator[str]:
    batches = await translated(table.handle.query().select(["asset_id"]).to_batches())
    while batch := await translated(anext(batches, None)):
        for asset_id in batch["asset_id"].to_pylist():
            yield asset_id


async def _maintain_in_child(url: str, name: str, upkeep: Upkeep) -> None:
    """Maintain a space in a process that has one thread for it, gives way to all others, and ends with this one.

    :raises StoreError: it could not; what it had done until then stays.
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    child = await asyncio.create_subprocess_exec(
        *launcher(signal.SIGKILL),
        str(os.getpid()),
        sys.executable,
        *("-m", MAINTENANCE),
        env={**os.environ, **THREADS, "PYTHONPATH": path},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await child.communicate(json.dumps({"url": url, "name": name, "upkeep": asdict(upkeep)}).encode())
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        raise StoreError(f"vector store: the process that maintains it ended with {child.returncode}")
    if error := json.loads(output)["error"]:
        raise ERRORS[error[0]](error[1])
