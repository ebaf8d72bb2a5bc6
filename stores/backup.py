"""Back up the embedded stores while they are used, and restore them.

A backup is a folder with all that a ``VISION_HOME`` has to have: ``documents.sqlite``, ``objects``, ``vectors`` and
``models.yaml``, beside ``SHA256SUMS``, which ``sha256sum -c`` reads too, and ``backup.json``. It is of one moment, that
of its documents: what was acknowledged before is in it. It is made under another name and then renamed, so that a
folder of its name is whole; an interrupted one is resumed by the next one to the same folder. So is a restored home.

Objects are immutable files, so those on the same disk are linked, not copied. They are taken before the documents, and
those that have come meanwhile once more after them; a file that was deleted between the two is marked as being deleted.
The vectors are taken before the documents, which say of those that are not there that they are to be indexed again.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from configs.settings import PREFIX, Settings
from stores.errors import StoreError
from stores.file.objects import TEMP

FORMAT: Final = 1
"""Of ``backup.json``, and of what the folder holds."""
SUMS, HEADER = "SHA256SUMS", "backup.json"
DOCUMENTS, OBJECTS, VECTORS, MODELS = "documents.sqlite", "objects", "vectors", "models.yaml"
RESTORING: Final = ".restoring"
"""In a home that is there already, what becomes it."""
VECTOR_ATTEMPTS: Final = 5
"""How often a table of vectors is copied whose files are cleaned up meanwhile."""
VERSIONS: Final = "_versions"
"""Folder of a table of LanceDB in which each version lists its files."""
INSTEAD: Final = {
    "documents": "mongodump, or snapshots of its host, taken while nothing is deleted",
    "objects": "versioning or replication of the bucket, or `rclone copy`, after the documents",
    "vectors": "nothing: they are made again from the documents",
}
"""What backs up a store that is not embedded."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is done, and bytes done and in all."""


class BackupError(StoreError):
    """A backup cannot be made, or is not what it was; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says of itself: ``made_at`` is when it began; ``schema`` is that of the documents."""

    made_at: str
    program: str
    schema: int
    files: int
    bytes: int
    sums: str
    stores: tuple[str, ...]
    format: int = FORMAT


@dataclass
class Copied:
    """What a copy has taken: bytes, and how many of them are links, in ``files`` by their names."""

    files: set[str] = field(default_factory=set)
    bytes: int = 0
    linked_bytes: int = 0


def elsewhere(settings: Settings) -> dict[str, str]:
    """Return the stores that are not embedded, and what backs them up."""
    urls = {"documents": settings.documents, "objects": settings.objects, "vectors": settings.vectors}
    return {name: INSTEAD[name] for name, url in urls.items() if not url.startswith(("sqlite:///", "file:///"))}


def backup(
    settings: Settings, target: Path, *, link: bool = True, on_progress: OnProgress = lambda *_: None
) -> tuple[Header, Copied]:
    """Back up the embedded stores of the settings into a new folder; other processes may go on to use them.

    :raises BackupError: no store is embedded, the folder exists, or another backup is being made into it.
    :raises StoreError: a store is damaged or of another version.
    """
    others = elsewhere(settings)
    if target.exists():
        raise BackupError(f"{target} exists already; name a folder that does not.")
    if "documents" in others:
        raise BackupError(f"There is nothing to back up here but what is in MongoDB: use {others['documents']}.")
    documents = Path(settings.documents.removeprefix("sqlite:///"))
    if not documents.exists():
        raise BackupError(f"There are no documents in {documents}; set {PREFIX}HOME to the folder that has them.")
    made_at = datetime.now(UTC)
    with _part_of(target) as part:
        copied = Copied()
        if "objects" not in others:
            objects = Path(settings.objects.removeprefix("file://"))
            _copy_objects(objects, part / OBJECTS, copied, link=link, on_progress=on_progress)
        if "vectors" not in others:
            _copy_vectors(Path(settings.vectors.removeprefix("file://")), part / VECTORS, copied, link=link)
        schema = _copy_documents(documents, part / DOCUMENTS)
        if "objects" not in others:
            _copy_objects(objects, part / OBJECTS, copied, link=link, on_progress=on_progress)
            _forget(part / OBJECTS, copied.files)
            _mark_deleted(part, documents)
        if "vectors" not in others:
            asyncio.run(_mark_unindexed(part))
        if settings.local_models.exists():
            shutil.copy2(settings.local_models, part / MODELS)
        sums, files, size = _hash(part, on_progress)
        stores = tuple(name for name in INSTEAD if name not in others)
        header = Header(made_at.isoformat(), version("visiongraph"), schema, files, size, sums, stores)
        (part / HEADER).write_text(json.dumps(asdict(header), indent=1) + "\n")
        os.sync()
        part.rename(target)
    return header, copied


