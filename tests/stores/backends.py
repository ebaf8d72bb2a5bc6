"""A store that lives where the documents do, opened with each backend in turn."""

import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import pytest


class Closable(Protocol):
    async def close(self) -> None: ...


StoreT = TypeVar("StoreT", bound=Closable)


@asynccontextmanager
async def opened(
    backend: str, folder: Path, open_store: Callable[[str], StoreT], mongo: type[Any]
) -> AsyncIterator[StoreT]:
    """Empty, and gone at the end. Skips where TEST_MONGODB_URL names no server for ``mongo``, the class it must be."""
    if backend == "sqlite":
        store = open_store(f"sqlite:///{folder}/documents.sqlite")
        yield store
    else:
        server = os.environ.get("TEST_MONGODB_URL", "")
        if not server:
            pytest.skip("TEST_MONGODB_URL names no MongoDB server")
        name = f"test_{uuid.uuid4().hex}"
        store = open_store(urlsplit(server)._replace(path=f"/{name}").geturl())
        assert isinstance(store, mongo)
        yield store
        await store._client.drop_database(name)
    await store.close()
