"""Which URL opens which store, and the messages for wrong ones."""

import re
import threading
from pathlib import Path

import psutil
import pytest

from configs.settings import Settings
from stores.open import Stores
from stores.s3.location import S3Location


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_the_scheme_picks_the_store(tmp_path: Path) -> None:
    local = Stores(
        objects=f"file://{tmp_path}/objects",
        documents=f"sqlite:///{tmp_path}/d.sqlite",
        vectors=f"file://{tmp_path}/vectors",
    )
    remote = Stores(
        objects="s3://bucket?endpoint_url=http://127.0.0.1:1&region=auto",
        documents="mongodb://user:secret@localhost:1/db",  # kingfisher:ignore - nobody listens there
        vectors="s3://bucket/prefix?region=eu-west-1",
        cache="redis://localhost:1",
    )
    types = [
        [each.type for each in (stores.objects, stores.documents, stores.vectors, stores.cache)]
        for stores in (local, remote)
    ]
    assert types == [["file", "sqlite", "lance", "none"], ["s3", "mongodb", "lance", "redis"]]
    for url in ("rediss://localhost:1", f"unix://:secret@{tmp_path}/s.sock"):
        assert Stores(cache=url).cache.type == "redis"
    for stores in (local, remote):
        await stores.close()


async def test_only_stores_that_are_used_are_opened(tmp_path: Path) -> None:
    stores = Stores.open(Settings(home=tmp_path))
    _ = stores.objects
    await stores.close()
    assert names_in(tmp_path) == {"objects"}


async def test_the_stores_of_one_database_share_its_file_and_its_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())  # threads of earlier tests may end meanwhile
    stores = Stores(documents=f"sqlite:///{tmp_path}/d.sqlite")
    repositories = (stores.documents, stores.jobs, stores.people, stores.shots, stores.analyses, stores.animals)
    for repository in repositories:
        await repository.ping()  # type: ignore[attr-defined]
    assert await stores.people.list_identities() == []
    assert {name for name in names_in(tmp_path) if name.endswith(".sqlite")} == {"d.sqlite"}
    started = set(threading.enumerate()) - before
    assert len(started) == 2  # one writes, one reads what takes long
    files = [file.path for file in psutil.Process().open_files()]
    assert files.count(f"{tmp_path}/d.sqlite") == 3
    await stores.close()
    await stores.close()
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        *[
            (name, "sqlite:///, mongodb:// or mongodb+srv://")
            for name in ("documents", "jobs", "people", "shots", "analyses", "animals")
        ],
        ("objects", "file:/// or s3://"),
        ("vectors", "file:/// or s3://"),
        ("cache", "redis://, rediss://, unix://"),
    ],
)
def test_an_unknown_scheme_is_refused_with_the_known_ones(name: str, accepted: str) -> None:
    for url in ("http://user:secret@host", "file://relative", "sqlite://x", "plain"):
        with pytest.raises(ValueError, match=re.escape(accepted)) as caught:
            getattr(Stores(objects=url, documents=url, vectors=url, cache=url), name)
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
        _ = Stores(objects=url).objects
    assert "secret" not in str(caught.value)


def test_the_parts_of_an_s3_url() -> None:
    url = "s3://Bucket/a/b/?endpoint_url=https://x.example:9000&region=auto"
    assert S3Location.parse(url) == S3Location("Bucket", "a/b", "https://x.example:9000", "auto")
    with pytest.raises(ValueError, match="create=1"):
        _ = Stores(vectors="s3://bucket/prefix?create=1").vectors


@pytest.mark.parametrize("url", ["mongodb://user:se/cret@host:port/db", "mongodb://u:cret@h:x", "mongodb://"])
def test_mongodb_urls_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match="not a MongoDB URL") as caught:
        _ = Stores(documents=url).documents
    assert "cret" not in str(caught.value)