def verify(source: Path, on_progress: OnProgress = lambda *_: None) -> Header:
    """Return what a backup says of itself, once every file in it was read. Raises BackupError for a damaged one."""
    header = _header(source)
    text = _read(source / SUMS)
    if hashlib.sha256(text).hexdigest() != header.sums:
        raise BackupError(f"{source / SUMS} was changed; take another backup.")
    done = 0
    for line in text.decode().splitlines():
        digest, _, name = line.partition("  ")
        if not (source / name).resolve().is_relative_to(source.resolve()):
            raise BackupError(f"{source / SUMS} names a file elsewhere: {name}")
        if _digest(source / name) != digest:
            raise BackupError(f"{source / name} is damaged or missing; take another backup.")
        done += (source / name).stat().st_size
        on_progress("verified", done, header.bytes)
    return header


def restore(
    settings: Settings, source: Path, *, link: bool = True, on_progress: OnProgress = lambda *_: None
) -> Header:
    """Restore a backup, verified, as the home of the settings, which has to be empty or not there.

    :raises BackupError: there is something, the backup is damaged, or a store of the settings is not under the home.
    """
    home = settings.home.resolve()
    if given := [name for name in INSTEAD if getattr(settings, f"{name}_url")]:
        names = ", ".join(f"{PREFIX}{name.upper()}_URL" for name in given)
        raise BackupError(f"A backup is restored into one folder: unset {names}, and set {PREFIX}HOME.")
    if not _is_free(home):
        raise BackupError(f"{home} is not empty, and stays as it is; set {PREFIX}HOME to a new folder.")
    header = verify(source, on_progress)
    with _part_of(home, home / RESTORING if home.exists() else None) as part:
        for name in (OBJECTS, VECTORS, MODELS):
            if (home / name).exists():
                (home / name).rename(part / name)
        copied, done = Copied(), 0
        for line in _read(source / SUMS).decode().splitlines():
            name = line.partition("  ")[2]
            # Databases are written in place.
            _take(source / name, part / name, copied, link=link and name.startswith(f"{OBJECTS}/"))
            done += (source / name).stat().st_size
            on_progress("restored", done, header.bytes)
        _forget(part, copied.files)
        os.sync()
        if part.parent == home:
            # A home may be a volume, or in a folder that only root may write to. Without documents it is none yet.
            for path in sorted(part.iterdir(), key=lambda path: path.name == DOCUMENTS):
                path.rename(home / path.name)
            part.rmdir()
        else:
            part.rename(home)
    return header


def _is_free(home: Path) -> bool:
    """Whether nothing is in a home, or what an interrupted restore has left."""
    if not home.exists():
        return True
    names = {path.name for path in home.iterdir()} if home.is_dir() else {"a file"}
    return not names or (RESTORING in names and names <= {RESTORING, OBJECTS, VECTORS, MODELS})


@contextmanager
def _part_of(target: Path, part: Path | None = None) -> Iterator[Path]:
    """Hold the folder that becomes another one. Raises BackupError while another process does."""
    part = part or target.with_name(f"{target.name}.part")
    # Keys are in it.
    part.mkdir(0o700, parents=True, exist_ok=True)
    descriptor = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"Another process is writing to {part}; wait for it, or name another folder.") from None
        yield part
    finally:
        os.close(descriptor)


def _header(source: Path) -> Header:
    try:
        values: dict[str, Any] = json.loads(_read(source / HEADER))
        if values["format"] > FORMAT:
            raise BackupError(f"{source} was made by a newer version ({values['program']}); restore it with that one.")
        return Header(**{**values, "stores": tuple(values["stores"])})
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{source / HEADER} is not that of a backup; take another backup.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BackupError(f"{path} cannot be read ({error.strerror}); is this a backup that was completed?") from error


def _take(source: Path, target: Path, copied: Copied, *, link: bool) -> bool:
    """Make a file another name or a copy of one that nobody changes; False where that is gone.

    What an interrupted backup has made is left as it is.
    """
    try:
        wanted = source.stat()
        if not _is_there(target, wanted):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if not (link and _linked(source, target)):
                ready = target.with_name(f"{target.name}.part")
                shutil.copy2(source, ready)
                ready.replace(target)
        made = target.stat()
    except FileNotFoundError:
        return False
    copied.bytes += made.st_size
    copied.linked_bytes += made.st_size if made.st_ino == wanted.st_ino else 0
    copied.files.add(str(target))
    return True


def _is_there(target: Path, wanted: os.stat_result) -> bool:
    try:
        there = target.stat()
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def _linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        return False
    return True


def _copy_objects(source: Path, target: Path, copied: Copied, *, link: bool, on_progress: OnProgress) -> None:
    """Take all objects that are not there yet, with the files of their content types."""
    target.mkdir(exist_ok=True)
    said = time.monotonic()
    for shard in sorted(source.iterdir()) if source.exists() else []:
        if shard.name == TEMP:
            continue
        for entry in os.scandir(shard):
            path = target / shard.name / entry.name
            if str(path) not in copied.files:
                _take(Path(entry.path), path, copied, link=link)
            if time.monotonic() > said + 0.1:
                said = time.monotonic()
                on_progress("objects", copied.bytes, 0)


