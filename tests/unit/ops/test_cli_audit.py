"""visiongraph audit and check --gone, on the stores of the settings."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from configs import settings as settings_module
from ops.cli.audit import moment
from ops.cli.main import commands
from stores.audit import new_entry
from stores.open import Stores
from tests.stores.samples import make_asset


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(commands(["keys", "audit", "check"]), arguments)
    return result.exit_code, result.output


def test_commands_are_in_the_trail_and_it_can_be_read() -> None:
    assert run("keys", "create", "a studio", "--quota", "jobs=2")[0] == 0
    key_id = run("keys", "list")[1].split("state")[1].split()[0]
    assert [run("keys", *each)[0] for each in (("update", key_id, "--rate", "high"), ("rotate", key_id))] == [0, 0]
    assert run("keys", "revoke", key_id)[0] == 0
    code, shown = run("audit", "--json", "--object", key_id)
    lines = [json.loads(line) for line in shown.splitlines()]
    assert (code, [line["action"] for line in lines]) == (
        0,
        [f"keys {x}" for x in ("revoke", "rotate", "update", "create")],
    )
    assert lines[3]["details"] == {"name": "a studio", "scopes": ["read", "write"], "quota": "jobs=2"}
    assert lines[0]["who"].startswith("operator ")
    assert "vg_" not in shown
    assert len(run("audit", "--json", "--limit", "2")[1].splitlines()) == 2
    assert run("audit", "--json", "--since", "2999-01-01")[1] == ""
    assert "keys rotate" in run("audit", "--since", "1h")[1]


def test_old_entries_are_removed_and_that_is_told() -> None:
    async def store(*days: int) -> None:
        stores = Stores.open(settings_module.settings())
        for each in days:
            at = datetime.now(UTC) - timedelta(days=each)
            await stores.audit.append(new_entry(at, "", "w", "a", f"{each}", "200"))
        await stores.close()

    asyncio.run(store(1, 89, 91, 400))
    assert run("audit", "--keep", "90d") == (0, "2 entries removed\n")
    left = [json.loads(line) for line in run("audit", "--json")[1].splitlines()]
    assert [line["object_id"] for line in left] == ["", "1", "89"]
    assert (left[0]["action"], left[0]["details"]) == ("audit keep", {"removed": 2, "days": 90.0})


def test_what_is_left_of_a_deleted_thing_is_found() -> None:
    asset = make_asset(1)

    async def store() -> None:
        stores = Stores.open(settings_module.settings())
        await stores.documents.insert_asset(asset)
        await stores.close()

    asyncio.run(store())
    code, shown = run("check", "--gone", asset.asset_id, "--gone", "f" * 32)
    assert code == 1
    assert f"{asset.asset_id}: 1 in documents: assets" in shown
    assert f"{'f' * 32}: nothing is left in any store" in shown
    assert run("check", "--gone", "f" * 32)[0] == 0


def test_moments() -> None:
    assert moment("2026-01-15") == datetime(2026, 1, 15, tzinfo=UTC)
    assert moment("2026-01-15T12:00+02:00").hour == 12
    assert abs(moment("2h") - (datetime.now(UTC) - timedelta(hours=2))) < timedelta(seconds=5)
    with pytest.raises(typer.BadParameter):
        moment("yesterday")
