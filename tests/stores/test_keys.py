"""API keys: one contract, over every backend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stores.keys import ApiKey, Keys, KeySecret, digest_of, key_id_of, new_key, new_token
from stores.open import Stores
from tests.stores.samples import make_asset

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)


@pytest.fixture
def keys(stores: Stores) -> Keys:
    return stores.keys


def key(number: int) -> ApiKey:
    secrets = (KeySecret(digest_of(b"%d" % number)), KeySecret("old", NOW))
    return ApiKey(f"id{number}", f"name {number}", ("read", "assets:write"), secrets, NOW + timedelta(seconds=number))


async def test_keys_come_back_as_they_were_and_oldest_first(keys: Keys) -> None:
    given = [key(2), replace(key(1), rate="high", labels=("a", "b.c"), expires_at=NOW, revoked_at=NOW)]
    assert [await keys.insert(each) for each in given] == [True, True]
    assert not await keys.insert(replace(key(1), name="another"))
    assert await keys.get_all() == [given[1], given[0]]


async def test_a_key_is_revoked_once_and_has_no_new_secret_then(keys: Keys) -> None:
    await keys.insert(key(1))
    assert await keys.set_secrets("id1", [KeySecret("new")])
    assert await keys.revoke("id1", NOW)
    assert not await keys.revoke("id1", NOW + timedelta(days=1))
    assert not await keys.revoke("id2", NOW)
    assert not await keys.set_secrets("id1", [KeySecret("newer")])
    assert not await keys.set_secrets("id2", [KeySecret("newer")])
    (stored,) = await keys.get_all()
    assert (stored.revoked_at, stored.secrets) == (NOW, (KeySecret("new"),))


async def test_every_process_signs_with_the_same_secret(documents_url: str, keys: Keys) -> None:
    other = Stores(documents=documents_url)
    secret = await keys.signing_secret()
    assert len(secret) == 32
    assert [await keys.signing_secret(), await other.keys.signing_secret()] == [secret, secret]
    await other.close()


async def test_labels_stay_with_an_asset_and_go_with_it(stores: Stores) -> None:
    documents = stores.documents
    first, second = make_asset(1), make_asset(2)
    await documents.insert_asset(first)
    await documents.insert_asset(second)
    assert await documents.add_label(first.asset_id, "a")
    assert await documents.add_label(first.asset_id, "a")
    assert await documents.add_label(first.asset_id, "b")
    assert not await documents.add_label("f" * 32, "a")
    both = [first.asset_id, second.asset_id]
    assert await documents.labelled(both, ["b", "c"]) == {first.asset_id}
    assert await documents.labelled(both, ["c"]) == set()
    assert (await documents.get_assets(both))[first.asset_id] == first
    await documents.delete_asset(first.asset_id)
    await documents.insert_asset(first)
    assert await documents.labelled(both, ["a", "b"]) == set()
    await documents.mark_deleting(second.asset_id)
    assert not await documents.add_label(second.asset_id, "a")


def test_a_token_opens_its_key_alone_and_only_in_its_time() -> None:
    now = datetime.now(UTC)
    token, made = new_key("n", ["read"], expires_at=now + timedelta(hours=1))
    assert token.startswith(f"vg_{made.key_id}_")
    assert len(token) > 50
    assert key_id_of(token.encode()) == made.key_id
    assert made.opens(token.encode(), now)
    assert not made.opens(token.encode()[:-1], now)
    assert not made.opens(token.encode(), now + timedelta(hours=2))
    assert not replace(made, revoked_at=now).opens(token.encode(), now)
    newer, secret = new_token(made.key_id)
    rotated = replace(made, secrets=(replace(made.secrets[0], expires_at=now + timedelta(minutes=1)), secret))
    assert rotated.opens(token.encode(), now)
    assert rotated.opens(newer.encode(), now)
    assert not rotated.opens(token.encode(), now + timedelta(minutes=2))
    assert rotated.opens(newer.encode(), now + timedelta(minutes=2))
    assert token not in repr(made)


@pytest.mark.parametrize("token", [b"", b"vg", b"vg_abc", b"xy_abc_def", b"first-key", b"\xff_\xff_\xff"])
def test_what_is_no_token_of_ours_names_no_key(token: bytes) -> None:
    assert key_id_of(token) is None
