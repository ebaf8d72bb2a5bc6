"""visiongraph keys: made, listed, rotated and revoked on the store of the settings."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from configs import settings as settings_module
from ops.cli.keys import app, duration
from stores.keys import ApiKey
from stores.open import Stores


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()


def stored() -> list[ApiKey]:
    async def read() -> list[ApiKey]:
        stores = Stores.open(settings_module.settings())
        try:
            return await stores.keys.get_all()
        finally:
            await stores.close()

    return asyncio.run(read())


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_a_key_through_its_life() -> None:
    code, shown = run("create", "a studio", "--scope", "assets:read", "--rate", "high", "--expires", "90d")
    assert code == 0
    token = shown.split()[0]
    (key,) = stored()
    assert (key.name, key.scopes, key.rate) == ("a studio", ("assets:read",), "high")
    assert key.expires_at is not None
    assert timedelta(days=89) < key.expires_at - datetime.now(UTC) < timedelta(days=91)
    assert key.opens(token.encode(), datetime.now(UTC))
    code, listed = run("list")
    assert code == 0
    assert key.key_id in listed  # whole, in a narrow window too
    assert token not in listed
    code, shown = run("rotate", key.key_id, "--grace", "1h")
    newer = shown.split()[0]
    (key,) = stored()
    assert code == 0
    assert [key.opens(each.encode(), datetime.now(UTC)) for each in (token, newer)] == [True, True]
    assert not key.opens(token.encode(), datetime.now(UTC) + timedelta(hours=2))
    assert run("rotate", key.key_id)[0] == 0
    assert [stored()[0].opens(each.encode(), datetime.now(UTC)) for each in (token, newer)] == [False, False]
    assert run("revoke", key.key_id)[0] == 0
    assert not stored()[0].lives(datetime.now(UTC))
    assert [run(command, key.key_id)[0] for command in ("revoke", "rotate")] == [2, 2]


def test_quotas_of_a_key() -> None:
    assert run("create", "a studio", "--quota", "bytes=50GB,jobs=4", "--quota", "videos=none")[0] == 0
    (key,) = stored()
    assert key.quota == {"bytes": 50 * 10**9, "jobs": 4, "videos": None}
    code, shown = run("show", "a studio")
    assert code == 0
    assert key.key_id in shown
    assert re.search(r"bytes +0 +50,000,000,000", shown)
    assert re.search(r"videos +0 +none +20..-..-.. 00:00 UTC", shown)
    assert run("update", key.key_id, "--quota", "jobs=8", "--rate", "high")[0] == 0
    assert (stored()[0].quota, stored()[0].rate) == ({"bytes": 50 * 10**9, "jobs": 8, "videos": None}, "high")
    assert run("update", key.key_id, "--default-quota", "--quota", "files=9")[0] == 0
    assert (stored()[0].quota, stored()[0].rate) == ({"files": 9}, "high")
    assert [run("show", "nobody")[0], run("update", "nobody")[0], run("update", key.key_id, "--quota", "x")[0]] == [
        2
    ] * 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--quota", "bytes=lots"),
        ("--quota", "cpu=4"),
        ("--scope", "assets"),
        ("--scope", "everything:read"),
        ("--rate", "fast"),
        ("--expires", "soon"),
        ("--label", "a b"),
        ("--label", "a", "--scope", "admin"),
    ],
)
def test_what_makes_no_sense_makes_no_key(arguments: tuple[str, ...]) -> None:
    assert run("create", "n", *arguments)[0] == 2
    assert stored() == []


@pytest.mark.parametrize("text", ["", "0d", "5", "5y", "-1h", "1.5h", "999999d"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="30m, 12h or 90d"):
        duration(text)
    assert duration("90m") == timedelta(minutes=90)
