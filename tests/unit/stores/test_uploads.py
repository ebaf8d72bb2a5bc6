"""What uploads of the same bytes by several clients come to."""

from dataclasses import replace
from datetime import timedelta

from stores.uploads import ANYONE, Upload, earliest, with_upload, without_upload
from tests.stores.samples import MOMENT, make_asset

KEYS = frozenset("abc")
OWNERS = ["a", "b", "z", ANYONE]
A, B, OLD, NOBODY = [Upload(owner, f"{owner}.jpg", MOMENT + timedelta(seconds=n)) for n, owner in enumerate(OWNERS)]


def hidden(owner: str) -> Upload:
    return Upload(owner, "", MOMENT, withdrawn=True)


def test_the_earliest_is_not_one_that_was_withdrawn() -> None:
    assert earliest((B, A)) == A
    assert earliest((hidden("c"), B)) == B


def test_a_client_has_one_upload() -> None:
    assert with_upload((A,), B) == (A, B)
    assert with_upload((A, B), replace(A, filename="other.jpg")) == (A, B)
    assert with_upload((hidden("a"), B), A) == (B, A)


def test_a_client_takes_back_its_own() -> None:
    outcome, left = without_upload((A, B), "a", KEYS)
    assert outcome == "withdrawn"
    assert left[0] == B
    assert [(each.owner, each.filename, each.withdrawn) for each in left[1:]] == [("a", "", True)]
    assert without_upload(left, "a", KEYS) == ("of others", left)
    assert without_upload(left, "b", KEYS) == ("last", left)


def test_what_others_uploaded_stays() -> None:
    assert without_upload((A, B), "c", KEYS) == ("of others", (A, B))
    assert without_upload((), "c", KEYS) == ("unknown", ())


def test_what_is_nobodys_goes_with_any_delete() -> None:
    for nobodys in (OLD, NOBODY):
        assert without_upload((nobodys,), "a", KEYS)[0] == "last"
        assert without_upload((A, nobodys), "a", KEYS)[0] == "last"
        outcome, left = without_upload((nobodys, B), "a", KEYS)
        assert (outcome, [each.owner for each in left]) == ("withdrawn", ["b", "a"])


def test_without_keys_all_is_one_client() -> None:
    assert without_upload((A, B, OLD, NOBODY), ANYONE, {ANYONE})[0] == "last"


def test_a_client_sees_its_own_name_else_the_earliest_and_not_what_it_deleted() -> None:
    asset = replace(make_asset(1), filename=A.filename, uploaded_at=A.uploaded_at, uploads=(A, B, hidden("c")))
    seen = {owner: asset.seen_by(owner) for owner in ("a", "b", "c", "d", ANYONE)}
    names = {owner: each and (each.filename, each.uploaded_at) for owner, each in seen.items()}
    first = (A.filename, A.uploaded_at)
    assert names == {"a": first, "b": (B.filename, B.uploaded_at), "c": None, "d": first, ANYONE: first}
