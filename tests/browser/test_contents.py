"""Searches by what is in pictures, films and shots, and when two are seen together."""

from PIL import Image
from playwright.async_api import expect

from tests.browser.conftest import Visit, Visiting, accessible, until_film_is_at
from tests.browser.test_objects import WHY, filmed
from tests.browser.test_views import uploaded
from tests.dummies.texts import COLOURS, PictureLook
from tests.graphs.indexing import without_weights
from tests.graphs.samples import encoded, picture
from tests.graphs.test_objects import scene
from vision.errors import ModelNotLoaded

CAR_S = 2.4
"""When the car of the film comes into sight, and Ada with the body around her."""


async def named(visit: Visit, asset_id: str, place: int, name: str) -> None:
    """Give somebody in a film a name."""
    people = (await visit.service.client.get(f"/api/v1/file/{asset_id}/identities")).json()["identities"]
    await visit.service.people("PATCH", f"/{people[place]['identity_uuid']}", name=name)


async def test_a_person_and_an_object_are_seen_together(visiting: Visiting) -> None:
    async with visiting() as visit:
        page, asset = visit.page, await filmed(visit)
        await named(visit, asset.asset_id, 1, "Ada")
        await visit.open(f"video/{asset.asset_id}")
        car = page.locator(".objects li", has_text="car").get_by_label("together with")
        await car.check()
        await page.locator(".people li", has_text="Ada").get_by_label("together with").check()
        said = page.locator(".notice.good")
        await said.wait_for()
        assert "First together at 0:02.40 (frame 60)" in await said.inner_text()
        await until_film_is_at(page, CAR_S)
        await expect(page.locator(".lane[data-row=together] path")).to_have_count(1)
        await accessible(visit)
        # Instead of the car, which came first, a class; these two are never there at once.
        await page.get_by_label("Any object of a class").select_option("dog")
        await page.get_by_text("Ada and any dog are never in sight together").wait_for()
        await expect(page.locator(".lane[data-row=together]")).to_have_count(0)
        await expect(car).not_to_be_checked()
        await page.get_by_role("button", name="Neither").click()
        await expect(page.locator("input:checked")).to_have_count(0)
        visit.watched.check()


async def test_the_library_is_searched_by_what_is_in_it(visiting: Visiting) -> None:
    async with visiting((390, 844)) as visit:
        page, asset = visit.page, await filmed(visit)
        await named(visit, asset.asset_id, 1, "Ada")
        await uploaded(visit, "scene.png", scene())
        await uploaded(visit, "empty.png", picture(1))
        await visit.open("library")
        await page.wait_for_selector(".tile >> nth=2")
        field = page.get_by_role("combobox", name="What is in it?")
        await field.fill("Dog, car")
        await field.press("Enter")
        await page.get_by_text("2 with dog, car.").wait_for()
        notes = {
            await tile.locator(".name").inner_text(): await tile.locator(".quiet").inner_text()
            for tile in await page.locator(".tile").all()
        }
        assert notes["film.mp4"].startswith("at 0:00.0, never at once")
        assert notes["scene.png"].startswith("dog, car")
        await accessible(visit)
        for width, height in ((390, 844), (3840, 2160), (1360, 900)):
            await page.set_viewport_size({"width": width, "height": height})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width

        # Classes of the library are there to be chosen, with the number of files they are in.
        await page.get_by_role("button", name="dog 2").click()
        await page.get_by_text("2 with car.").wait_for()
        await expect(field).to_have_value("car")
        await page.get_by_role("combobox", name="Who is in it?").fill("ada")
        await page.get_by_role("button", name="Find", exact=True).click()
        await page.get_by_text("1 with car, ada.").wait_for()
        film = page.locator(".tile", has_text="film.mp4")
        assert "at 0:02.4, once" in await film.locator(".quiet").inner_text()
        # The film opens there, with what was looked for; back again are the results.
        await film.click()
        await page.wait_for_selector(".objects li")
        await page.wait_for_function("() => document.querySelector('video').readyState >= 1")
        await until_film_is_at(page, CAR_S)
        await expect(page.locator(".objects li")).to_have_count(1)
        await page.get_by_role("link", name="Others in the library").click()
        await page.get_by_text("2 with car.").wait_for()
        await page.go_back()
        await page.go_back()
        await page.get_by_text("1 with car, ada.").wait_for()
        visit.watched.check()


