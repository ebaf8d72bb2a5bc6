"""Upkeep of a LanceDB table: when its index is built, extended and rebuilt, and retries of lost commits."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from lancedb.index import IvfSq

from stores.documents import StoreError

INDEX_FROM_ROWS = 5000
"""Up to here a scan of every vector takes a few milliseconds, and is exact."""
ROWS_PER_PARTITION = 1500
GROWTH = 4
"""The index is trained anew when the table has outgrown its partitions by this factor."""
FOLD_ROWS, FOLD_SHARE = 2000, 0.1
"""Rows that gather outside the index, where each search scans them, before the index takes them up."""
MAX_SEGMENTS = 16
"""Every fold adds a segment to the index, and each costs a search about 0.15 ms."""
MAX_SMALL_FRAGMENTS = 32
KEEP_VERSIONS = timedelta(hours=1)
"""Old versions stay this long for readers in the middle of a search."""
ATTEMPTS, FIRST_PAUSE_S = 8, 0.05

_NAME = re.compile(r"unit_ivf(\d+)")

T = TypeVar("T")


class ConflictError(StoreError):
    """Another writer's commit came first."""


async def translated(operation: Awaitable[T]) -> T:
    """:raises ConflictError: another writer's commit came first. :raises StoreError: any other failure."""
    try:
        return await operation
    except (RuntimeError, OSError, ValueError) as error:  # all that LanceDB raises, for lost connections too
        text = str(error).lower()
        if "conflict" in text or "concurrent" in text:
            raise ConflictError("vector store: another writer was faster") from error
        raise StoreError(f"vector store: {type(error).__name__}") from error


async def retrying(operation: Callable[[], Awaitable[T]]) -> T:
    """Run the operation again for as long as other writers' commits come before its own.

    :raises StoreError: the store failed, or this writer lost ATTEMPTS times.
    """
    for attempt in range(ATTEMPTS):
        try:
            return await translated(operation())
        except ConflictError:
            await asyncio.sleep(FIRST_PAUSE_S * 2**attempt * random.random())  # noqa: S311 (no secret)
    raise StoreError("vector store: other writers were faster every time")


async def maintain(table: Any) -> None:
    """Build, extend or rebuild the index and compact the table, where the rules above say so.

    :raises ConflictError: other writers changed the table meanwhile; nothing is lost.
    :raises StoreError: the store failed.
    """
    rows = await translated(table.count_rows())
    indices = {index.name: index for index in await translated(table.list_indices())}
    current = max(indices, key=_partitions, default=None)
    wanted = max(1, rows // ROWS_PER_PARTITION)
    if current is None:
        rebuild = rows >= INDEX_FROM_ROWS
    else:
        outgrown = wanted >= GROWTH * _partitions(current)
        rebuild = outgrown or indices[current].num_segments > MAX_SEGMENTS
    if rebuild:
        current = f"unit_ivf{wanted}"
        config = IvfSq(distance_type="cosine", num_partitions=wanted)
        await translated(table.create_index("vector", config=config, name=current, replace=True))
    for name in indices.keys() - {current}:
        await translated(table.drop_index(name))
    if await _needs_optimize(table, current, rows):
        await translated(table.optimize(cleanup_older_than=KEEP_VERSIONS))


def _partitions(name: str) -> int:
    """The partitions of an index, which LanceDB does not tell: they are part of the name we give it."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


async def _needs_optimize(table: Any, index: str | None, rows: int) -> bool:
    fragments = (await translated(table.stats()))["fragment_stats"]
    if fragments["num_small_fragments"] > MAX_SMALL_FRAGMENTS:
        return True
    if index is None:
        return False
    waiting = (await translated(table.index_stats(index))).num_unindexed_rows
    return bool(waiting > max(FOLD_ROWS, FOLD_SHARE * rows))