def _copy_vectors(source: Path, target: Path, copied: Copied, *, link: bool) -> None:
    """Take all tables of vectors, each of one moment."""
    target.mkdir(exist_ok=True)
    for table in sorted(source.iterdir()) if source.exists() else []:
        for _ in range(VECTOR_ATTEMPTS):
            shutil.rmtree(target / table.name, ignore_errors=True)
            taken = Copied()
            if _copy_table(table, target / table.name, taken, link=link):
                copied.bytes += taken.bytes
                copied.linked_bytes += taken.linked_bytes
                break
        else:
            raise BackupError(f"The vectors in {table} are being reorganised; try again in a minute.")


def _copy_table(source: Path, target: Path, copied: Copied, *, link: bool) -> bool:
    """Take a table; False where files went meanwhile that it may need.

    Its files are written once, and the list of them that is a version last: so the lists are taken first.
    """
    target.mkdir()
    versions = [path for path in (source / VERSIONS).rglob("*") if path.is_file()]
    others = [path for path in source.rglob("*") if path.is_file() and VERSIONS not in path.relative_to(source).parts]
    taken = [_take(path, target / path.relative_to(source), copied, link=link) for path in [*versions, *others]]
    return all(taken)


def _copy_documents(source: Path, target: Path) -> int:
    """Take the database as it is at this moment; return the version of its schema."""
    from stores.sqlite.database import MERGED_SINCE, VERSION
    from stores.sqlite.engine import connect

    for name in (target.name, f"{target.name}-wal", f"{target.name}-shm", f"{target.name}-journal"):
        target.with_name(name).unlink(missing_ok=True)
    try:
        with closing(connect(source, query_only=True)) as documents, closing(connect(target)) as copy:
            # In one step, so one moment; writers go on, and their log is not cut meanwhile.
            documents.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            (schema,) = copy.execute("PRAGMA user_version").fetchone()
            problems = copy.execute("PRAGMA integrity_check(3)").fetchall()
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied ({error}).") from error
    if problems != [("ok",)]:
        raise BackupError(f"{source} is damaged ({problems[0][0]}); restore an earlier backup.")
    if not MERGED_SINCE <= schema <= VERSION:
        raise BackupError(f"{source} has schema {schema}, this program knows {VERSION}; use the program that wrote it.")
    return int(schema)


def _mark_deleted(part: Path, documents: Path) -> None:
    """Mark assets as being deleted whose bytes went between the two copies of the objects."""
    from stores.sqlite.engine import connect

    with closing(connect(part / DOCUMENTS)) as copy, closing(connect(documents, query_only=True)) as now:
        for (asset_id,) in copy.execute("SELECT asset_id FROM assets WHERE deleting = 0").fetchall():
            if (part / OBJECTS / asset_id[:2] / asset_id).exists():
                continue
            # One that is still there has lost its bytes before: a new upload heals it.
            record = now.execute("SELECT deleting FROM assets WHERE asset_id = ?", [asset_id]).fetchone()
            if record in (None, (1,)):
                copy.execute("UPDATE assets SET deleting = 1 WHERE asset_id = ?", [asset_id])


async def _mark_unindexed(part: Path) -> None:
    """Mark what is not among the vectors, so that it is put there by the first search."""
    from stores.lance.vectors import LanceVectors
    from stores.sqlite.engine import connect

    vectors = LanceVectors(f"file://{part / VECTORS}")
    try:
        with closing(connect(part / DOCUMENTS)) as copy:
            for table, key in (("features", "asset_id"), ("animals", "key")):
                marked = f"SELECT DISTINCT model_version FROM {table} WHERE indexed = 1"  # noqa: S608 (constants)
                for (model_version,) in copy.execute(marked).fetchall():
                    there = [(each,) async for each in vectors.ids_of(model_version)]
                    copy.execute("BEGIN")
                    copy.execute("CREATE TEMP TABLE there (id TEXT PRIMARY KEY)")
                    copy.executemany("INSERT OR IGNORE INTO there VALUES (?)", there)
                    lost = f"UPDATE {table} SET indexed = 0 WHERE model_version = ? AND {key} NOT IN there"  # noqa: S608
                    copy.execute(lost, [model_version])
                    copy.execute("DROP TABLE there")
                    copy.execute("COMMIT")
    finally:
        await vectors.close()


def _forget(folder: Path, wanted: set[str]) -> None:
    """Remove the files of a folder that an interrupted copy has left and this one did not want."""
    for path in folder.rglob("*"):
        if path.is_file() and str(path) not in wanted:
            path.unlink()


def _hash(part: Path, on_progress: OnProgress) -> tuple[str, int, int]:
    """Write the digest of every file; return that of the list, the number of files, and their bytes."""
    for name in (SUMS, HEADER):
        (part / name).unlink(missing_ok=True)
    paths = sorted(path for path in part.rglob("*") if path.is_file())
    size, done, lines = sum(path.stat().st_size for path in paths), 0, []
    for path in paths:
        lines.append(f"{_digest(path)}  {path.relative_to(part)}\n")
        done += path.stat().st_size
        on_progress("verified", done, size)
    text = "".join(lines).encode()
    (part / SUMS).write_bytes(text)
    return hashlib.sha256(text).hexdigest(), len(paths), size


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
