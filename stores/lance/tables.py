"""Tables of vectors in LanceDB, in a folder or a bucket: opening, writing, and what its errors mean."""

import asyncio
import hashlib
import os
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import lancedb
import numpy as np
import pyarrow as pa

from stores.errors import StoreError, StoreFull, disk_error
from stores.records import Features
from stores.s3.location import S3Location

IDS_PER_PAGE = 500
"""Of one filter expression."""
INDEX_CACHE_BYTES, METADATA_CACHE_BYTES = 512 * 2**20, 32 * 2**20
"""What a process keeps of the files at most. By default that is 6 GiB and 1 GiB, a little more with each delete."""
ATTEMPTS, FIRST_PAUSE_S = 8, 0.05
RECENT = "_recent"
"""Ending of the name of the table that new vectors of a space go to."""

SCHEMA_VERSION = 1
SCHEMA_KEY = b"visiongraph:schema"
"""In the metadata of a table; one of a program before there was a number has none, and is of version 1."""

_HEX = re.compile(r"[0-9a-f]+")
_OS_ERROR = re.compile(r"os error (\d+)")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with the length of its vectors."""

    handle: Any
    dimension: int

    async def merge(self, rows: Any) -> None:
        """Insert rows, or replace those of the same assets; of two that insert the same at once one is tried again."""
        # An index on the ids would be faster, and would switch off the check of what others insert meanwhile
        # (lance-format/lance#9238).
        merge = self.handle.merge_insert("asset_id").when_matched_update_all().when_not_matched_insert_all()
        await retrying(partial(merge.use_index(False).execute, rows))

    async def delete(self, asset_ids: Sequence[str]) -> int:
        """Remove the vectors of assets and return how many were here; those that are not cost no commit."""
        removed = 0
        for first in range(0, len(asset_ids), IDS_PER_PAGE):
            page = ", ".join(f"'{asset_id}'" for asset_id in asset_ids[first : first + IDS_PER_PAGE])
            among = f"asset_id IN ({page})"
            if here := await translated(self.handle.count_rows(among)):
                await retrying(partial(self.handle.delete, among))
                removed += int(here)
        return removed

    async def count(self) -> int:
        """Return the number of vectors."""
        return int(await translated(self.handle.count_rows()))


class Tables:
    """The tables of a ``file:///dir`` or ``s3://bucket/prefix?endpoint_url=…&region=…``.

    :raises ValueError: the URL is not of one of these forms.
    """

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
        self._opened: dict[str, Table] = {}

    async def open(self, name: str) -> Table | None:
        """Return a table, None if there is none."""
        if name not in self._opened:
            connection = await self._connect()
            try:
                handle = await connection.open_table(name)
            except (RuntimeError, OSError, ValueError) as error:
                if "was not found" in str(error):
                    return None
                raise store_error(error, ", the table cannot be opened") from error
            self._opened[name] = await _with_dimension(handle)
        return self._opened[name]

    async def create(self, name: str, dimension: int) -> Table:
        """Return a table, a new one if there is none."""
        connection = await self._connect()
        # Two processes may get here at once: exist_ok gives the second one the table of the first.
        schema = _schema(dimension, recent=name.endswith(RECENT))
        handle = await retrying(lambda: connection.create_table(name, schema=schema, exist_ok=True))
        return self._opened.setdefault(name, await _with_dimension(handle))

    async def names(self) -> list[str]:
        """Return the names of all tables."""
        connection = await self._connect()
        names: list[str] = []
        token = None
        while True:
            page = await translated(connection.list_tables(page_token=token))
            names += page.tables
            token = page.page_token
            if token is None:
                return names

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        self._opened.clear()
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


def table_name(model_version: str) -> str:
    """Return a table name for any model version; the hash keeps apart what looks equal after cleaning."""
    digest = hashlib.sha256(model_version.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', model_version)[:80]}_{digest}"


def rows_of(features: Sequence[Features], dimension: int) -> Any:
    """Return the rows of features of different assets, for a table of recent vectors."""
    units = np.concatenate([item.unit for item in features], dtype=np.float32)
    return pa.table(
        [
            pa.array([item.asset_id for item in features]),
            pa.array([item.kind for item in features]),
            pa.FixedSizeListArray.from_arrays(pa.array(units), dimension),
            pa.array([uuid4().hex] * len(features)),
        ],
        schema=_schema(dimension, recent=True),
    )


def check_dimension(table: Table, shape: tuple[int, ...]) -> None:
    """Raise ValueError for vectors of another length than those of the table."""
    if shape != (table.dimension,):
        raise ValueError(f"the vectors here have {table.dimension} numbers, this one has the shape {shape}")


def check_ids(asset_ids: Sequence[str]) -> None:
    """Raise ValueError for what may not become part of a filter expression."""
    for asset_id in asset_ids:
        if not _HEX.fullmatch(asset_id):
            raise ValueError(f"not an asset id: {asset_id[:64]!r}")


async def _with_dimension(handle: Any) -> Table:
    schema = await translated(handle.schema())
    version = int((schema.metadata or {}).get(SCHEMA_KEY, SCHEMA_VERSION))
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"vector store: table {handle.name} has schema {version}, this program knows {SCHEMA_VERSION}; "
            "update the program, or remove the vectors: they are made again from the documents"
        )
    return Table(handle, schema.field("vector").type.list_size)


def _schema(dimension: int, *, recent: bool) -> Any:
    # Only with a declared key does LanceDB notice that two writers insert the same asset at once.
    key = {"lance-schema:unenforced-primary-key": "true"}
    fields = [
        pa.field("asset_id", pa.string(), nullable=False, metadata=key),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
    ]
    if recent:
        fields.append(pa.field("batch", pa.string(), nullable=False))
    return pa.schema(fields, metadata={SCHEMA_KEY: str(SCHEMA_VERSION)})


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
        raise store_error(error) from error


def store_error(error: Exception, more: str = "") -> StoreError:
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
