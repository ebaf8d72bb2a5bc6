"""Which URL opens which store, and what a wrong one is told."""

import re
from pathlib import Path

import pytest

from stores.cache import Cache
from stores.documents import Documents
from stores.jobs import JobStore
from stores.objects import Objects
from stores.open import open_cache, open_documents, open_jobs, open_objects, open_vectors
from stores.s3.url import S3Location
from stores.vectors import Vectors


async def test_the_scheme_picks_the_store(tmp_path: Path) -> None:
    stores: list[Documents | JobStore | Objects | Vectors | Cache] = [
        open_documents(f"sqlite:///{tmp_path}/d.sqlite"),
        open_documents("mongodb://user:secret@localhost:1/db"),
        open_jobs(f"sqlite:///{tmp_path}/d.sqlite"),
        open_jobs("mongodb://user:secret@localhost:1/db"),
        open_objects(f"file://{tmp_path}/objects"),
        open_objects("s3://bucket?endpoint_url=http://127.0.0.1:1&region=auto"),
        open_vectors(f"file://{tmp_path}/vectors"),
        open_vectors("s3://bucket/prefix?region=eu-west-1"),
        open_cache("redis://localhost:1"),
        open_cache("rediss://localhost:1"),
        open_cache(f"unix://:secret@{tmp_path}/s.sock"),
        open_cache(""),
    ]
    assert [store.type for store in stores] == [
        *("sqlite", "mongodb", "sqlite", "mongodb", "file", "s3", "lance", "lance", "redis", "redis", "redis", "none")
    ]
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    ("opener", "accepted"),
    [
        (open_documents, "sqlite:///, mongodb:// or mongodb+srv://"),
        (open_jobs, "sqlite:///, mongodb:// or mongodb+srv://"),
        (open_objects, "file:/// or s3://"),
        (open_vectors, "file:/// or s3://"),
        (open_cache, "redis://, rediss://, unix://"),
    ],
)
def test_an_unknown_scheme_is_told_the_known_ones(opener: object, accepted: str) -> None:
    assert callable(opener)
    for url in ("http://user:secret@host", "file://relative", "sqlite://x", "plain"):
        with pytest.raises(ValueError, match=re.escape(accepted)) as caught:
            opener(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket", "credentials"),
        ("s3://bucket?endpoint=x", "unknown parameters.*endpoint"),
        ("s3://?region=x", "expected s3://"),
        ("s3://bucket/path", "whole bucket"),
    ],
)
def test_s3_urls_are_checked(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_objects(url)
    assert "secret" not in str(caught.value)


def test_the_parts_of_an_s3_url() -> None:
    url = "s3://Bucket/a/b/?endpoint_url=https://x.example:9000&region=auto"
    assert S3Location.parse(url) == S3Location("Bucket", "a/b", "https://x.example:9000", "auto")
    with pytest.raises(ValueError, match="create=1"):
        open_vectors("s3://bucket/prefix?create=1")


@pytest.mark.parametrize("url", ["mongodb://user:se/cret@host:port/db", "mongodb://u:cret@h:x", "mongodb://"])
def test_mongodb_urls_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match="not a MongoDB URL") as caught:
        open_documents(url)
    assert "cret" not in str(caught.value)
