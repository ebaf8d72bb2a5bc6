"""Assets, uploads, what was computed of them, and configuration in SQLite: shared by the processes of one machine."""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from stores.documents import Documents
from stores.records import (
    OBJECT_COLUMNS,
    PLACE_BYTES,
    Asset,
    ClassCount,
    Features,
    PictureFaces,
    PictureObjects,
    Vector,
    from_blob,
    from_face_blobs,
    from_micros,
    stacked_faces,
    tags_by_asset,
    to_blob,
    to_micros,
)
from stores.sqlite.engine import SqliteRepository
from stores.uploads import ANYONE, Addition, Upload, Uploads, Withdrawal, earliest, with_upload, without_upload
from vision.media.sniff import MediaKind
from vision.objects.tags import Tag

FACES_TABLE = """CREATE TABLE faces (
    asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
    places BLOB NOT NULL, vectors BLOB NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (asset_id, model_version))"""
UPLOADS_TABLE = """CREATE TABLE uploads (
    asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, owner TEXT NOT NULL, filename TEXT NOT NULL,
    uploaded_at INTEGER NOT NULL, withdrawn INTEGER NOT NULL, PRIMARY KEY (asset_id, owner)) WITHOUT ROWID"""
MOVE_UPLOADS = (
    UPLOADS_TABLE,
    f"INSERT INTO uploads SELECT asset_id, '{ANYONE}', filename, uploaded_at, 0 FROM assets",  # noqa: S608 (a constant)
    "ALTER TABLE assets DROP COLUMN filename",
    "ALTER TABLE assets DROP COLUMN uploaded_at",
)
"""From the time when an asset had one upload, in its own row."""
LABELS_TABLE = """CREATE TABLE labels (
    asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, label TEXT NOT NULL,
    PRIMARY KEY (asset_id, label)) WITHOUT ROWID"""
UPLOADS_BY_TIME = "CREATE INDEX uploads_by_time ON uploads (uploaded_at, asset_id)"
OWNERS = ("CREATE INDEX uploads_of_owner ON uploads (owner)",)
OBJECTS = (
    """CREATE TABLE picture_objects (
        asset_id TEXT PRIMARY KEY REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL, kind TEXT NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, labels TEXT NOT NULL, places BLOB NOT NULL,
        created_at INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE picture_tags (
        label TEXT NOT NULL, asset_id TEXT NOT NULL REFERENCES picture_objects ON DELETE CASCADE,
        confidence REAL NOT NULL, at_once INTEGER NOT NULL, PRIMARY KEY (label, asset_id)) WITHOUT ROWID""",
    "CREATE INDEX picture_tags_of_asset ON picture_tags (asset_id)",
)
"""Came with version 15. Posters of videos have no tags: their films have."""
SCHEMA = (
    """CREATE TABLE assets (
        asset_id TEXT PRIMARY KEY, kind TEXT NOT NULL, format TEXT NOT NULL,
        content_type TEXT NOT NULL, file_size INTEGER NOT NULL,
        width INTEGER, height INTEGER, duration REAL, fps REAL, frame_count INTEGER, rotation INTEGER,
        has_audio INTEGER, deleting INTEGER NOT NULL, error_message TEXT) WITHOUT ROWID""",
    """CREATE TABLE features (
        asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
        kind TEXT NOT NULL, raw BLOB NOT NULL, unit BLOB NOT NULL, created_at INTEGER NOT NULL,
        indexed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (asset_id, model_version))""",
    "CREATE INDEX features_unindexed ON features (model_version, created_at) WHERE indexed = 0",
    "CREATE TABLE config (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID",
    FACES_TABLE,
    UPLOADS_TABLE,
    LABELS_TABLE,
    UPLOADS_BY_TIME,
)
UPLOAD_COLUMNS = ["owner", "filename", "uploaded_at", "withdrawn"]
ASSET_COLUMNS = [field.name for field in fields(Asset) if field.name not in ("filename", "uploaded_at", "uploads")]
ASSETS = f"SELECT {', '.join(ASSET_COLUMNS + UPLOAD_COLUMNS)} FROM assets JOIN uploads USING (asset_id) "  # noqa: S608
UPLOADS = f"SELECT {', '.join(UPLOAD_COLUMNS)} FROM uploads WHERE asset_id = ?"  # noqa: S608 (a constant)
OLD = "NOT EXISTS (SELECT 1 FROM uploads WHERE asset_id = assets.asset_id AND uploaded_at >= ?)"
FEATURES = "SELECT asset_id, model_version, kind, raw, unit, created_at FROM features "
FACES = "SELECT asset_id, model_version, places, vectors, created_at FROM faces "
OBJECT_FIELDS = [field.name for field in fields(PictureObjects)]
OBJECTS_OF = f"SELECT {', '.join(OBJECT_FIELDS)} FROM picture_objects "  # noqa: S608 (constants)
PUT_OBJECTS = f"INSERT INTO picture_objects ({', '.join(OBJECT_FIELDS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
DERIVED = """SELECT (SELECT count(*) FROM features WHERE asset_id = ?1)
    + (SELECT count(*) FROM faces WHERE asset_id = ?1) + (SELECT count(*) FROM picture_objects WHERE asset_id = ?1)"""
