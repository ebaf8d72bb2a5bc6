"""Buckets that are read from: any keys, below a prefix."""

import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from ops.bulk.sources import SourceError, find_items, open_item
from stores.errors import StoreError
from stores.s3.folder import S3Folder

KEYS = ("films/a b.mp4", "films/deep/ü+c.MOV", "films/notes.txt", "films-of-others/d.mp4", "e.mp4")


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """Name of a bucket with an object under each key, which holds its key."""
    name = f"films-{uuid.uuid4().hex}"
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket=name)
    for key in KEYS:
        client.put_object(Bucket=name, Key=key, Body=key.encode())
    return name


def url(bucket: str, endpoint: str, prefix: str = "") -> str:
    return f"s3://{bucket}{prefix}?endpoint_url={endpoint}&region=us-east-1"


def test_videos_below_a_prefix_are_found_and_read(bucket: str, s3_endpoint: str) -> None:
    items = find_items([url(bucket, s3_endpoint, "/films")])
    assert [item.name for item in items] == [f"s3://{bucket}/films/a b.mp4", f"s3://{bucket}/films/deep/ü+c.MOV"]
    assert [item.filename for item in items] == ["a b.mp4", "ü+c.MOV"]
    for item in items:
        with open_item(item) as body:
            assert body.read(5) + body.read() == item.key.encode()


def test_a_whole_bucket_and_a_single_key(bucket: str, s3_endpoint: str) -> None:
    assert sorted(S3Folder(url(bucket, s3_endpoint)).keys()) == sorted(KEYS)
    assert [item.key for item in find_items([url(bucket, s3_endpoint, "/e.mp4")])] == ["e.mp4"]


def test_what_is_not_there_is_an_error(bucket: str, s3_endpoint: str) -> None:
    with pytest.raises(SourceError, match="has no objects"):
        find_items([url(bucket, s3_endpoint, "/nothing")])
    with pytest.raises(StoreError, match="NoSuchBucket"):
        find_items([url("no-such-bucket", s3_endpoint)])
    with pytest.raises(StoreError, match="NoSuchKey"):
        S3Folder(url(bucket, s3_endpoint)).open("nothing")


def test_an_object_that_is_gone_is_no_fault_of_the_store(bucket: str, s3_endpoint: str) -> None:
    (item,) = find_items([url(bucket, s3_endpoint, "/e.mp4")])
    boto3.client("s3", endpoint_url=s3_endpoint).delete_object(Bucket=bucket, Key="e.mp4")
    with pytest.raises(SourceError, match=r"e\.mp4 cannot be read: .*NoSuchKey"), open_item(item):
        pass


class _BreaksOff(BaseHTTPRequestHandler):
    """An object of which most does not come."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"begun")

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def test_a_body_that_breaks_off_is_a_fault_of_the_store() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _BreaksOff) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = S3Folder(url("bucket", f"http://127.0.0.1:{server.server_port}"))
        with folder.open("e.mp4") as body, pytest.raises(StoreError, match=r"s3 bucket: \w+Error"):
            body.read()
        server.shutdown()