async def test_words_and_what_is_in_a_picture_are_searched_together(visiting: Visiting) -> None:
    async with visiting(more=(PictureLook,)) as visit:
        page = visit.page
        for colour in COLOURS:
            await uploaded(visit, f"{colour}.png", encoded(Image.new("RGB", (40, 30), colour), "PNG"))
        await uploaded(visit, "scene.png", scene())
        await visit.open("library?objects=dog")
        await page.get_by_text("1 with dog.").wait_for()
        words = page.get_by_role("searchbox", name="What should the picture show?")
        await words.fill(f"something {COLOURS[0]}")
        await words.press("Enter")
        await page.get_by_text(f"1 of {len(COLOURS) + 1} pictures and films, with dog").wait_for()
        assert await page.locator(".row-grid .name").all_inner_texts() == ["scene.png"]
        await page.get_by_role("button", name="dog 1").click()
        await page.wait_for_selector(f".row-grid .tile >> nth={len(COLOURS)}")
        visit.watched.check()


async def test_a_class_that_there_is_not_is_told(visiting: Visiting) -> None:
    async with visiting() as visit:
        await uploaded(visit, "scene.png", scene())
        await visit.open("library?objects=unicorn")
        said = visit.page.locator("[role=alert]")
        await said.wait_for()
        assert "no class 'unicorn'" in await said.inner_text()
        assert await visit.page.get_by_role("combobox", name="What is in it?").input_value() == "unicorn"
        await accessible(visit)


async def test_without_a_detector_the_library_says_why(visiting: Visiting) -> None:
    async with visiting() as visit:
        without_weights(visit.service, "objects/detector", ModelNotLoaded(WHY))
        await uploaded(visit, "scene.png", scene())
        await visit.open("library")
        await visit.page.get_by_text("Objects are not looked for").wait_for()
        await visit.page.wait_for_selector(".tile")
        await expect(visit.page.get_by_role("combobox")).to_have_count(0)
        await expect(visit.page.locator("[role=alert]")).to_have_count(0)
        await accessible(visit)
        visit.watched.check()


async def test_shots_are_found_by_what_is_seen_in_them(visiting: Visiting) -> None:
    async with visiting() as visit:
        page, asset = visit.page, await filmed(visit)
        without_weights(visit.service, "embed/clip", ModelNotLoaded("Texts need another model."))
        await visit.open(f"video/{asset.asset_id}")
        await page.wait_for_selector(".shots-list .seen")
        assert "dog" in await page.locator(".shots-list li").first.locator(".seen").all_inner_texts()
        await page.get_by_role("button", name="Store in the shot library").click()
        await page.get_by_role("link", name="Search them").click()
        await page.wait_for_selector(".shots-list li >> nth=1")
        group = page.get_by_role("group", name="Classes of objects")
        await group.get_by_role("button", name="car").click()
        await page.wait_for_function("() => document.querySelectorAll('.shots-list li').length === 1")
        assert "car" in await page.locator(".shots-list .seen").all_inner_texts()
        await accessible(visit)
        await group.get_by_role("button", name="dog").click()
        await page.get_by_text("No stored shot shows car and dog").wait_for()
        await group.get_by_role("button", name="car").click()
        await page.get_by_role("searchbox", name="What should the shot show?").fill("a dog runs")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_text("Why").click()
        assert "dog (confidence 0.95)" in await page.locator(".shots-list details").inner_text()
        visit.watched.check()
