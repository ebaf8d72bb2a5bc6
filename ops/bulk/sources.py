"""What a SOURCE names: files of a folder, a glob or a bucket, or assets by their ids."""

import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal, cast

from stores.s3.url import S3Location

SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".3gp", ".3g2"})
"""Of files that are taken from a folder or a bucket; their content decides whether they are videos."""
_ASSET: Final = re.compile(r"[0-9a-f]{32}")
_LIST_BYTES: Final = 64 * 2**20


class SourceError(Exception):
    """Nothing can be read from a SOURCE; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One video to index. ``name`` is for people; ``place``: a path, the URL of a bucket, or an asset id."""

    kind: Literal["file", "s3", "asset"]
    name: str
    place: str
    key: str = ""

    @property
    def filename(self) -> str:
        """Last part of the name."""
        return PurePosixPath(self.key or self.place).name


def items_of(sources: Iterable[str]) -> list[Item]:
    """The videos that the sources name, each once, in order. Raises SourceError, and StoreError of a bucket."""
    return list(dict.fromkeys(item for source in sources for item in _items(source)))


@contextmanager
def opened(item: Item) -> Iterator[BinaryIO]:
    """The bytes of a file or of an object of a bucket, from its beginning on.

    Raises SourceError, and StoreError when a bucket does not answer.
    """
    if item.kind == "s3":
        from stores.s3.folder import ObjectUnreadable, S3Folder

        try:
            body = S3Folder(item.place).open(item.key)
        except ObjectUnreadable as error:
            raise SourceError(f"{item.name} cannot be read: {error}.") from error
        with body:
            yield body
        return
    try:
        file = Path(item.place).open("rb")  # noqa: SIM115 - closed below; only opening it may fail so
    except OSError as error:
        raise SourceError(f"{item.name} cannot be read: {error.strerror}.") from error
    with file:
        yield cast(BinaryIO, file)


def _items(source: str) -> list[Item]:
    if source.startswith("s3://"):
        return _bucket(source)
    if source.startswith("@"):
        return _listed(Path(source[1:]))
    if _ASSET.fullmatch(source):
        return [Item("asset", source, source)]
    path = Path(source)
    if path.is_dir():
        return _files(path.resolve().rglob("*"), source, by_suffix=True)
    if path.is_file():
        return _listed(path) if path.suffix == ".txt" else _files([path], source)
    found = _files(map(Path, glob.glob(source, recursive=True)), source)  # noqa: PTH207 - absolute patterns too
    if not found:
        raise SourceError(f"There is no video at {source!r}: neither a folder, a file, a glob nor an asset id.")
    return found


def _files(paths: Iterable[Path], source: str, *, by_suffix: bool = False) -> list[Item]:
    wanted = [path for path in paths if not by_suffix or path.suffix.lower() in SUFFIXES]
    files = sorted(path.resolve() for path in wanted if path.is_file())
    if by_suffix and not files:
        raise SourceError(f"The folder {source!r} has no files that end in {', '.join(sorted(SUFFIXES))}.")
    return [Item("file", str(path), str(path)) for path in files]


def _listed(path: Path) -> list[Item]:
    """Asset ids, one a line; what follows a ``#`` is a remark."""
    try:
        if path.stat().st_size > _LIST_BYTES:
            raise SourceError(f"{path} is too long for a list of asset ids.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is no list of asset ids: {getattr(error, 'strerror', 'it is no text')}.") from error
    ids = [word for line in lines if (word := line.partition("#")[0].strip())]
    wrong = next((word for word in ids if not _ASSET.fullmatch(word)), None)
    if wrong is not None:
        raise SourceError(f"{path} has {wrong[:80]!r}, which is no asset id (32 hex digits); give one id a line.")
    if not ids:
        raise SourceError(f"{path} has no asset ids.")
    return [Item("asset", word, word) for word in ids]


def _bucket(url: str) -> list[Item]:
    from stores.s3.folder import S3Folder

    try:
        location = S3Location.parse(url)
    except ValueError as error:
        raise SourceError(f"{url!r}: {error}.") from error
    keys = [key for key in S3Folder(url).keys() if PurePosixPath(key).suffix.lower() in SUFFIXES]  # noqa: SIM118
    if not keys:
        raise SourceError(f"{url!r} has no objects that end in {', '.join(sorted(SUFFIXES))}.")
    return [Item("s3", f"s3://{location.bucket}/{key}", url, key) for key in keys]
