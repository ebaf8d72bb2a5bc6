"""The console in a browser: every view, a film from its upload to its people, keys, hostile names, small windows."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Route

from tests.browser.conftest import Visiting, accessible, chosen, until_film_is_at
from tests.graphs.indexing import film, photo
from tests.graphs.receiver import receiving
from tests.graphs.samples import encoded, picture

VIEWS = ("library", "groups", "people", "shots", "authenticity", "muzzle", "system")
SIZES = [(1360, 900), (390, 844), (3840, 2160)]
HOSTILE = "\"><img src=x onerror=alert(1)><svg onload=alert(2)>'"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]} pixels")
async def test_every_view_fits_and_loads_nothing_from_elsewhere(visiting: Visiting, size: tuple[int, int]) -> None:
    async with visiting(size) as visit:
        for view in VIEWS:
            await visit.open(view)
            await visit.page.wait_for_timeout(300)
            assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            await accessible(visit)
        visit.watched.check()


async def test_a_film_from_its_upload_to_its_people(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        page = visit.page
        await visit.open("library")
        await chosen(visit, tmp_path, ("walk.mp4", film()), ("photo.png", picture(1)))
        await page.wait_for_selector(".uploads li.stored >> nth=1")
        await page.wait_for_selector(".tile >> nth=1")
        await page.get_by_role("button", name="Clear").click()
        await page.locator(".choice button", has_text="Films").click()
        await page.locator(".tile", has_text="walk.mp4").click()
        await page.get_by_role("button", name="Find people, objects and shots").click()
        await page.wait_for_selector(".people li >> nth=2")
        assert await page.locator(".people li").count() == 3
        assert await page.locator(".lane.shots i").count() == 3
        # To somebody's first appearance, as the timeline says, with a box around the face.
        await page.locator(".people button").nth(1).click()
        await until_film_is_at(page, 0.88, 0.02)
        await page.wait_for_selector(".boxes rect >> nth=1", state="attached")
        await accessible(visit)
        # Where two of them are together first.
        await page.get_by_label("together with").nth(0).check()
        await page.get_by_label("together with").nth(1).check()
        assert "frame 22" in await page.locator(".notice.good").inner_text()

        await page.locator(".people a").nth(1).click()
        await page.get_by_role("textbox", name="Name").fill("Bob")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("heading", name="Bob", exact=True).wait_for()
        await page.get_by_label("Same person as").select_option(index=1)
        await page.get_by_role("button", name="Merge").click()
        await page.wait_for_selector(".people li >> nth=1")
        appearances = await page.locator(".people li").count()
        await page.locator(".people input").last.check()
        await page.get_by_role("button", name="are somebody else").click()
        await page.wait_for_url("**/console#/person/*")
        await page.get_by_role("heading", name="Unnamed").wait_for()
        await page.wait_for_selector(".people li")
        assert await page.locator(".people li").count() == 1
        assert appearances >= 2
        visit.watched.check()


async def test_a_part_is_cut_out_with_the_keyboard_and_the_pointer(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        page = visit.page
        asset = await visit.service.indexed(film())
        await visit.open(f"video/{asset.asset_id}")
        track = page.get_by_role("slider", name="Position in the film")
        await page.wait_for_selector(".lane.shots i >> nth=2")
        await track.focus()
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowRight")
        assert await track.get_attribute("aria-valuenow") == "2.00"
        await page.keyboard.press("Home")
        assert await track.get_attribute("aria-valuenow") == "0.00"
        box = await track.bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 10)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 10, steps=4)
        await page.mouse.up()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Save this part").click()
        saved = Path(await (await download.value).path())
        assert (await asyncio.to_thread(saved.read_bytes))[0] == 0x47  # an MPEG transport stream
        assert (await download.value).suggested_filename.endswith(".ts")


async def test_a_key_is_asked_for_and_opens_pictures_and_films(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting(api_key="the-key-of-this-test") as visit:
        page = visit.page
        await visit.open("library")
        await page.get_by_role("heading", name="A key is needed").wait_for()
        await page.get_by_label("Key").fill("wrong")
        await page.get_by_role("button", name="Open").click()
        await page.get_by_role("heading", name="A key is needed").wait_for()
        await page.get_by_label("Key").fill("the-key-of-this-test")
        await page.get_by_role("button", name="Open").click()
        await page.get_by_role("heading", name="Library").wait_for()
        await chosen(visit, tmp_path, ("walk.mp4", film()))
        await page.wait_for_selector(".tile img")
        loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        await page.wait_for_timeout(500)
        assert await page.evaluate(loaded)
        await page.locator(".tile").click()
        await page.wait_for_selector("video[src*=signature]")
        await page.get_by_role("button", name="Find people, objects and shots").click()
        await page.wait_for_selector(".people li img")
        await page.wait_for_timeout(500)
        assert await page.evaluate("document.querySelector('video').readyState") >= 1
        assert await page.evaluate(loaded)
        assert "the-key-of-this-test" not in await page.content()
        await page.get_by_role("button", name="Forget key").click()
        await page.get_by_role("heading", name="A key is needed").wait_for()
        visit.watched.check()


async def test_names_are_shown_as_text(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        page, service = visit.page, visit.service
        files = {"file": (HOSTILE.replace("/", ""), film(), "video/mp4")}
        asset = (await service.client.post("/api/v1/upload-media", files=files)).json()
        await service.ended((await service.client.post(f"/api/v1/file/{asset['asset_id']}/index")).json()["job_id"])
        for person in (await service.people("GET"))["identities"]:
            await service.people("PATCH", f"/{person['identity_uuid']}", name=HOSTILE)
        animal = {"animal_id": HOSTILE, "photos": []}
        await service.client.post("/animals", json=animal)
        for view in (*VIEWS, f"video/{asset['asset_id']}", f"person/{person['identity_uuid']}"):
            await visit.open(view)
            await page.wait_for_timeout(400)
            assert await page.locator("img[src=x], svg[onload]").count() == 0, view
        assert await page.get_by_role("heading", name="onerror").count() == 1
        visit.watched.check()


async def test_somebody_is_added_by_a_photo(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        await visit.open("people")
        await visit.page.get_by_role("textbox", name="Name").fill("Ada")
        await chosen(visit, tmp_path, ("ada.png", photo("ada")))
        await visit.page.get_by_role("heading", name="Ada", exact=True).wait_for()
        await visit.page.wait_for_selector(".portrait img")
        visit.watched.check()


async def test_errors_are_said_where_they_happen(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        await visit.open("library")
        await chosen(visit, tmp_path, ("notes.txt", b"no picture at all"))
        failed = visit.page.locator(".uploads li.failed")
        await failed.wait_for()
        assert "notes.txt" in await failed.inner_text()
        await visit.page.goto(f"{visit.url}/console#/video/nothing-here")
        assert "No asset with id" in await visit.page.locator("[role=alert]").inner_text()


async def test_a_large_file_goes_on_after_its_connection_broke(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        page = visit.page
        await visit.open("library")
        sent: list[int] = []

        async def cut(route: Route) -> None:
            """Break the second part of the file, once."""
            sent.append(int(route.request.headers["upload-offset"]))
            if len(sent) == 2:
                await route.abort("connectionreset")
            else:
                await route.continue_()

        await page.route("**/api/v1/uploads/*", lambda route: cut(route) if is_part(route) else route.continue_())
        noise = np.random.default_rng(1).integers(0, 256, (2000, 3200, 3), np.uint8)
        data = encoded(Image.fromarray(noise), "PNG")
        await chosen(visit, tmp_path, ("large.png", data))
        await page.wait_for_selector(".uploads li.stored")
        part = 8 * 2**20
        assert len(data) > 2 * part
        assert sent == [0, part, part, 2 * part]
        (asset,) = (await visit.service.client.get("/api/v1/assets")).json()["assets"]
        content = await visit.service.client.get(f"/api/v1/media/{asset['asset_id']}/content")
        assert content.content == data

        # The same bytes are known by their hash, and not sent again.
        await chosen(visit, tmp_path, ("again.png", data))
        await page.wait_for_selector(".uploads li.duplicate")
        assert len(sent) == 4
        await page.wait_for_load_state("networkidle")


def is_part(route: Route) -> bool:
    return route.request.method == "PATCH"


async def test_a_webhook_is_added_tested_and_removed(visiting: Visiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_WEBHOOK_HTTP", "true")
    monkeypatch.setenv("VISION_WEBHOOK_ALLOWED_HOSTS", "127.0.0.1")
    status = "500 No"
    async with receiving(answer=lambda _: (status, [])) as receiver, visiting((390, 844)) as visit:
        page = visit.page
        await visit.open("system")
        await page.get_by_text("Nobody is told").wait_for()
        await page.get_by_label("Tell").fill("http://10.1.2.3/")
        await page.get_by_role("button", name="Add webhook").click()
        await page.get_by_text("No public address was found for 10.1.2.3.").wait_for()
        await page.get_by_label("Tell").fill(receiver.url)
        await page.get_by_role("button", name="Add webhook").click()
        secret = await page.locator(".notice code").inner_text()
        await page.get_by_text("Nothing was sent yet").wait_for()
        await page.get_by_role("button", name="Test").click()
        await page.locator(".webhooks summary").click()
        await page.get_by_text("it answered 500").wait_for()
        assert receiver.got[0].is_signed_with(secret)
        status = "200 OK"
        await page.get_by_role("button", name="Test").click()
        await page.get_by_text("answered 200 in").wait_for()
        await accessible(visit)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_role("button", name="I have it").click()
        await page.get_by_role("button", name="Disable").click()
        await page.get_by_text("Disabled. Its owner disabled it.").wait_for()
        await page.get_by_role("button", name="Remove").click()
        await page.get_by_text("Nobody is told").wait_for()
        assert secret not in await page.content()
        visit.watched.check()
