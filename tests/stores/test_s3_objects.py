"""S3 alone: multipart uploads, buckets that are not there, servers that are not there."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from stores.errors import StoreError
from stores.s3.objects import PART_BYTES, S3Objects
from tests.stores.samples import write_file
from tests.waiting import PATIENCE_S, until


async def test_large_files_are_uploaded_in_parts(s3_url: str, tmp_path: Path) -> None:
    objects = S3Objects(s3_url)
    await objects.put_file("large", write_file(tmp_path, os.urandom(2 * PART_BYTES + 5)), "video/mp4")
    await objects.put_file("small", write_file(tmp_path, b"x"), "video/mp4")
    large, small = await objects.head("large"), await objects.head("small")
    assert large is not None
    assert small is not None
    assert large.etag.endswith("-3")
    assert "-" not in small.etag
    assert (large.size, large.content_type) == (2 * PART_BYTES + 5, "video/mp4")
    await objects.close()


async def test_an_existing_bucket_is_used(s3_url: str, tmp_path: Path) -> None:
    first = S3Objects(s3_url)
    await first.put_file("key", write_file(tmp_path, b"x"), "image/png")
    second = S3Objects(s3_url)
    assert await second.get("key") == b"x"
    third = S3Objects(s3_url.replace("&create=1", ""))
    assert await third.get("key") == b"x"
    for objects in (first, second, third):
        await objects.close()


async def test_no_bucket_is_made_without_being_asked(s3_url: str) -> None:
    objects = S3Objects(s3_url.replace("&create=1", ""))
    with pytest.raises(StoreError, match="no such bucket"):
        await objects.ping()
    with pytest.raises(StoreError, match="NoSuchBucket"):
        await objects.get("key")
    await objects.close()


async def test_refused_credentials_are_a_store_error(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-one")
    objects = S3Objects(s3_url.replace("&create=1", ""))
    with pytest.raises(StoreError) as caught:
        await objects.get("key")
    assert "SignatureDoesNotMatch" in str(caught.value)
    assert "not-the-one" not in str(caught.value)
    await objects.close()


async def test_an_absent_server_is_a_store_error(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.s3.location.ATTEMPTS", 1)
    objects = S3Objects("s3://bucket?endpoint_url=http://127.0.0.1:1&region=us-east-1")
    with pytest.raises(StoreError, match="EndpointConnectionError"):
        await objects.ping()
    with pytest.raises(StoreError, match="EndpointConnectionError"):
        async for _ in objects.stream("key"):
            pass
    await objects.close()


async def test_a_reader_that_leaves_before_the_first_byte_leaves_no_connection(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = S3Objects(s3_url)
    await objects.put_file("key", write_file(tmp_path, b"bytes"), "image/png")
    begun, go_on, bodies = threading.Event(), threading.Event(), list[Any]()
    get = objects._get_range

    def slow(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        bodies.append(get(*args))
        return bodies[0]

    monkeypatch.setattr(objects, "_get_range", slow)
    reading = asyncio.ensure_future(anext(objects.stream("key")))
    await until(begun.is_set)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    go_on.set()
    await until(lambda: bodies and bodies[0]._raw_stream.closed)
    await objects.close()
