"""Vectors in LanceDB: tables of files in a folder or a bucket, without a server, shared by all processes."""

import asyncio
import hashlib
import logging
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, get_args

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfSq

from stores.errors import StoreError, StoreFull, disk_error
from stores.records import Features, Vector
from stores.s3.location import S3Location
from stores.vectors import Neighbour
from vision.media.sniff import MediaKind

log = logging.getLogger(__name__)

PROBES = 128
"""Partitions searched at least: up to about 190,000 rows that is all of them, over their 8-bit codes."""
REFINE = 4
"""Candidates per requested neighbour whose full vectors are compared in the end."""
IDS_PER_DELETE = 500
INDEX_FROM_ROWS = 5000
"""Up to here a scan of every vector takes a few milliseconds, and is exact."""
ROWS_PER_PARTITION = 1500
GROWTH = 4
"""The index is trained anew when the table has outgrown its partitions by this factor."""
FOLD_ROWS, FOLD_SHARE = 2000, 0.1
"""Rows outside the index, where each search scans them, before they are folded into it."""
MAX_SEGMENTS = 16
"""Every fold adds a segment to the index, and each costs a search about 0.15 ms."""
MAX_SMALL_FRAGMENTS = 32
KEEP_VERSIONS = timedelta(hours=1)
"""Old versions stay this long for readers in the middle of a search."""
INDEX_CACHE_BYTES, METADATA_CACHE_BYTES = 512 * 2**20, 32 * 2**20
"""What a process keeps of the files at most. By default that is 6 GiB and 1 GiB, a little more with each delete."""
ATTEMPTS, FIRST_PAUSE_S = 8, 0.05

_HEX = re.compile(r"[0-9a-f]+")
_OS_ERROR = re.compile(r"os error (\d+)")
_INDEX_NAME = re.compile(r"unit_ivf(\d+)")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Table:
    handle: Any
    dimension: int


