"""Kept analyses: one contract, over every backend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stores.analyses import Analyses, Analysis
from stores.errors import StoreError
from stores.open import Stores

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
ONE = Analysis("first", '{"risk_score": 12.5, "filename": "Zoë.jpg"}', b"\x00\xff", NOW, NOW + timedelta(days=30))


@pytest.fixture
def analyses(stores: Stores) -> Analyses:
    return stores.analyses


async def test_an_analysis_comes_back_as_it_was_kept(analyses: Analyses) -> None:
    without = replace(ONE, analysis_id="second", picture=None)
    await analyses.put(ONE)
    await analyses.put(without)
    assert await analyses.get("first", NOW) == ONE
    assert await analyses.get("second", NOW) == without
    assert await analyses.get("third", NOW) is None
    await analyses.ping()


async def test_it_is_gone_once_it_has_expired(analyses: Analyses) -> None:
    await analyses.put(ONE)
    assert await analyses.get("first", ONE.expires_at) == ONE
    assert await analyses.get("first", ONE.expires_at + timedelta(microseconds=1)) is None
    assert await analyses.get("first", NOW) == ONE  # only hidden so far


async def test_only_what_has_expired_is_removed(analyses: Analyses) -> None:
    late = replace(ONE, analysis_id="late", expires_at=NOW + timedelta(days=31))
    for kept in (ONE, replace(ONE, analysis_id="other"), late):
        await analyses.put(kept)
    assert await analyses.delete_expired(ONE.expires_at) == 0
    assert await analyses.delete_expired(ONE.expires_at + timedelta(seconds=1)) == 2
    assert await analyses.get("first", NOW) is None
    assert await analyses.get("late", NOW) == late


async def test_an_id_is_used_once(analyses: Analyses) -> None:
    await analyses.put(ONE)
    with pytest.raises(StoreError):
        await analyses.put(ONE)


async def test_analyses_survive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/documents.sqlite"
    first = Stores(documents=url)
    await first.analyses.put(ONE)
    await first.close()
    again = Stores(documents=url)
    assert await again.analyses.get("first", NOW) == ONE
    await again.close()


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match="sqlite"):
        _ = Stores(documents="redis://somewhere").analyses
