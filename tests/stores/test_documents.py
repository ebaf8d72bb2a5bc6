"""What every document store has to do."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from stores.documents import Documents
from stores.records import Asset
from stores.uploads import Upload, latest
from tests.stores.samples import MODEL, MOMENT, asset_id, make_asset, make_faces, make_features
from vision.media.sniff import MediaKind


async def test_assets_come_back_as_they_were(documents: Documents) -> None:
    image = make_asset(1)
    video = Asset(
        asset_id=asset_id(2),
        filename="v.mp4",
        kind="video",
        format="mp4",
        content_type="video/mp4",
        file_size=1,
        uploaded_at=MOMENT + timedelta(microseconds=1),
        duration=0.1 + 0.2,
        fps=30000 / 1001,
        frame_count=12,
        rotation=90,
        has_audio=False,
        error_message="x",
    )
    assert await documents.insert_asset(image)
    assert await documents.insert_asset(video)
    stored = await documents.get_assets([video.asset_id, asset_id(3), image.asset_id])
    assert stored == {image.asset_id: image, video.asset_id: video}
    assert stored[video.asset_id].has_audio is False


async def test_a_known_id_is_not_inserted_again(documents: Documents) -> None:
    first = make_asset(1)
    assert await documents.insert_asset(first)
    assert not await documents.insert_asset(replace(first, filename="other"))
    assert await documents.get_assets([first.asset_id]) == {first.asset_id: first}


async def test_one_of_many_simultaneous_inserts_wins(documents: Documents) -> None:
    won = await asyncio.gather(*(documents.insert_asset(make_asset(1)) for _ in range(16)))
    assert sorted(won) == [False] * 15 + [True]


async def test_any_number_of_ids_can_be_asked_for(documents: Documents) -> None:
    await asyncio.gather(*(documents.insert_asset(make_asset(number)) for number in range(100)))
    assert await documents.get_assets([]) == {}
    asked = [asset_id(number) for number in range(40_000)]
    assert set(await documents.get_assets(asked)) == set(asked[:100])


async def test_listing_pages_through_all_assets_in_id_order(documents: Documents) -> None:
    await asyncio.gather(*(documents.insert_asset(make_asset(number)) for number in range(25)))
    seen: list[str] = []
    sizes = []
    while page := await documents.list_assets(after=seen[-1] if seen else "", limit=10):
        seen += [asset.asset_id for asset in page]
        sizes.append(len(page))
    assert sizes == [10, 10, 5]
    assert seen == sorted(asset_id(number) for number in range(25))


async def test_the_newest_assets_come_first_in_pages_of_one_kind(documents: Documents) -> None:
    for number in range(25):
        moment = MOMENT + timedelta(seconds=number // 2)
        kind: MediaKind = "video" if number % 5 == 0 else "image"
        await documents.insert_asset(replace(make_asset(number), uploaded_at=moment, kind=kind), "first")
    # A later upload of another client brings an old asset to the front; its own name and time stay.
    await documents.add_upload(asset_id(3), Upload("second", "again.jpg", MOMENT + timedelta(hours=1)))
    await documents.mark_deleting(asset_id(7))

    seen: list[Asset] = []
    sizes = []
    place = None
    while page := await documents.newest_assets(before=place, limit=10):
        seen += page
        sizes.append(len(page))
        place = latest(page[-1].uploads), page[-1].asset_id
    assert sizes == [10, 10, 4]
    newest = sorted(
        (n for n in range(25) if n != 7), key=lambda n: (3600 if n == 3 else n // 2, asset_id(n)), reverse=True
    )
    assert [asset.asset_id for asset in seen] == [asset_id(number) for number in newest]
    assert (seen[0].filename, seen[0].uploaded_at) == (make_asset(3).filename, MOMENT + timedelta(seconds=1))
    videos = await documents.newest_assets("video")
    assert [asset.asset_id for asset in videos] == [asset_id(number) for number in newest if number % 5 == 0]
    assert await documents.newest_assets("audio") == []
    assert await documents.count_assets() == {"video": 5, "image": 19}


async def test_a_withdrawn_upload_does_not_bring_an_asset_to_the_front(documents: Documents) -> None:
    for number in range(2):
        await documents.insert_asset(replace(make_asset(number), uploaded_at=MOMENT + timedelta(seconds=number)), "a")
    await documents.add_upload(asset_id(0), Upload("b", "b.jpg", MOMENT + timedelta(hours=1)))
    assert [asset.asset_id for asset in await documents.newest_assets()] == [asset_id(0), asset_id(1)]
    assert await documents.withdraw(asset_id(0), "b", ["a", "b"]) == "withdrawn"
    assert [asset.asset_id for asset in await documents.newest_assets()] == [asset_id(1), asset_id(0)]


async def test_deleting_is_flagged_and_stays_visible(documents: Documents) -> None:
    asset = make_asset(1)
    await documents.insert_asset(asset)
    assert await documents.mark_deleting(asset.asset_id)
    assert await documents.mark_deleting(asset.asset_id)
    assert not await documents.mark_deleting(asset_id(2))
    assert await documents.get_assets([asset.asset_id]) == {asset.asset_id: replace(asset, deleting=True)}
    assert not await documents.insert_asset(asset)


async def test_errors_are_kept_until_cleared(documents: Documents) -> None:
    asset = make_asset(1)
    await documents.insert_asset(asset)
    await documents.set_asset_error(asset.asset_id, "no frame decodes")
    assert (await documents.get_assets([asset.asset_id]))[asset.asset_id].error_message == "no frame decodes"
    await documents.set_asset_error(asset.asset_id, None)
    await documents.set_asset_error(asset_id(2), "unknown asset, no error")
    assert (await documents.get_assets([asset.asset_id]))[asset.asset_id].error_message is None


async def test_features_come_back_bit_by_bit(documents: Documents) -> None:
    await documents.insert_asset(make_asset(1))
    await documents.set_asset_error(asset_id(1), "earlier failure")
    awkward = np.array([np.finfo(np.float32).smallest_subnormal, -0.0, 1 / 3, 3e38], np.float32)
    given = replace(make_features(1), raw=awkward)
    assert await documents.put_features(given)
    (stored,) = (await documents.get_features(MODEL, [asset_id(1), asset_id(2)])).values()
    assert stored.raw.dtype == np.float32
    assert stored.raw.tobytes() == awkward.tobytes()
    assert stored.unit.tobytes() == given.unit.tobytes()
    assert (stored.asset_id, stored.model_version, stored.kind) == (asset_id(1), MODEL, "image")
    assert stored.created_at == MOMENT
    assert (await documents.get_assets([asset_id(1)]))[asset_id(1)].error_message is None
    assert await documents.get_features("other/1", [asset_id(1)]) == {}


async def test_features_need_a_living_asset(documents: Documents) -> None:
    assert not await documents.put_features(make_features(1))
    await documents.insert_asset(make_asset(1))
    assert await documents.get_features(MODEL, [asset_id(1)]) == {}
    assert await documents.put_features(make_features(1))
    await documents.mark_deleting(asset_id(1))
    changed = replace(make_features(1), unit=make_features(2).unit)
    assert not await documents.put_features(changed)
    kept = (await documents.get_features(MODEL, [asset_id(1)]))[asset_id(1)]
    assert kept.unit.tobytes() == make_features(1).unit.tobytes()


async def test_deleting_an_asset_takes_its_features_along(documents: Documents) -> None:
    for number in (1, 2):
        await documents.insert_asset(make_asset(number))
        await documents.put_features(make_features(number))
        await documents.put_features(make_features(number, model="other/1"))
    assert await documents.delete_asset(asset_id(1))
    assert not await documents.delete_asset(asset_id(1))
    assert set(await documents.get_assets([asset_id(1), asset_id(2)])) == {asset_id(2)}
    for model in (MODEL, "other/1"):
        assert set(await documents.get_features(model, [asset_id(1), asset_id(2)])) == {asset_id(2)}
    await documents.insert_asset(make_asset(1))
    assert await documents.get_features(MODEL, [asset_id(1)]) == {}


async def test_a_delete_leaves_no_features_of_a_simultaneous_put(documents: Documents) -> None:
    outcomes = set()
    for number in range(60):
        await documents.insert_asset(make_asset(number))
        calls = [documents.put_features(make_features(number)), documents.delete_asset(asset_id(number))]
        if number % 2:
            calls.reverse()
        done = await asyncio.gather(*calls)
        outcomes.add(done[0 if number % 2 == 0 else 1])
        assert done[1 if number % 2 == 0 else 0]
        assert await documents.get_features(MODEL, [asset_id(number)]) == {}
        assert await documents.get_assets([asset_id(number)]) == {}
    if documents.type == "sqlite":  # one queue, so the order of the calls decides
        assert outcomes == {True, False}


async def test_features_wait_oldest_first_until_marked_as_indexed(documents: Documents) -> None:
    given = [make_features(number, created_at=MOMENT - timedelta(seconds=number)) for number in range(5)]
    for number, features in enumerate(given):
        await documents.insert_asset(make_asset(number))
        await documents.put_features(features)
    await documents.insert_asset(make_asset(9))
    await documents.put_features(make_features(9, model="other/1"))
    waiting = await documents.unindexed_features(MODEL, 3)
    assert [item.asset_id for item in waiting] == [asset_id(4), asset_id(3), asset_id(2)]
    assert sorted(await documents.unindexed_models()) == [MODEL, "other/1"]

    await documents.mark_indexed(waiting)
    assert [item.asset_id for item in await documents.unindexed_features(MODEL, 9)] == [
        asset_id(1),
        asset_id(0),
    ]
    await documents.mark_indexed([])
    await documents.mark_indexed(given)
    assert await documents.unindexed_features(MODEL, 9) == []
    assert await documents.unindexed_models() == ["other/1"]

    await documents.mark_unindexed(MODEL)
    assert len(await documents.unindexed_features(MODEL, 9)) == 5


async def test_pictures_without_features_of_a_model_are_found(documents: Documents) -> None:
    kinds: dict[int, MediaKind] = {1: "image", 2: "video", 3: "audio", 4: "image", 5: "image", 6: "image", 7: "image"}
    for number, kind in kinds.items():
        await documents.insert_asset(replace(make_asset(number), kind=kind))
    await documents.put_features(make_features(4))
    await documents.put_features(make_features(5, model="another"))
    await documents.set_asset_error(asset_id(6), "It is cut short.")
    await documents.mark_deleting(asset_id(7))
    found = await documents.without_features(MODEL, 10)
    assert {asset.asset_id: asset.kind for asset in found} == {asset_id(n): kinds[n] for n in (1, 2, 5)}
    assert len(await documents.without_features(MODEL, 2)) == 2
    for number in (1, 2, 5):
        await documents.put_features(make_features(number))
    assert await documents.without_features(MODEL, 10) == []


async def test_features_replaced_meanwhile_are_not_marked_as_indexed(documents: Documents) -> None:
    await documents.insert_asset(make_asset(1))
    old, new = make_features(1), make_features(1, created_at=MOMENT + timedelta(microseconds=1))
    await documents.put_features(old)
    await documents.mark_indexed([old])
    await documents.put_features(new)
    await documents.mark_indexed([old])
    (waiting,) = await documents.unindexed_features(MODEL, 9)
    assert waiting.created_at == new.created_at
    await documents.mark_indexed([new])
    assert await documents.unindexed_features(MODEL, 9) == []


async def test_faces_come_back_bit_by_bit(documents: Documents) -> None:
    for number, count in ((1, 3), (2, 0), (3, 1)):
        await documents.insert_asset(make_asset(number))
        await documents.set_asset_error(asset_id(number), "earlier failure")
        assert await documents.put_faces(make_faces(number, count=count))
    given = {asset_id(number): make_faces(number, count=count) for number, count in ((1, 3), (2, 0))}
    by_id = await documents.get_faces(MODEL, [asset_id(1), asset_id(2), asset_id(4)])
    assert set(by_id) == set(given)
    for key, faces in by_id.items():
        assert (faces.asset_id, faces.model_version, faces.created_at) == (key, MODEL, MOMENT)
        for stored, expected in ((faces.places, given[key].places), (faces.vectors, given[key].vectors)):
            assert stored.dtype == np.float32
            assert len(stored) == len(expected)
            assert stored.tobytes() == expected.tobytes()
    assert by_id[asset_id(1)].vectors.shape == (3, 8)
    assert (await documents.get_assets([asset_id(1)]))[asset_id(1)].error_message is None
    assert await documents.get_faces("other/1", [asset_id(1)]) == {}
    assert await documents.get_faces(MODEL, []) == {}


async def test_faces_are_replaced_and_need_a_living_asset(documents: Documents) -> None:
    assert not await documents.put_faces(make_faces(1))
    await documents.insert_asset(make_asset(1))
    assert await documents.get_faces(MODEL, [asset_id(1)]) == {}
    for faces in (make_faces(1), make_faces(1, count=4, created_at=MOMENT + timedelta(seconds=1))):
        assert await documents.put_faces(faces)
    await documents.mark_deleting(asset_id(1))
    assert not await documents.put_faces(make_faces(1, count=1))
    (kept,) = (await documents.get_faces(MODEL, [asset_id(1)])).values()
    assert len(kept.places) == 4
    assert kept.created_at == MOMENT + timedelta(seconds=1)


async def test_deleting_an_asset_takes_its_faces_along(documents: Documents) -> None:
    for number in (1, 2):
        await documents.insert_asset(make_asset(number))
        for model in (MODEL, "other/1"):
            await documents.put_faces(make_faces(number, model=model))
    assert await documents.delete_asset(asset_id(1))
    await documents.insert_asset(make_asset(1))
    for model in (MODEL, "other/1"):
        assert set(await documents.get_faces(model, [asset_id(1), asset_id(2)])) == {asset_id(2)}


async def test_a_delete_leaves_no_faces_of_a_simultaneous_put(documents: Documents) -> None:
    for number in range(30):
        await documents.insert_asset(make_asset(number))
        await asyncio.gather(documents.put_faces(make_faces(number)), documents.delete_asset(asset_id(number)))
        assert await documents.get_faces(MODEL, [asset_id(number)]) == {}


async def test_configuration_is_merged(documents: Documents) -> None:
    assert await documents.get_config() == {}
    await documents.set_config({"sharpness": 0.1, "similar": 1})
    await documents.set_config({"similar": 0.75})
    await documents.set_config({})
    assert await documents.get_config() == {"sharpness": 0.1, "similar": 0.75}


async def test_times_without_a_zone_are_refused(documents: Documents) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await documents.insert_asset(replace(make_asset(1), uploaded_at=datetime(2026, 1, 1)))
    assert await documents.list_assets() == []


async def test_it_answers(documents: Documents) -> None:
    await documents.ping()
    assert documents.type in {"sqlite", "mongodb"}


KEYS = frozenset({"a", "b", "c"})


def upload(owner: str, seconds: int = 0) -> Upload:
    return Upload(owner, f"{owner} – ä.jpg", MOMENT + timedelta(seconds=seconds))


async def the(documents: Documents, number: int = 1) -> Asset:
    return (await documents.get_assets([asset_id(number)]))[asset_id(number)]


async def test_an_asset_has_the_uploads_of_all_its_clients(documents: Documents) -> None:
    await documents.insert_asset(make_asset(1), "b")
    await documents.insert_asset(make_asset(2))
    assert await documents.add_upload(asset_id(1), upload("a", -5))
    assert await documents.add_upload(asset_id(1), upload("a", -9))  # its first one counts
    assert await documents.add_upload(asset_id(1), upload("c", 5))
    asset = await the(documents)
    first = Upload("b", make_asset(1).filename, MOMENT)
    assert set(asset.uploads) == {upload("a", -5), first, upload("c", 5)}
    assert (asset.filename, asset.uploaded_at) == (upload("a").filename, MOMENT - timedelta(seconds=5))
    assert [each.uploads[0].owner for each in await documents.list_assets() if len(each.uploads) == 1] == [""]
    assert [each.asset_id for each in await documents.list_assets(limit=1)] == [min(asset_id(1), asset_id(2))]
    assert not await documents.add_upload(asset_id(3), upload("a"))


async def test_the_last_upload_takes_the_asset_with_it(documents: Documents) -> None:
    await documents.insert_asset(make_asset(1), "a")
    await documents.add_upload(asset_id(1), upload("b", 1))
    assert await documents.withdraw(asset_id(1), "c", KEYS) == "of others"
    assert await documents.withdraw(asset_id(2), "a", KEYS) == "unknown"
    assert await documents.withdraw(asset_id(1), "a", KEYS) == "withdrawn"
    asset = await the(documents)
    assert (asset.filename, asset.deleting) == (upload("b").filename, False)
    assert make_asset(1).filename not in {each.filename for each in asset.uploads}
    assert asset.seen_by("a") is None
    assert await documents.withdraw(asset_id(1), "a", KEYS) == "of others"
    assert await documents.add_upload(asset_id(1), upload("a", 2))
    assert await documents.withdraw(asset_id(1), "b", KEYS) == "withdrawn"
    assert await documents.withdraw(asset_id(1), "a", KEYS) == "last"
    assert (await the(documents)).deleting
    assert await documents.withdraw(asset_id(1), "a", KEYS) == "unknown"
    assert not await documents.add_upload(asset_id(1), upload("c"))
    assert await documents.delete_asset(asset_id(1))
    assert await documents.insert_asset(make_asset(1), "c")
    assert [each.owner for each in (await the(documents)).uploads] == ["c"]


async def test_what_is_nobodys_goes_with_any_delete(documents: Documents) -> None:
    for number, owner in enumerate(["", "a key that is not set any more"]):
        await documents.insert_asset(make_asset(number), owner)
        assert await documents.withdraw(asset_id(number), "a", KEYS) == "last"


async def test_uploads_and_deletes_at_once_leave_all_or_nothing(documents: Documents) -> None:
    owners = [f"client {number}" for number in range(8)]
    for number in range(10):
        await documents.insert_asset(make_asset(number), owners[0])
        kept = owners[1 + number % 4 :: 2]
        calls = [documents.add_upload(asset_id(number), upload(owner)) for owner in owners[1:]]
        added = await asyncio.gather(*calls, documents.withdraw(asset_id(number), owners[0], owners))
        asset = await the(documents, number)
        if added[-1] == "last":
            assert asset.deleting
            assert added[:-1] == [""] * 7
        else:
            assert added == ["added"] * 7 + ["withdrawn"]
            assert {each.owner for each in asset.uploads if not each.withdrawn} == set(owners[1:])
            gone = [owner for owner in owners[1:] if owner not in kept]
            await asyncio.gather(*(documents.withdraw(asset_id(number), owner, owners) for owner in gone))
            asset = await the(documents, number)
            assert {each.owner for each in asset.uploads if not each.withdrawn} == set(kept)
            assert not asset.deleting
            outcomes = await asyncio.gather(*(documents.withdraw(asset_id(number), owner, owners) for owner in kept))
            assert sorted(outcomes) == ["last"] + ["withdrawn"] * (len(kept) - 1)


async def test_an_asset_expires_by_its_latest_upload_alone(documents: Documents) -> None:
    later, instant = MOMENT + timedelta(seconds=1), timedelta(microseconds=1)
    for number in range(4):
        await documents.insert_asset(make_asset(number), "studio")
    first, second, third, shared = (asset_id(number) for number in range(4))
    await documents.add_upload(shared, Upload("press", "same.jpg", later))
    assert await documents.old_assets(MOMENT) == []
    old = sorted([first, second, third])
    assert [each.asset_id for each in await documents.old_assets(MOMENT + instant)] == old
    assert [each.asset_id for each in await documents.old_assets(MOMENT + instant, old[0], 1)] == [old[1]]
    assert await documents.expire_asset(first, MOMENT) is False
    assert await documents.expire_asset(first, MOMENT + instant) is True
    assert await documents.expire_asset(first, MOMENT + instant) is True
    assert await documents.expire_asset(first, MOMENT) is False
    assert await documents.expire_asset(shared, later) is False
    assert await documents.expire_asset(asset_id(9), later) is False
    deleting = {each.asset_id: each.deleting for each in await documents.old_assets(later + instant)}
    assert deleting == {first: True, second: False, third: False, shared: False}
    # A client that has withdrawn its upload does not keep the asset young.
    assert await documents.withdraw(shared, "press", ["studio", "press"]) == "withdrawn"
    assert await documents.expire_asset(shared, MOMENT + instant) is True
    assert not await documents.add_upload(first, Upload("press", "late.jpg", later))