class LanceVectors:
    """``file:///dir`` or ``s3://bucket/prefix?endpoint_url=…&region=…``; one table per model version.

    :raises ValueError: the URL is not of one of these forms.
    """

    type = "lance"

    def __init__(self, url: str) -> None:
        self._options: dict[str, str] | None = None
        if url.startswith("s3://"):
            location = S3Location.parse(url)
            if location.create:
                raise ValueError("create=1 is for the object store; the vector store needs a bucket that exists")
            self._uri = f"s3://{location.bucket}/{location.prefix}"
            self._options = _storage_options(location)
        else:
            self._uri = url.removeprefix("file://")
        self._connection: Any = None
        self._tables: dict[str, _Table] = {}
        """By table name."""

    async def add(self, features: Sequence[Features]) -> None:
        if not features:
            return
        model_version, dimension = features[0].model_version, features[0].unit.size
        if any(item.model_version != model_version for item in features):
            raise ValueError("one call adds vectors of one model version")
        table = await self._table(_table_name(model_version)) or await self._create(model_version, dimension)
        for item in features:
            _check_dimension(table, item.unit.shape)
        rows = _rows(list({item.asset_id: item for item in features}.values()), dimension)
        merge = table.handle.merge_insert("asset_id").when_matched_update_all().when_not_matched_insert_all()
        await retrying(partial(merge.execute, rows))

    async def remove(self, model_version: str, asset_ids: Sequence[str]) -> None:
        _check_ids(asset_ids)
        await _remove(await self._table(_table_name(model_version)), asset_ids)

    async def remove_all(self, asset_ids: Sequence[str]) -> None:
        _check_ids(asset_ids)
        for name in await self._table_names():
            await _remove(await self._table(name), asset_ids)

    async def search(
        self, model_version: str, unit: Vector, k: int, *, kind: MediaKind | None = None
    ) -> list[Neighbour]:
        table = await self._table(_table_name(model_version))
        if table is None:
            return []
        _check_dimension(table, unit.shape)
        query = table.handle.query().nearest_to(unit).distance_type("cosine").limit(k)
        # No upper bound: a rare kind may be spread over more partitions than the first ones.
        query = query.maximum_nprobes(0).minimum_nprobes(PROBES).refine_factor(REFINE)
        if kind is not None:
            if kind not in get_args(MediaKind):  # it becomes part of a filter expression
                raise ValueError(f"not a media kind: {kind[:16]!r}")
            query = query.where(f"kind = '{kind}'")
        hits = await translated(query.select(["asset_id", "_distance"]).to_arrow())
        pairs = zip(hits["asset_id"].to_pylist(), hits["_distance"].to_pylist(), strict=True)
        return [Neighbour(asset_id, 1.0 - distance) for asset_id, distance in pairs]

    async def count(self, model_version: str) -> int:
        table = await self._table(_table_name(model_version))
        return 0 if table is None else int(await translated(table.handle.count_rows()))

    async def ids(self) -> AsyncIterator[str]:
        for name in await self._table_names():
            table = await self._table(name)
            if table is not None:
                batches = await translated(table.handle.query().select(["asset_id"]).to_batches())
                while batch := await translated(anext(batches, None)):
                    for asset_id in batch["asset_id"].to_pylist():
                        yield asset_id

    async def maintain(self, model_version: str) -> None:
        table = await self._table(_table_name(model_version))
        if table is None:
            return
        try:
            await maintain_table(table.handle)
        except ConflictError:
            log.info("the vectors of %s are being changed; they are maintained next time", model_version)

    async def close(self) -> None:
        self._tables.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connect(self) -> Any:
        if self._connection is None:
            self._connection = await translated(
                lancedb.connect_async(
                    self._uri,
                    storage_options=self._options,
                    # Every read looks for a newer version, so that it sees what other processes wrote; the
                    # cost was too small to measure, in a folder as in a bucket.
                    read_consistency_interval=timedelta(0),
                    session=lancedb.Session(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES),
                )
            )
        return self._connection

    async def _table_names(self) -> list[str]:
        connection = await self._connect()
        names: list[str] = []
        token = None
        while True:
            page = await translated(connection.list_tables(page_token=token))
            names += page.tables
            token = page.page_token
            if token is None:
                return names

    async def _table(self, name: str) -> _Table | None:
        """Return a table, None if there is none, as before the first vector of its model version."""
        if name not in self._tables:
            connection = await self._connect()
            try:
                handle = await connection.open_table(name)
            except (RuntimeError, OSError, ValueError) as error:
                if "was not found" in str(error):
                    return None
                raise _store_error(error, ", the table cannot be opened") from error
            self._tables[name] = await _opened(handle)
        return self._tables[name]

    async def _create(self, model_version: str, dimension: int) -> _Table:
        connection = await self._connect()
        # Two processes may get here at once: exist_ok gives the second one the table of the first.
        name, schema = _table_name(model_version), _schema(dimension)
        handle = await retrying(lambda: connection.create_table(name, schema=schema, exist_ok=True))
        return self._tables.setdefault(name, await _opened(handle))


async def _opened(handle: Any) -> _Table:
    schema = await translated(handle.schema())
    return _Table(handle, schema.field("vector").type.list_size)


async def _remove(table: _Table | None, asset_ids: Sequence[str]) -> None:
    if table is None:
        return
    for first in range(0, len(asset_ids), IDS_PER_DELETE):
        page = ", ".join(f"'{asset_id}'" for asset_id in asset_ids[first : first + IDS_PER_DELETE])
        await retrying(partial(table.handle.delete, f"asset_id IN ({page})"))


def _check_ids(asset_ids: Sequence[str]) -> None:
    for asset_id in asset_ids:
        if not _HEX.fullmatch(asset_id):  # ids become part of a filter expression
            raise ValueError(f"not an asset id: {asset_id[:64]!r}")


