"""The registry of animals: enrolling, looking up, deleting, and finding the animal of a photo."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from deployments.muzzle.gallery import GALLERY
from deployments.serving.vector_search import Forget
from stores.animals import animal_key
from tests.graphs.conftest import MakeSettings
from tests.graphs.muzzle import MuzzleService, blank, checked, muzzle, serving_muzzle, text
from tests.graphs.samples import picture
from tests.tolerances import decimals


@pytest.fixture
async def service(settings_for: MakeSettings) -> AsyncIterator[MuzzleService]:
    async with serving_muzzle(settings_for()) as made:
        yield made


async def test_an_animal_is_enrolled_found_and_deleted(service: MuzzleService) -> None:
    enrolled = await service.enrol("DE-1", 1)
    await service.enrol("DE-2", 2)
    assert enrolled["similar"] == []
    assert [check["usable"] for check in enrolled["photo_checks"]] == [True] * 3
    assert checked(await service.client.get("/animals/DE-1"), "/animals/DE-1", 200) == enrolled["animal"]
    assert (enrolled["animal"]["photos"], enrolled["animal"]["model_ids"]) == (3, [60, 62, 64])

    found = await service.post("identify", photo=text(muzzle(1, 4)))
    assert found["decision"]["verdict"] == "IDENTIFIED"
    assert found["decision"]["animal_id"] == "DE-1"
    assert [each["animal_id"] for each in found["candidates"]] == ["DE-1", "DE-2"]
    assert [each["print_inliers"] for each in found["candidates"]] == [40, 3]
    assert (found["searched"], found["outdated"], found["none_of_these"]) == (2, 0, False)
    assert found["decision"]["margin"] == pytest.approx(
        found["candidates"][0]["cosine_similarity"] - found["candidates"][1]["cosine_similarity"], abs=decimals(4)
    )

    assert (await service.client.delete("/animals/DE-1")).json() == {"animal_id": "DE-1", "deleted": True}
    checked(await service.client.get("/animals/DE-1"), "/animals/DE-1", 404)
    checked(await service.client.delete("/animals/DE-1"), "/animals/DE-1", 404)
    gone = await service.post("identify", photo=text(muzzle(1, 4)))
    assert (gone["decision"]["verdict"], gone["decision"]["animal_id"]) == ("UNKNOWN", None)
    assert [each["animal_id"] for each in gone["candidates"]] == ["DE-2"]
    assert gone["none_of_these"]
    assert gone["searched"] == 1


async def test_the_registry_is_listed_in_pages_latest_first(service: MuzzleService) -> None:
    empty = checked(await service.client.get("/animals"), "/animals", 200)
    assert empty == {"animals": [], "next": None, "enrolled": 0}
    enrolled = [(await service.enrol(f"DE-{number}", number))["animal"] for number in range(5)]
    for limit, sizes in ((2, [2, 2, 1]), (5, [5]), (4, [4, 1])):
        seen, params = list[dict[str, object]](), {"limit": str(limit)}
        for size in sizes:
            page = checked(await service.client.get("/animals", params=params), "/animals", 200)
            assert (len(page["animals"]), page["enrolled"]) == (size, 5)
            seen += page["animals"]
            params["after"] = page["next"]
        assert (seen, page["next"]) == (enrolled[::-1], None)
    await service.client.delete("/animals/DE-3")
    left = (await service.client.get("/animals")).json()
    assert [each["animal_id"] for each in left["animals"]] == ["DE-4", "DE-2", "DE-1", "DE-0"]
    for odd in ("x", "1-", "99999999999999999999-a", "1-../a"):
        refused = checked(await service.client.get("/animals", params={"after": odd}), "/animals", 422)
        assert "`next`" in refused["detail"]


async def test_nobody_is_enrolled(service: MuzzleService) -> None:
    answer = await service.post("identify", photo=text(muzzle(1)))
    assert (answer["decision"]["verdict"], answer["candidates"], answer["searched"]) == ("UNKNOWN", [], 0)
    assert "No animal is enrolled" in answer["decision"]["explanation"]


async def test_an_id_is_enrolled_once(service: MuzzleService) -> None:
    await service.enrol("DE-1", 1)
    again = await service.post("animals", 409, animal_id="DE-1", photos=[text(muzzle(2))] * 3)
    assert "enrolled already" in again["detail"]
    photos = [text(muzzle(1, photo)) for photo in range(3)]
    known = await service.post("animals", 409, animal_id="DE-1b", photos=photos)
    assert "already there as DE-1: their muzzle prints agree in 40 places" in known["detail"]
    assert '"allow_duplicate": true' in known["detail"]
    assert await service.context.animals.count() == 1
    twin = await service.post("animals", 201, animal_id="DE-1b", photos=photos, allow_duplicate=True)
    assert twin["similar"][0]["print_inliers"] == 40
    assert [each["animal_id"] for each in twin["similar"]] == ["DE-1"]
    between = await service.post("identify", photo=text(muzzle(1)))
    assert between["decision"]["verdict"] == "UNKNOWN"
    assert [each["metric"] for each in between["summary"]["criteria"] if not each["passed"]] == ["margin"]


async def test_photos_that_enrol_nobody(service: MuzzleService) -> None:
    good = text(muzzle(1))
    for photos, words in (
        ([good, good, text(blank("red"))], "photos[2]: The image does not appear"),
        ([good, text(muzzle(2)), text(muzzle(3))], "may show different animals"),
        ([good, good], "photos"),
    ):
        assert words in (await service.post("animals", 422, animal_id="DE-1", photos=photos))["detail"]
    assert "animal_id" in (await service.post("animals", 422, animal_id="../x", photos=[good] * 3))["detail"]
    assert await service.context.animals.count() == 0


async def test_a_poor_photo_is_refused_with_advice_unless_it_is_wanted(service: MuzzleService) -> None:
    small = [text(picture(1001, size=(48, 36), noise=0.01 * photo)) for photo in range(3)]
    photos = [text(muzzle(1)), *small[1:]]
    refused = await service.post("animals", 422, animal_id="DE-1", photos=photos)
    assert refused["detail"] == (
        "photos[1]: the muzzle is only about 36 pixels large: come closer. "
        "photos[2]: the muzzle is only about 36 pixels large: come closer. "
        'Take better photos, or send "allow_poor_photos": true to enrol it by these.'
    )
    enrolled = await service.post("animals", 201, animal_id="DE-1", photos=photos, allow_poor_photos=True)
    assert [check["usable"] for check in enrolled["photo_checks"]] == [True, False, False]


async def test_an_animal_without_a_kept_print_is_not_identified(service: MuzzleService) -> None:
    await service.enrol("DE-1", 1)
    key = animal_key("DE-1")
    animals = service.context.animals
    before = (await animals.get([key]))[key]
    for prints in ((), (b"a print of another version",)):
        await animals.delete(key)
        await animals.insert(replace(before, created_at=before.created_at + timedelta(seconds=1)), prints)
        answer = await service.post("identify", photo=text(muzzle(1, 4)))
        assert (answer["decision"]["verdict"], answer["candidates"][0]["print_inliers"]) == ("UNKNOWN", None)
        assert "enrol it again" in answer["decision"]["explanation"]


async def test_a_photo_of_no_muzzle_is_nobody(service: MuzzleService) -> None:
    await service.enrol("DE-1", 1)
    answer = await service.post("identify", photo=text(blank("red")), top_k=1)
    assert (answer["decision"]["verdict"], answer["decision"]["animal_id"]) == ("INVALID_INPUT", None)
    assert len(answer["candidates"]) == 1


async def test_animals_of_other_models_are_not_compared(service: MuzzleService) -> None:
    await service.enrol("DE-1", 1)
    service.ensemble.version = "dummy@11111111"
    answer = await service.post("identify", photo=text(muzzle(1)))
    assert (answer["decision"]["verdict"], answer["searched"], answer["outdated"]) == ("UNKNOWN", 0, 1)


async def test_an_animal_enrolled_anew_is_found_though_the_index_is_told_late_that_it_left(
    service: MuzzleService,
) -> None:
    for number in (1, 2):
        await service.enrol(f"DE-{number}", number)
    await service.post("identify", photo=text(muzzle(1)))
    key = animal_key("DE-1")
    version = (await service.context.animals.get([key]))[key].model_version
    await service.context.animals.delete(key)
    await service.enrol("DE-1", 3)
    before = await service.post("identify", photo=text(muzzle(3)))
    await service.context.stage(GALLERY)(Forget(version, (key,)))  # what the one who deleted it sends after that
    after = await service.post("identify", photo=text(muzzle(3)))
    assert after == before
    assert (after["decision"]["animal_id"], after["searched"]) == ("DE-1", 2)


async def test_a_lost_index_is_rebuilt(settings_for: MakeSettings) -> None:
    async with serving_muzzle(settings_for()) as first:
        await first.enrol("DE-1", 1)
        await first.post("identify", photo=text(muzzle(1)))
    async with serving_muzzle(settings_for(vectors_url=f"file://{first.context.settings.home}/other")) as second:
        found = await second.post("identify", photo=text(muzzle(1)))
        assert found["decision"]["animal_id"] == "DE-1"
