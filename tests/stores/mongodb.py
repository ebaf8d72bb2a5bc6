"""A MongoDB for the tests: SecantusDB, which speaks MongoDB's wire protocol, on a free port of 127.0.0.1."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pymongo
import pytest
from pymongo.errors import PyMongoError

from vision.parent import launcher

READY_TIMEOUT_S = 60.0


@contextmanager
def mongodb(directory: Path) -> Iterator[str]:
    """Run a server with its data in ``directory``; gives its URL. TEST_MONGODB_URL names another one in its place.

    Skips the test where this platform has no such server.
    """
    if url := os.environ.get("TEST_MONGODB_URL"):
        yield url
        return
    if find_spec("secantus") is None:
        pytest.skip("SecantusDB is not installed; TEST_MONGODB_URL may name a MongoDB server instead")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--storage-path", str(directory / "data"), "--cache-size", "64M", "--log-level", "WARNING"]
    with (directory / "mongodb.log").open("wb") as log:
        server = subprocess.Popen(
            [*launcher(signal.SIGTERM), str(os.getpid()), *argv], cwd=directory, stdout=log, stderr=log
        )
    url = f"mongodb://127.0.0.1:{port}"
    try:
        _wait_until_ready(server, url, directory / "mongodb.log")
        yield url
    finally:
        server.kill()  # the data are thrown away
        server.wait()


@contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of a new database of the server, which is dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    with pymongo.MongoClient[dict[str, object]](server, timeoutMS=20_000) as client:
        client.drop_database(name)


def _wait_until_ready(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with pymongo.MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=200) as client:
                client.admin.command("ping")
        except PyMongoError:
            continue
        return
    raise RuntimeError(f"SecantusDB did not come up:\n{log.read_text(errors='replace')[-2000:]}")
