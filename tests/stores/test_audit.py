"""The audit trail: one contract, over every backend."""

from datetime import timedelta

import pytest

from stores.audit import MAX_TEXT, Audit, entry_id_at, new_entry
from stores.open import Stores
from tests.stores.samples import MOMENT

EARLIER = MOMENT - timedelta(seconds=1)
LATER = MOMENT + timedelta(seconds=1)


@pytest.fixture
def audit(stores: Stores) -> Audit:
    return stores.audit


async def test_entries_come_back_as_they_were_and_latest_first(audit: Audit) -> None:
    first = new_entry(
        MOMENT, "k1", "studio", "DELETE /api/v1/media/{asset_id}", "a" * 32, "200", removed={"objects": 2}
    )
    second = new_entry(LATER, "k2", "press", "POST /api/v1/upload-media", "b" * 32, "200")
    third = new_entry(LATER + timedelta(seconds=1), "", "operator", "keys create", "k2", "done")
    for each in (second, first, third):
        await audit.append(each)
    await audit.append(new_entry(EARLIER, "", "operator", "retention", "", "done"), reserve=True)
    assert (await audit.list(limit=3)) == [third, second, first]
    assert await audit.list(since=LATER) == [third, second]
    assert [await audit.list(key=key) for key in ("k1", "press", "nobody")] == [[first], [second], []]
    assert await audit.list(object_id="k2") == [third]
    assert [each.action for each in await audit.list(object_id="")] == ["retention"]
    assert await audit.list(since=LATER, key="operator") == [third]
    assert await audit.list(after=third.entry_id, limit=1) == [second]
    assert (await audit.list(after=second.entry_id))[0] == first


async def test_only_time_removes_entries(audit: Audit) -> None:
    for seconds in range(5):
        await audit.append(new_entry(MOMENT + timedelta(seconds=seconds), "", "w", "a", f"{seconds}", "200"))
    assert await audit.delete_before(MOMENT, 10) == 0
    assert await audit.delete_before(MOMENT + timedelta(seconds=3), 2) == 2
    assert await audit.delete_before(MOMENT + timedelta(seconds=3), 2) == 1
    assert [each.object_id for each in await audit.list()] == ["4", "3"]
    assert not {"update", "delete", "replace"} & {name for name in dir(audit) if not name.startswith("_")}


def test_texts_of_strangers_are_cut_and_harmless() -> None:
    entry = new_entry(MOMENT, "", "w" * 1000, "GET /x", "\x1b[31m\ud800\n", "200")
    assert len(entry.who) == MAX_TEXT
    assert entry.object_id.isprintable()
    assert entry.object_id.isascii()
    assert entry_id_at(MOMENT) < entry_id_at(LATER)
