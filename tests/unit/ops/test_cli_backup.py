"""visiongraph migrate, backup and restore, on the stores of the settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs import settings as settings_module
from ops.cli.main import commands
from stores.backup import BackupError
from stores.sqlite.database import VERSION


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("COLUMNS", "300")
    yield tmp_path
    settings_module.settings.cache_clear()


def run(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> str:
    monkeypatch.setenv("VISION_HOME", str(home))
    settings_module.settings.cache_clear()
    result = CliRunner().invoke(commands(["migrate", "backup", "restore"]), arguments)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_home_is_migrated_backed_up_and_restored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, backup, new = folder / "home", folder / "backup", folder / "new"
    assert run(monkeypatch, home, "migrate") == f"the documents have schema {VERSION} now, and are new\n"
    assert run(monkeypatch, home, "migrate") == f"the documents have schema {VERSION} already\n"
    said = run(monkeypatch, home, "backup", str(backup))
    assert said.startswith("backed up documents, objects, vectors: 1 files, ")
    assert said.endswith(f" in {backup}\n")
    assert run(monkeypatch, new, "restore", "--check", str(backup)).startswith(f"{backup} is whole: ")
    assert not new.exists()
    assert run(monkeypatch, new, "restore", str(backup)).startswith(f"restored {new}: documents, objects, vectors")
    with pytest.raises(BackupError, match="not empty"):
        run(monkeypatch, new, "restore", str(backup))


def test_a_backup_has_a_name_of_its_own_beside_the_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, folder / "home", "migrate")
    run(monkeypatch, folder / "home", "backup")
    [made] = folder.glob("backup-*")
    assert (made / "backup.json").exists()
