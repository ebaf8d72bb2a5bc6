"""Folders of earlier versions, which had a file for each store: opened, nothing is lost and one file is left."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from stores.animals import animal_key
from stores.errors import StoreError
from stores.open import Stores
from stores.people import TraceBoxes
from stores.records import to_blob
from stores.shots import Shot, ShotFilter, to_json
from stores.sqlite import database as module
from stores.sqlite.database import SqliteDatabase
from stores.uploads import Upload
from tests.stores.children import exit_codes, spawn
from tests.stores.samples import MODEL, MOMENT, unit_vector

NOW = 1772600767123457
"""MOMENT in microseconds."""
ASSET = "a" * 32

OLD_SCHEMAS = {
    "documents": (
        2,
        """
        CREATE TABLE assets (
            asset_id TEXT PRIMARY KEY, filename TEXT NOT NULL, kind TEXT NOT NULL, format TEXT NOT NULL,
            content_type TEXT NOT NULL, file_size INTEGER NOT NULL, uploaded_at INTEGER NOT NULL,
            width INTEGER, height INTEGER, duration REAL, fps REAL, frame_count INTEGER, rotation INTEGER,
            has_audio INTEGER, deleting INTEGER NOT NULL, error_message TEXT) WITHOUT ROWID;
        CREATE TABLE features (
            asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
            kind TEXT NOT NULL, raw BLOB NOT NULL, unit BLOB NOT NULL, created_at INTEGER NOT NULL,
            indexed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (asset_id, model_version));
        CREATE INDEX features_unindexed ON features (model_version, created_at) WHERE indexed = 0;
        CREATE TABLE config (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
        CREATE TABLE faces (
            asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
            places BLOB NOT NULL, vectors BLOB NOT NULL, created_at INTEGER NOT NULL,
            PRIMARY KEY (asset_id, model_version));
        """,
    ),
    "jobs": (
        1,
        """
        CREATE TABLE jobs (
            job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, fingerprint TEXT NOT NULL,
            payload TEXT NOT NULL, created_at INTEGER NOT NULL, due_at INTEGER NOT NULL, status TEXT NOT NULL,
            progress REAL NOT NULL, message TEXT NOT NULL, started_at INTEGER, finished_at INTEGER, error TEXT,
            result TEXT, attempts INTEGER NOT NULL, checkpoint TEXT NOT NULL, worker TEXT,
            cancel_requested INTEGER NOT NULL);
        CREATE INDEX jobs_due ON jobs (due_at) WHERE status IN ('queued', 'running');
        CREATE INDEX jobs_newest ON jobs (created_at, job_id);
        CREATE INDEX jobs_subject ON jobs (subject, created_at, job_id);
        """,
    ),
    "people": (
        1,
        """
        CREATE TABLE video_indexes (
            asset_id TEXT PRIMARY KEY, models TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
            fps REAL NOT NULL, frame_count INTEGER NOT NULL, duration REAL NOT NULL, step INTEGER NOT NULL,
            cuts TEXT NOT NULL, trace_count INTEGER NOT NULL, indexed_at INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE traces (
            asset_id TEXT NOT NULL REFERENCES video_indexes ON DELETE CASCADE, trace_id INTEGER NOT NULL,
            first_frame INTEGER NOT NULL, last_frame INTEGER NOT NULL, first_time REAL NOT NULL,
            last_time REAL NOT NULL, face_count INTEGER NOT NULL, identity_uuid TEXT, vector BLOB NOT NULL,
            boxes BLOB NOT NULL, PRIMARY KEY (asset_id, trace_id));
        CREATE INDEX traces_of_identity ON traces (identity_uuid) WHERE identity_uuid IS NOT NULL;
        CREATE TABLE identities (
            identity_uuid TEXT PRIMARY KEY, name TEXT, models TEXT NOT NULL, vector BLOB NOT NULL,
            weight REAL NOT NULL, reference_ids TEXT NOT NULL, created_at INTEGER NOT NULL) WITHOUT ROWID;
        """,
    ),
    "shots": (
        1,
        """
        CREATE TABLE analyses (
            asset_id TEXT PRIMARY KEY, models TEXT NOT NULL, analyzed_at INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE analysed_shots (
            asset_id TEXT NOT NULL REFERENCES analyses ON DELETE CASCADE, place INTEGER NOT NULL,
            record TEXT NOT NULL, features BLOB, clip BLOB, text BLOB, PRIMARY KEY (asset_id, place));
        CREATE TABLE shots (
            shot_id TEXT PRIMARY KEY, asset_id TEXT NOT NULL, start_frame INTEGER NOT NULL,
            stored_at INTEGER NOT NULL, movement TEXT NOT NULL, tone TEXT, genre TEXT, tags TEXT NOT NULL,
            text_version TEXT, clip_version TEXT, record TEXT NOT NULL, features BLOB, clip BLOB, text BLOB);
        CREATE INDEX shots_of_asset ON shots (asset_id);
        CREATE INDEX shots_by_time ON shots
            (stored_at DESC, asset_id, start_frame, shot_id, movement, tone, genre, tags);
        CREATE TABLE library (revision INTEGER NOT NULL);
        INSERT INTO library VALUES (41);
        """,
    ),
    "analyses": (
        1,
        """
        CREATE TABLE analyses (
            analysis_id TEXT PRIMARY KEY, answer TEXT NOT NULL, picture BLOB, created_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL);
        CREATE INDEX analyses_expiry ON analyses (expires_at);
        """,
    ),
    "animals": (
        1,
        """
        CREATE TABLE animals (
            key TEXT PRIMARY KEY, animal_id TEXT NOT NULL, model_version TEXT NOT NULL, model_ids TEXT NOT NULL,
            reference_codes BLOB NOT NULL, template BLOB NOT NULL, created_at INTEGER NOT NULL,
            indexed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
        CREATE INDEX animals_unindexed ON animals (model_version, created_at) WHERE indexed = 0;
        CREATE INDEX animals_of_version ON animals (model_version);
        """,
    ),
}
SHOT = Shot(
    video_asset_id=ASSET,
    shot_index=0,
    start_frame=0,
    end_frame=49,
    start_timestamp=0.0,
    end_timestamp=2.0,
    keyframe_frame=25,
    keyframe_time=1.0,
    camera_movement="pan_left",
    movement_intensity=0.125,
    shot_size="wide",
    shot_angle="eye_level",
    framing="centered",
    analysis_timestamp=MOMENT,
    stored_at=MOMENT,
)
BOXES = TraceBoxes(
    np.arange(3), np.ones((3, 4), np.float32), np.ones(3, np.float32), np.array([True, False, True], np.bool_)
)
ONE, TEXT = to_blob(unit_vector(1)), to_blob(unit_vector(1, 384))
ROWS: dict[str, list[tuple[str, tuple[object, ...]]]] = {
    "documents": [
        (
            "assets",
            (ASSET, "film.mp4", "video", "MP4", "video/mp4", 9, NOW, 4, 3, 2.0, 25.0, 50, 0, 1, 0, None),
        ),
        ("features", (ASSET, MODEL, "video", ONE, ONE, NOW, 1)),
        ("config", ("similarity_threshold", 80.0)),
        ("faces", (ASSET, MODEL, to_blob(np.ones(16, np.float32)), ONE, NOW)),
    ],
    "jobs": [
        (
            "jobs",
            (
                *("job", "index", ASSET, "print", '{"fps": 5}', NOW, NOW, "queued", 0.5, "Waiting", NOW, None, None),
                *(None, 1, '{"frame": 70}', None, 0),
            ),
        )
    ],
    "people": [
        ("video_indexes", (ASSET, "faces@1", 4, 3, 25.0, 50, 2.0, 1, "[10, 20]", 1, NOW)),
        *[("traces", (ASSET, number, 0, 9, 0.0, 0.4, 3, "who", ONE, BOXES.packed())) for number in range(500)],
        ("identities", ("who", "Zoë", "faces@1", ONE, 3.0, f'["{ASSET}"]', NOW)),
    ],
    "shots": [
        ("analyses", (ASSET, "cuts@1", NOW)),
        ("analysed_shots", (ASSET, 0, to_json(SHOT), TEXT, None, None)),
        (
            "shots",
            (SHOT.shot_id, ASSET, 0, NOW, "pan left", None, None, "[]", "m@1", None, to_json(SHOT), None, None, TEXT),
        ),
    ],
    "analyses": [("analyses", ("analysis", '{"risk": 1}', b"\x00\xff", NOW, NOW + 10))],
    "animals": [("animals", (animal_key("DE-1"), "DE-1", "muzzle@1", "[60]", ONE * 2, ONE, NOW, 1))],
}


def file_of(folder: Path, store: str) -> Path:
    return folder / ("documents.sqlite" if store == "documents" else f"documents.{store}.sqlite")


def make_old(folder: Path, *stores: str) -> str:
    """A folder as the version before made it, with rows in every table; the URL of its documents."""
    for store in stores or OLD_SCHEMAS:
        version, schema = OLD_SCHEMAS[store]
        with closing(sqlite3.connect(file_of(folder, store))) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(schema)
            for table, row in ROWS[store]:
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.commit()
    return f"sqlite:///{file_of(folder, 'documents')}"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def tables_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows by table."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


def rows_of(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of an old folder by the tables that they are in now."""
    renamed = {("shots", "analyses"): "shot_analyses", ("shots", "library"): "shot_library"}
    tables = {
        renamed.get((store, table), table): rows
        for store in OLD_SCHEMAS
        for table, rows in tables_of(file_of(folder, store)).items()
    }
    # The name and the time of an asset became its first upload, of nobody.
    assets = tables["assets"]
    tables["uploads"] = [(row[0], "", row[1], row[6], 0) for row in assets]
    tables["assets"] = [(row[0], *row[2:6], *row[7:]) for row in assets]
    tables["identities"] = [(*row, b"") for row in tables["identities"]]  # nobody had been rejected
    tables["jobs"] = [(*row, "", "", "", "") for row in tables["jobs"]]  # of nobody
    tables["jobs"] = [(*row, None) for row in tables["jobs"]]  # and has ended before anybody was told
    tables["video_indexes"] = [(*row, None, 0) for row in tables["video_indexes"]]  # objects were not looked for
    tables["shots"] = [(*row, None) for row in tables["shots"]]
    empty = (
        "keys",
        "signing",
        "labels",
        "partial_uploads",
        "accounts",
        "audit",
        "deliveries",
        "subscriptions",
        "animal_prints",
        "object_tracks",
        "film_tags",
        "picture_objects",
        "picture_tags",
    )
    return tables | {name: [] for name in empty}


async def test_every_row_of_the_six_files_is_there(tmp_path: Path) -> None:
    url = make_old(tmp_path)
    stores = Stores(documents=url)
    (asset,) = await stores.documents.list_assets()
    assert (asset.filename, asset.uploaded_at) == ("film.mp4", MOMENT)
    assert asset.uploads == (Upload("", "film.mp4", MOMENT),)
    assert set(await stores.documents.get_features(MODEL, [ASSET])) == {ASSET}
    assert set(await stores.documents.get_faces(MODEL, [ASSET])) == {ASSET}
    assert await stores.documents.get_config() == {"similarity_threshold": 80}
    (job,) = await stores.jobs.list()
    assert (job.payload, job.checkpoint, job.attempts, job.due_at) == ({"fps": 5}, {"frame": 70}, 1, MOMENT)
    index = await stores.people.get_index(ASSET)
    assert index is not None
    assert index.cuts == (10, 20)
    assert len(await stores.people.list_traces(ASSET, identity_uuid="who")) == 500
    trace = await stores.people.get_trace(ASSET, 499)
    assert trace is not None
    np.testing.assert_array_equal(trace[1].detected, BOXES.detected)
    assert [identity.name for identity in await stores.people.list_identities()] == ["Zoë"]
    analysis = await stores.shots.get_analysis(ASSET)
    assert analysis is not None
    assert [shot.features is not None for shot in analysis.shots] == [True]
    assert [shot.shot_id for shot in await stores.shots.list_shots(ShotFilter(movement="pan"))] == [SHOT.shot_id]
    assert await stores.shots.revision() == 41
    kept = await stores.analyses.get("analysis", MOMENT)
    assert kept is not None
    assert kept.picture == b"\x00\xff"
    assert set(await stores.animals.get([animal_key("DE-1")])) == {animal_key("DE-1")}
    assert await stores.people.delete_index(ASSET)
    assert await stores.people.list_traces(ASSET) == []
    await stores.close()
    assert names_in(tmp_path) == {"documents.sqlite"}


async def test_the_file_is_as_a_new_one(tmp_path: Path) -> None:
    def schema(path: Path) -> dict[str, str]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            return {name: "".join(sql.split()) for name, sql in rows}

    before = tmp_path / "before"
    (tmp_path / "old").mkdir()
    url = make_old(tmp_path / "old")
    shutil.copytree(tmp_path / "old", before)
    for each in (url, f"sqlite:///{tmp_path}/new/documents.sqlite"):
        stores = Stores(documents=each)
        await stores.documents.ping()
        await stores.close()
    assert schema(tmp_path / "old/documents.sqlite") == schema(tmp_path / "new/documents.sqlite")
    assert tables_of(tmp_path / "old/documents.sqlite") == rows_of(before)


@pytest.mark.parametrize("some", [("documents",), ("jobs", "shots"), ("documents", "people"), ("animals",)])
async def test_a_folder_with_some_of_the_files(tmp_path: Path, some: tuple[str, ...]) -> None:
    url = make_old(tmp_path, *some)
    stores = Stores(documents=url)
    counts = {
        "documents": len(await stores.documents.list_assets()),
        "jobs": len(await stores.jobs.list()),
        "people": len(await stores.people.list_identities()),
        "shots": await stores.shots.count_shots(ShotFilter()),
        "analyses": await stores.analyses.delete_expired(MOMENT),
        "animals": await stores.animals.count(),
    }
    assert counts == {store: int(store in some and store != "analyses") for store in OLD_SCHEMAS}
    await stores.close()
    assert names_in(tmp_path) == {"documents.sqlite"}


async def test_processes_that_open_it_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    url = make_old(folder)
    shutil.copytree(folder, tmp_path / "before")
    children = [spawn("write_documents", url, str(1000 * child), "20") for child in range(4)]
    assert await asyncio.to_thread(exit_codes, children) == [0] * 4
    tables, before = tables_of(folder / "documents.sqlite"), rows_of(tmp_path / "before")
    for table in ("assets", "uploads"):
        assert len(tables.pop(table)) == len(before.pop(table)) + 80
    assert len(tables.pop("features")) == len(before.pop("features")) + 80
    assert tables == before
    assert names_in(folder) == {"documents.sqlite"}


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migration that dies at the named place: in the transaction, or after it and before the files are removed."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if request.param == "in the transaction":
        merge = module._merge

        def late(connection: sqlite3.Connection, old: Path, tables: dict[str, str]) -> None:
            merge(connection, old, tables)
            if "shots" in tables:
                die()

        monkeypatch.setattr(module, "_merge", late)
    else:
        monkeypatch.setattr(Path, "unlink", die)
    yield request.param
    monkeypatch.undo()


@pytest.mark.parametrize("killed", ["in the transaction", "before the removal"], indirect=True)
def test_a_migration_that_was_cut_short_is_finished_later(
    tmp_path: Path, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    make_old(folder)
    shutil.copytree(folder, tmp_path / "before")
    with pytest.raises(KeyboardInterrupt):
        SqliteDatabase(folder / "documents.sqlite")
    assert names_in(folder) >= {file_of(folder, store).name for store in OLD_SCHEMAS}
    monkeypatch.undo()
    asyncio.run(SqliteDatabase(folder / "documents.sqlite").close())
    assert tables_of(folder / "documents.sqlite") == rows_of(tmp_path / "before")
    assert names_in(folder) == {"documents.sqlite"}


async def test_a_file_that_an_older_version_uses_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEGACY_TIMEOUT_S", 0.1)
    url = make_old(tmp_path)
    with closing(sqlite3.connect(file_of(tmp_path, "people"))) as older:
        assert older.execute("SELECT count(*) FROM traces").fetchone() == (500,)
        with pytest.raises(StoreError, match=r"earlier version .* using documents\.people\.sqlite .*stop it"):
            await Stores(documents=url).documents.ping()
        older.execute("UPDATE traces SET identity_uuid = NULL")
        older.commit()
    stores = Stores(documents=url)
    assert len(await stores.people.list_traces(ASSET)) == 500
    assert await stores.people.list_traces(ASSET, identity_uuid="who") == []
    assert len(await stores.jobs.list()) == 1
    await stores.close()


async def test_a_file_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    url = make_old(tmp_path)
    with closing(sqlite3.connect(file_of(tmp_path, "jobs"))) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match=r"documents\.jobs\.sqlite has schema 9"):
        await Stores(documents=url).documents.ping()
    assert file_of(tmp_path, "jobs").exists()


MANY = 3000
STATEMENTS = (
    "CREATE TABLE faces",
    "CREATE TABLE jobs",
    "INSERT INTO uploads",
    "ALTER TABLE assets DROP",
    "PRAGMA user",
)


def make_version_1(path: Path) -> None:
    """A file of version 1: one with many assets, no faces, and no other store in it."""
    schema = OLD_SCHEMAS["documents"][1].partition("CREATE TABLE faces")[0]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; {schema}")
        row = next(row for table, row in ROWS["documents"] if table == "assets")
        rows = [(f"{number:032x}", *row[1:]) for number in range(MANY)]
        connection.executemany(f"INSERT INTO assets VALUES ({', '.join('?' * len(row))})", rows)
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_migration_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "documents.sqlite"
    make_version_1(path)
    before = tables_of(path)
    with spawn("open_database", str(path)) as child:
        assert child.stdout is not None
        assert any(line.startswith(statement) for line in child.stdout)
        child.kill()
    # Killed before its transaction was committed, so it is as if it had not begun.
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert tables_of(path) == before

    async def migrate() -> tuple[int, int]:
        stores = Stores(documents=f"sqlite:///{path}")
        try:
            return await stores.migrate()
        finally:
            await stores.close()

    assert asyncio.run(migrate()) == (1, module.VERSION)
    assert asyncio.run(migrate()) == (module.VERSION, module.VERSION)
    after = tables_of(path)
    assert len(after["assets"]) == len(after["uploads"]) == MANY


async def test_every_version_is_migrated_to_the_schema_of_a_new_file(tmp_path: Path) -> None:
    new = Stores(documents=f"sqlite:///{tmp_path}/new.sqlite")
    assert await new.migrate() == (0, module.VERSION)
    await new.close()
    wanted = {name: len(rows) for name, rows in tables_of(tmp_path / "new.sqlite").items()}
    make_version_1(tmp_path / "1.sqlite")
    path = tmp_path / "1.sqlite"
    for version in range(1, module.VERSION):
        # A file of each version on the way, which a program of that version would have left.
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)
            shutil.copy(path, tmp_path / f"of-{version}.sqlite")
            stores = Stores(documents=f"sqlite:///{tmp_path}/of-{version}.sqlite")
            assert await stores.migrate() == (version, module.VERSION)
            assert len(await stores.documents.list_assets(limit=MANY)) == MANY
            await stores.close()
            assert tables_of(tmp_path / f"of-{version}.sqlite").keys() == wanted.keys()
            for step in module.MIGRATIONS[version]:
                if isinstance(step, str):
                    connection.execute(step)
                else:
                    step(connection)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
