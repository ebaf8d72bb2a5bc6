"""What the player of the console plays: films, films with boxes, single appearances; by HLS where the browser can."""

import asyncio
import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import Visit, Visiting, until_film_is_at
from tests.graphs import media
from tests.graphs.indexing import film
from tests.unit.vision.media.samples import number_in

SHOWN = """(seconds) => new Promise((done, failed) => {
  const video = document.querySelector("video");
  video.onseeked = () => requestAnimationFrame(() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    done(canvas.toDataURL("image/png").split(",")[1]);
  });
  video.onerror = () => failed(new Error(video.error.message));
  video.currentTime = seconds;
})"""
NO_HLS = "HTMLMediaElement.prototype.canPlayType = (type) => (type.includes('mpegurl') ? '' : 'maybe')"


async def source(visit: Visit, part: str) -> str:
    """The address of what is played, once it is one with this part."""
    await visit.page.wait_for_function(
        "(part) => { const video = document.querySelector('video'); "
        "return video?.readyState >= 1 && video.src.includes(part) }",
        arg=part,
    )
    return str(await visit.page.evaluate("document.querySelector('video').src"))


async def plays_hls(visit: Visit) -> None:
    """Skip where the browser is too old."""
    await visit.open("library")
    can = await visit.page.evaluate("document.createElement('video').canPlayType('application/vnd.apple.mpegurl')")
    if not can:
        pytest.skip("this browser does not play HLS itself")


async def test_a_film_that_no_browser_plays_is_played_and_sought_frame_by_frame(visiting: Visiting) -> None:
    async with visiting() as visit:
        await plays_hls(visit)
        data = media.film("mpeg-4 in avi", frames=230)
        files = {"file": ("old.avi", data)}
        asset_id = (await visit.service.client.post("/api/v1/upload-media", files=files)).json()["asset_id"]
        await visit.page.goto(f"{visit.url}/console#/video/{asset_id}")
        assert (await source(visit, "video.m3u8")).endswith(f"/api/v1/file/{asset_id}/video.m3u8")
        assert await visit.page.evaluate("document.querySelector('video').duration") == pytest.approx(9.2, abs=0.05)
        for wanted in (200, 3, 100, 99, 229):
            png = base64.b64decode(await visit.page.evaluate(SHOWN, (wanted + 0.5) / 25))
            picture = await asyncio.to_thread(lambda data=png: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
            assert number_in(picture) == wanted
        assert await visit.page.locator("[role=alert]").count() == 0


@pytest.mark.parametrize("is_native", [True, False], ids=["by HLS", "as MP4"])
async def test_boxes_and_single_appearances_are_played(visiting: Visiting, *, is_native: bool) -> None:
    async with visiting(api_key="the-key-of-this-test") as visit:
        page = visit.page
        if is_native:
            await plays_hls(visit)
        else:
            await page.add_init_script(NO_HLS)
        visit.service.client.headers["x-api-key"] = "the-key-of-this-test"
        asset = await visit.service.indexed(film())
        await page.add_init_script("sessionStorage.setItem('visiongraph.key', 'the-key-of-this-test')")
        await page.goto(f"{visit.url}/console#/video/{asset.asset_id}")
        await page.reload()
        ending = ".m3u8?" if is_native else "?"
        choice = page.get_by_label("Play")
        await choice.wait_for()
        assert "signature=" in await source(visit, "/video?")
        await choice.select_option("boxes")
        address = await source(visit, f"/video/bbox{ending}")
        assert ("signature=" in address, "the-key" in address) == (True, False)
        assert await page.locator(".over.boxes").count() == 0
        # One appearance has its own clock, the page shows that of the film.
        traces = (await visit.service.client.get(f"/api/v1/file/{asset.asset_id}/traces")).json()["traces"]
        trace = max(traces, key=lambda each: each["first_time"])
        await choice.select_option(f"trace {trace['trace_id']}")
        await source(visit, f"/trace/{trace['trace_id']}/video{ending}")
        lasts = trace["last_time"] - trace["first_time"] + 0.04
        if is_native:
            duration = await page.evaluate("document.querySelector('video').duration")
            assert duration == pytest.approx(lasts, abs=0.03)
        slider = page.get_by_role("slider", name="Position in the film")
        await page.wait_for_function("document.querySelector('video').currentTime < 0.05")
        shown = float(await slider.get_attribute("aria-valuenow") or 0)
        assert shown == pytest.approx(trace["first_time"], abs=0.02)
        # What lies outside of it is in the film.
        await slider.focus()
        await page.keyboard.press("Home")
        await source(visit, "/video?")
        assert await choice.input_value() == "film"
        await until_film_is_at(page, 0, 0.02)
        visit.watched.check()
