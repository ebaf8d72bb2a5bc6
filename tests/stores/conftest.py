"""Every backend over a real server or folder; a test that asks for ``documents`` runs once per backend."""

import secrets
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest

from stores.documents import Documents
from stores.jobs import JobStore
from stores.objects import Objects
from stores.open import Stores
from stores.valkey import ValkeyServer
from stores.valkey import start as start_valkey
from stores.vectors import Vectors
from tests.stores.mongodb import database, mongodb
from tests.stores.seaweed import seaweedfs

VECTOR_BUCKET = "vectors"
KEY, SECRET = secrets.token_hex(8), secrets.token_hex(16)
"""The same for every server of this process, as boto3 keeps those that it has seen first."""


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running S3 server; the credentials for it are in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with seaweedfs(tmp_path_factory.mktemp("weed"), KEY, SECRET) as endpoint:
            boto3.session.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket=VECTOR_BUCKET)
            yield endpoint


@pytest.fixture
def s3_url(s3_endpoint: str) -> str:
    """URL of a new bucket."""
    return f"s3://test-{uuid.uuid4().hex}?endpoint_url={s3_endpoint}&region=us-east-1&create=1"


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running MongoDB."""
    with mongodb(tmp_path_factory.mktemp("mongodb")) as url:
        yield url


@pytest.fixture(params=["sqlite", "mongodb"])
def documents_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty document store, where jobs, people, shots, analyses and animals live too."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/documents.sqlite"
        return
    with database(request.getfixturevalue("mongodb_server")) as url:
        yield url


@pytest.fixture
async def stores(documents_url: str, tmp_path: Path) -> AsyncIterator[Stores]:
    """Empty stores: those of one database, and folders of objects and vectors."""
    stores = Stores(documents=documents_url, objects=f"file://{tmp_path}/objects", vectors=f"file://{tmp_path}/vectors")
    yield stores
    await stores.close()


@pytest.fixture
def documents(stores: Stores) -> Documents:
    return stores.documents


@pytest.fixture
def jobs(stores: Stores) -> JobStore:
    return stores.jobs


@pytest.fixture(params=["file", "s3"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Objects]:
    url = f"file://{tmp_path}/objects" if request.param == "file" else request.getfixturevalue("s3_url")
    stores = Stores(objects=url)
    yield stores.objects
    await stores.close()


@pytest.fixture(params=["file", "s3"])
def vectors_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty vector store."""
    if request.param == "file":
        return f"file://{tmp_path}/vectors"
    endpoint = request.getfixturevalue("s3_endpoint")
    return f"s3://{VECTOR_BUCKET}/{uuid.uuid4().hex}?endpoint_url={endpoint}&region=us-east-1"


@pytest.fixture
async def vectors(vectors_url: str) -> AsyncIterator[Vectors]:
    stores = Stores(vectors=vectors_url)
    yield stores.vectors
    await stores.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with start_valkey(tmp_path / "valkey") as server:
        yield server