# One bound JSON array in place of many placeholders: no limit on ids, and one cached statement.
AMONG = "asset_id IN (SELECT value FROM json_each(?))"
INLINE_IDS = 64
"""Keyed reads of up to this many ids run on the event loop."""
FEW_IDS: Final = 2000
"""Of up to this many assets each is looked up and all are sorted; of more, the newest are tried one after the other."""
FACES_AT_ONCE: Final = 5000
"""Pictures whose faces are in memory at once."""


class SqliteDocuments(SqliteRepository, Documents):
    """Tables ``assets``, ``uploads``, ``labels``, ``features``, ``faces``, ``config``, and those of objects."""

    async def insert_asset(self, asset: Asset, owner: str = ANYONE) -> bool:
        names, marks = ", ".join(ASSET_COLUMNS), ", ".join("?" * len(ASSET_COLUMNS))
        sql = f"INSERT INTO assets ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 (constants)
        values = [getattr(asset, name) for name in ASSET_COLUMNS]
        upload = Upload(owner, asset.filename, asset.uploaded_at)

        def insert(connection: sqlite3.Connection) -> bool:
            inserted = connection.execute(sql, values).rowcount == 1
            if inserted:
                _put_uploads(connection, asset.asset_id, [upload])
            return inserted

        return await self._engine.write(insert)

    async def add_upload(self, asset_id: str, upload: Upload) -> Addition:
        def add(connection: sqlite3.Connection) -> Addition:
            uploads = _uploads_of_living(connection, asset_id)
            if not uploads:
                return ""
            added = set(with_upload(uploads, upload)) - set(uploads)
            _put_uploads(connection, asset_id, added)
            return "added" if added else "there"

        return await self._engine.write(add)

    async def add_label(self, asset_id: str, label: str) -> bool:
        def add(connection: sqlite3.Connection) -> bool:
            sql = "INSERT INTO labels SELECT asset_id, ? FROM assets WHERE asset_id = ? AND NOT deleting"
            connection.execute(f"{sql} ON CONFLICT DO NOTHING", (label, asset_id))
            sql = "SELECT 1 FROM assets WHERE asset_id = ? AND NOT deleting"
            return connection.execute(sql, (asset_id,)).fetchone() is not None

        return await self._engine.write(add)

    async def labelled(self, asset_ids: Iterable[str], labels: Iterable[str]) -> set[str]:
        sql = f"SELECT asset_id FROM labels WHERE {AMONG} AND label IN (SELECT value FROM json_each(?))"  # noqa: S608
        return {row[0] for row in await self._engine.read(sql, json.dumps(list(asset_ids)), json.dumps(list(labels)))}

    async def withdraw(self, asset_id: str, owner: str, clients: Container[str]) -> Withdrawal:
        def withdraw(connection: sqlite3.Connection) -> Withdrawal:
            outcome, left = without_upload(_uploads_of_living(connection, asset_id), owner, clients)
            if outcome == "last":
                connection.execute("UPDATE assets SET deleting = 1 WHERE asset_id = ?", (asset_id,))
            elif outcome == "withdrawn":
                connection.execute("DELETE FROM uploads WHERE asset_id = ?", (asset_id,))
                _put_uploads(connection, asset_id, left)
            return outcome

        return await self._engine.write(withdraw, reserve=True)

    async def uploaded_by(self, owner: str) -> tuple[int, int]:
        sql = """SELECT count(*), total(file_size) FROM uploads JOIN assets USING (asset_id)
            WHERE owner = ? AND NOT withdrawn AND NOT deleting"""
        ((files, size),) = await self._engine.read(sql, owner)
        return int(files), int(size)

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        ids = list(asset_ids)
        rows = await self._engine.read(f"{ASSETS} WHERE {AMONG}", json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {asset.asset_id: asset for asset in _assets(rows)}

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        page = "asset_id IN (SELECT asset_id FROM assets WHERE asset_id > ? ORDER BY asset_id LIMIT ?)"
        return _assets(await self._engine.read(f"{ASSETS} WHERE {page} ORDER BY asset_id", after, limit))

    async def newest_assets(
        self,
        kind: MediaKind | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 1000,
        among: Collection[str] | None = None,
    ) -> list[Asset]:
        moment, asset_id = (to_micros(before[0]), before[1]) if before else (2**62, "")
        chosen, ids = "", []
        if among is not None:
            # With the sign SQLite does not look each of them up, but goes by the time.
            sign, ids = "" if len(among) <= FEW_IDS else "+", [json.dumps(list(among))]
            chosen = f"{sign}uploads.{AMONG} AND"
        # Withdrawn uploads have the time 0, so where any is left the latest one of an asset is none of them.
        page = await self._engine.read(
            f"""SELECT asset_id FROM uploads JOIN assets USING (asset_id)
               WHERE {chosen} (uploaded_at, asset_id) < (?, ?) AND NOT deleting AND (? IS NULL OR kind = ?)
               AND NOT EXISTS (SELECT 1 FROM uploads AS later WHERE later.asset_id = uploads.asset_id
                   AND (later.uploaded_at, later.owner) > (uploads.uploaded_at, uploads.owner))
               ORDER BY uploaded_at DESC, asset_id DESC LIMIT ?""",  # noqa: S608 (constants)
            *(*ids, moment, asset_id, kind, kind, limit),
        )
        assets = await self.get_assets(row[0] for row in page)
        return [assets[row[0]] for row in page if row[0] in assets]

    async def old_assets(self, before: datetime, after: str = "", limit: int = 1000) -> list[Asset]:
        old = f"asset_id IN (SELECT asset_id FROM assets WHERE asset_id > ? AND {OLD} ORDER BY asset_id LIMIT ?)"  # noqa: S608
        sql = f"{ASSETS} WHERE {old} ORDER BY asset_id"
        return _assets(await self._engine.read(sql, after, to_micros(before), limit))

    async def expire_asset(self, asset_id: str, before: datetime) -> bool:
        sql = f"UPDATE assets SET deleting = 1 WHERE asset_id = ? AND {OLD}"  # noqa: S608 (a constant)
        return await self._engine.execute(sql, asset_id, to_micros(before), reserve=True) > 0

    async def count_assets(self) -> dict[MediaKind, int]:
        return dict(await self._engine.read("SELECT kind, COUNT(*) FROM assets WHERE NOT deleting GROUP BY kind"))

    async def hidden_from(self, owner: str) -> set[str]:
        sql = """SELECT asset_id FROM assets WHERE deleting UNION SELECT asset_id FROM uploads WHERE owner = ?
            AND withdrawn AND EXISTS (SELECT 1 FROM uploads AS other
                WHERE other.asset_id = uploads.asset_id AND other.owner <> uploads.owner)"""
        return {row[0] for row in await self._engine.read(sql, owner)}

    async def mark_deleting(self, asset_id: str) -> bool:
        return (
            await self._engine.execute("UPDATE assets SET deleting = 1 WHERE asset_id = ?", asset_id, reserve=True) > 0
        )

    async def delete_asset(self, asset_id: str) -> int:
        def delete(connection: sqlite3.Connection) -> int:
            ((derived,),) = connection.execute(DERIVED, (asset_id,))
            return int(connection.execute("DELETE FROM assets WHERE asset_id = ?", (asset_id,)).rowcount + derived)

        return await self._engine.write(delete, reserve=True)

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        await self._engine.execute("UPDATE assets SET error_message = ? WHERE asset_id = ?", message, asset_id)

    async def put_features(self, features: Features) -> bool:
        # The check is part of the statement, so no other process can flag the asset in between.
        return await self._put_of_asset(
            """INSERT INTO features (asset_id, model_version, created_at, kind, raw, unit)
               SELECT ?, ?, ?, ?, ?, ? FROM assets WHERE asset_id = ? AND NOT deleting
               ON CONFLICT DO UPDATE SET kind = excluded.kind, raw = excluded.raw, unit = excluded.unit,
               created_at = excluded.created_at, indexed = 0""",
            features,
            features.kind,
            to_blob(features.raw),
            to_blob(features.unit),
        )

    async def without_features(self, model_version: str, limit: int) -> list[Asset]:
        return await self._without("features", ("image", "video"), model_version, limit)

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        ids = list(asset_ids)
        sql = f"{FEATURES} WHERE model_version = ? AND {AMONG}"
        rows = await self._engine.read(sql, model_version, json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _features(row) for row in rows}

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        sql = f"{FEATURES} WHERE model_version = ? AND indexed = 0 ORDER BY created_at LIMIT ?"
        return [_features(row) for row in await self._engine.read(sql, model_version, limit)]

    async def unindexed_models(self) -> list[str]:
        rows = await self._engine.read("SELECT DISTINCT model_version FROM features WHERE indexed = 0")
        return [row[0] for row in rows]

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        await self._engine.execute_many(
            "UPDATE features SET indexed = 1 WHERE asset_id = ? AND model_version = ? AND created_at = ?",
            [(item.asset_id, item.model_version, to_micros(item.created_at)) for item in features],
        )

    async def mark_unindexed(self, model_version: str) -> None:
        sql = "UPDATE features SET indexed = 0 WHERE model_version = ? AND indexed = 1"
        await self._engine.execute(sql, model_version, reserve=True)

    async def put_faces(self, faces: PictureFaces) -> bool:
        return await self._put_of_asset(
            """INSERT INTO faces (asset_id, model_version, created_at, places, vectors)
               SELECT ?, ?, ?, ?, ? FROM assets WHERE asset_id = ? AND NOT deleting
               ON CONFLICT DO UPDATE SET places = excluded.places, vectors = excluded.vectors,
               created_at = excluded.created_at""",
            faces,
            to_blob(faces.places),
            to_blob(faces.vectors),
        )

    async def get_faces(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, PictureFaces]:
        ids = list(asset_ids)
        sql = f"{FACES} WHERE model_version = ? AND {AMONG}"
        rows = await self._engine.read(sql, model_version, json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _faces(row) for row in rows}

    async def without_faces(self, model_version: str, limit: int, since: datetime | None = None) -> list[Asset]:
        return await self._without("faces", ("image",), model_version, limit, since)

    async def face_vectors(
        self, model_version: str, among: Collection[str] | None = None
    ) -> AsyncIterator[tuple[list[str], Vector]]:
        columns = f"length(places) / {PLACE_BYTES}, vectors FROM faces WHERE model_version = ?"
        if among is not None:
            sql = f"SELECT asset_id, {columns} AND {AMONG}"
            yield stacked_faces(await self._engine.read(sql, model_version, json.dumps(list(among))))
            return
        # In the order of the rows, so that the file is read from its beginning to its end.
        sql = f"SELECT rowid, asset_id, {columns} AND rowid > ? ORDER BY rowid LIMIT ?"
        after = 0
        while rows := await self._engine.read(sql, model_version, after, FACES_AT_ONCE):
            after = rows[-1][0]
            yield stacked_faces(row[1:] for row in rows)

    async def put_objects(self, objects: PictureObjects) -> bool:
        tags = objects.tags if objects.kind == "image" else ()
        rows = [(tag.label, objects.asset_id, tag.confidence, tag.at_once) for tag in tags]
        values = (
            *(objects.asset_id, objects.model_version, objects.kind, objects.width, objects.height),
            *(json.dumps(objects.labels), to_blob(objects.places), to_micros(objects.created_at)),
        )

        def put(connection: sqlite3.Connection) -> bool:
            alive = "SELECT 1 FROM assets WHERE asset_id = ? AND NOT deleting"
            if connection.execute(alive, (objects.asset_id,)).fetchone() is None:
                return False
            connection.execute("DELETE FROM picture_objects WHERE asset_id = ?", (objects.asset_id,))
            connection.execute(PUT_OBJECTS, values)
            connection.executemany("INSERT INTO picture_tags VALUES (?, ?, ?, ?)", rows)
            connection.execute("UPDATE assets SET error_message = NULL WHERE asset_id = ?", (objects.asset_id,))
            return True

        return await self._engine.write(put)

    async def get_objects(self, asset_ids: Iterable[str]) -> dict[str, PictureObjects]:
        ids = list(asset_ids)
        rows = await self._engine.read(f"{OBJECTS_OF} WHERE {AMONG}", json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _objects(row) for row in rows}

    async def picture_tags(self, asset_ids: Iterable[str]) -> dict[str, tuple[Tag, ...]]:
        sql = f"""SELECT asset_id, label, confidence, at_once
            FROM picture_objects LEFT JOIN picture_tags USING (asset_id)
            WHERE kind = 'image' AND picture_objects.{AMONG} ORDER BY confidence DESC, label"""  # noqa: S608 (constants)
        ids = list(asset_ids)
        return tags_by_asset(await self._engine.read(sql, json.dumps(ids), inline=len(ids) <= INLINE_IDS))

    async def without_objects(self, model_version: str, limit: int, since: datetime | None = None) -> list[Asset]:
        return await self._without("picture_objects", ("image",), model_version, limit, since)

    async def pictures_with(self, labels: Sequence[str], least: float = 0.0) -> set[str]:
        return await self._having_all("picture_tags", labels, least)

    async def count_classes(self, without: Collection[str] = ()) -> tuple[list[ClassCount], int]:
        ids = json.dumps(list(without))
        sql = f"SELECT label, count(*), sum(at_once) FROM picture_tags WHERE NOT {AMONG} GROUP BY label ORDER BY label"  # noqa: S608
        rows = await self._engine.read(sql, ids)
        seen = f"SELECT count(*) FROM picture_objects WHERE kind = 'image' AND NOT {AMONG}"  # noqa: S608 (constants)
        ((looked_at,),) = await self._engine.read(seen, ids)
        return [ClassCount(*row) for row in rows], int(looked_at)

    async def get_config(self) -> dict[str, float]:
        return dict(await self._engine.read("SELECT name, value FROM config", inline=True))

    async def set_config(self, values: Mapping[str, float]) -> None:
        await self._engine.execute_many(
            "INSERT INTO config VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            list(values.items()),
        )

    async def owner_ids(self) -> AsyncIterator[str]:
        # Whoever has features, faces or objects has a record: they reference it.
        sql = """SELECT asset_id FROM features UNION SELECT asset_id FROM faces
            UNION SELECT asset_id FROM picture_objects"""
        for (asset_id,) in await self._engine.read(sql):
            yield asset_id

    async def _without(
        self, table: str, kinds: Sequence[MediaKind], model_version: str, limit: int, since: datetime | None = None
    ) -> list[Asset]:
        """Return assets of which a table has no row of one model, see ``without_features``."""
        late = "asset_id IN (SELECT asset_id FROM uploads WHERE uploaded_at >= ?) AND" if since else ""
        rows = await self._engine.read(
            f"""SELECT asset_id FROM assets WHERE {late} kind IN (SELECT value FROM json_each(?)) AND NOT deleting
               AND error_message IS NULL AND NOT EXISTS (SELECT 1 FROM {table} AS computed
                   WHERE computed.asset_id = assets.asset_id AND model_version = ?) LIMIT ?""",  # noqa: S608 (constants)
            *(*([to_micros(since)] if since else []), json.dumps(list(kinds)), model_version, limit),
        )
        return list((await self.get_assets(row[0] for row in rows)).values())

    async def _put_of_asset(self, sql: str, item: Features | PictureFaces, *values: Any) -> bool:
        """Store a record of an asset and clear the asset's error; False if the asset is unknown or being deleted."""

        def put(connection: sqlite3.Connection) -> bool:
            key = (item.asset_id, item.model_version, to_micros(item.created_at))
            stored = connection.execute(sql, (*key, *values, item.asset_id)).rowcount
            if stored == 1:
                clear = "UPDATE assets SET error_message = NULL WHERE asset_id = ?"
                connection.execute(clear, (item.asset_id,))
            return stored == 1

        return await self._engine.write(put)


def _assets(rows: Iterable[tuple[Any, ...]]) -> list[Asset]:
    """Return the assets of rows, of which an asset has one for each upload."""
    by_asset: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_asset.setdefault(row[0], []).append(row)
    return [_asset(each) for each in by_asset.values()]


def _asset(rows: list[tuple[Any, ...]]) -> Asset:
    """Return the asset of rows with one upload each."""
    values = dict(zip(ASSET_COLUMNS, rows[0], strict=False))
    values["deleting"] = bool(values["deleting"])
    if values["has_audio"] is not None:
        values["has_audio"] = bool(values["has_audio"])
    uploads = tuple(_upload(*row[len(ASSET_COLUMNS) :]) for row in rows)
    first = earliest(uploads)
    return Asset(**values, filename=first.filename, uploaded_at=first.uploaded_at, uploads=uploads)


def _upload(owner: str, filename: str, uploaded_at: int, withdrawn: int) -> Upload:
    return Upload(owner, filename, from_micros(uploaded_at), bool(withdrawn))


def _uploads_of_living(connection: sqlite3.Connection, asset_id: str) -> Uploads:
    """Return the uploads of an asset; none if it is unknown or being deleted."""
    living = "EXISTS (SELECT 1 FROM assets WHERE asset_id = uploads.asset_id AND NOT deleting)"
    return tuple(_upload(*row) for row in connection.execute(f"{UPLOADS} AND {living}", (asset_id,)))


def _put_uploads(connection: sqlite3.Connection, asset_id: str, uploads: Iterable[Upload]) -> None:
    rows = [(asset_id, each.owner, each.filename, to_micros(each.uploaded_at), each.withdrawn) for each in uploads]
    connection.executemany("REPLACE INTO uploads VALUES (?, ?, ?, ?, ?)", rows)


def _features(row: tuple[Any, ...]) -> Features:
    asset_id, model_version, kind, raw, unit, created_at = row
    return Features(asset_id, model_version, kind, from_blob(raw), from_blob(unit), from_micros(created_at))


def _faces(row: tuple[Any, ...]) -> PictureFaces:
    asset_id, model_version, places, vectors, created_at = row
    return PictureFaces(asset_id, model_version, *from_face_blobs(places, vectors), from_micros(created_at))


def _objects(row: tuple[Any, ...]) -> PictureObjects:
    values = dict(zip(OBJECT_FIELDS, row, strict=True))
    places = from_blob(values["places"]).reshape(-1, OBJECT_COLUMNS)
    labels, created_at = tuple(json.loads(values["labels"])), from_micros(values["created_at"])
    return PictureObjects(**values | {"labels": labels, "places": places, "created_at": created_at})