def _table_name(model_version: str) -> str:
    """Return a table name for any model version; the hash keeps apart what looks equal after cleaning."""
    digest = hashlib.sha256(model_version.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', model_version)[:80]}_{digest}"


def _schema(dimension: int) -> Any:
    # Only with a declared key does LanceDB notice that two writers insert the same asset at once; a scalar
    # index on the column would switch that check off again (lance-format/lance#9238), so it has none.
    key = {"lance-schema:unenforced-primary-key": "true"}
    return pa.schema(
        [
            pa.field("asset_id", pa.string(), nullable=False, metadata=key),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def _rows(features: Sequence[Features], dimension: int) -> Any:
    units = np.concatenate([item.unit for item in features], dtype=np.float32)
    return pa.table(
        [
            pa.array([item.asset_id for item in features]),
            pa.array([item.kind for item in features]),
            pa.FixedSizeListArray.from_arrays(pa.array(units), dimension),
        ],
        schema=_schema(dimension),
    )


def _check_dimension(table: _Table, shape: tuple[int, ...]) -> None:
    if shape != (table.dimension,):
        raise ValueError(f"the vectors here have {table.dimension} numbers, this one has the shape {shape}")


def _storage_options(location: S3Location) -> dict[str, str]:
    """Return options of the object_store library, which takes credentials from the AWS environment by itself."""
    options = {"connect_timeout": "3s", "timeout": "20s", "client_max_retries": "2", "client_retry_timeout": "30"}
    if location.region:
        options["aws_region"] = location.region
    if location.endpoint_url:
        options["aws_endpoint"] = location.endpoint_url
        options["aws_virtual_hosted_style_request"] = "false"
        options["allow_http"] = str(location.endpoint_url.startswith("http://")).lower()
    return options


class ConflictError(StoreError):
    """Another writer's commit came first."""


async def translated(operation: Awaitable[T]) -> T:
    """Return the result. Raises ConflictError if another writer's commit came first, StoreError for other failures."""
    try:
        return await operation
    except (RuntimeError, OSError, ValueError) as error:  # all that LanceDB raises, for lost connections too
        text = str(error).lower()
        if "conflict" in text or "concurrent" in text:
            raise ConflictError("vector store: another writer was faster") from error
        raise _store_error(error) from error


def _store_error(error: Exception, more: str = "") -> StoreError:
    """Return what an error of LanceDB means, whose number of the system is in its text only."""
    text = str(error)
    code = _OS_ERROR.search(text)
    place = f"vector store{more}"
    if code and (known := disk_error(place, OSError(int(code[1]), os.strerror(int(code[1]))))):
        return known
    if any(name in text for name in ("InsufficientStorage", "QuotaExceeded", "507 ")):
        return StoreFull(f"{place}: full")
    return StoreError(f"vector store: {type(error).__name__}{more}")


async def retrying(operation: Callable[[], Awaitable[T]]) -> T:
    """Run an operation, again after each commit of another writer that came first.

    :raises StoreError: the store failed, or this writer lost ATTEMPTS times.
    """
    for attempt in range(ATTEMPTS):
        try:
            return await translated(operation())
        except ConflictError:
            await asyncio.sleep(FIRST_PAUSE_S * 2**attempt * random.random())  # noqa: S311 (no secret)
    raise StoreError("vector store: other writers were faster every time")


async def maintain_table(table: Any) -> None:
    """Build, extend or rebuild the index and compact the table, as far as the constants above require it.

    :raises ConflictError: other writers changed the table meanwhile; nothing is lost.
    :raises StoreError: the store failed.
    """
    rows = await translated(table.count_rows())
    indices = {index.name: index for index in await translated(table.list_indices())}
    current = max(indices, key=_partitions, default=None)
    partitions = max(1, rows // ROWS_PER_PARTITION)
    if current is None:
        rebuild = rows >= INDEX_FROM_ROWS
    else:
        outgrown = partitions >= GROWTH * _partitions(current)
        rebuild = outgrown or indices[current].num_segments > MAX_SEGMENTS
    if rebuild:
        current = f"unit_ivf{partitions}"
        config = IvfSq(distance_type="cosine", num_partitions=partitions)
        await translated(table.create_index("vector", config=config, name=current, replace=True))
    for name in indices.keys() - {current}:
        await translated(table.drop_index(name))
    if await _needs_optimize(table, current, rows):
        await translated(table.optimize(cleanup_older_than=KEEP_VERSIONS))


def _partitions(name: str) -> int:
    """Return the partitions of an index from its name, as LanceDB does not report them."""
    match = _INDEX_NAME.fullmatch(name)
    return int(match[1]) if match else 0


async def _needs_optimize(table: Any, index: str | None, rows: int) -> bool:
    fragments = (await translated(table.stats()))["fragment_stats"]
    if fragments["num_small_fragments"] > MAX_SMALL_FRAGMENTS:
        return True
    if index is None:
        return False
    waiting = (await translated(table.index_stats(index))).num_unindexed_rows
    return bool(waiting > max(FOLD_ROWS, FOLD_SHARE * rows))
