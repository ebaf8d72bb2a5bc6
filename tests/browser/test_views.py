"""What single views show: maps over a picture, words, anomalies, the registry, and answers with parts that are new."""

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Route

from graphs.authenticity.schemas import ImageAnswer, ImageSignals
from tests.browser.conftest import Visit, Visiting, accessible, chosen
from tests.dummies.texts import COLOURS, BlindLook, PictureLook
from tests.graphs.muzzle import muzzle
from tests.graphs.samples import encoded, picture, video
from tests.unit.vision.quality.test_focus import blocks, blurred

SCRIPTS_BYTES = 180_000
ANIMALS = 51


def half_sharp() -> bytes:
    pixels = blocks()
    pixels[:, 480:] = blurred(pixels, 6)[:, 480:]
    return encoded(Image.fromarray(pixels), "JPEG", quality=90)


async def uploaded(visit: Visit, name: str, data: bytes) -> str:
    answer = await visit.service.client.post("/api/v1/upload-media", files={"file": (name, data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["asset_id"])


def test_the_scripts_are_small() -> None:
    scripts = [each for each in files("graphs.console").joinpath("static").iterdir() if each.name.endswith(".js")]
    assert len(scripts) > 10
    assert sum(len(each.read_bytes()) for each in scripts) < SCRIPTS_BYTES


@pytest.mark.parametrize(("key", "width"), [("", 1360), ("the-key-of-this-test", 390)], ids=["open", "key, 390 pixels"])
async def test_maps_are_laid_over_the_picture(visiting: Visiting, tmp_path: Path, key: str, width: int) -> None:
    async with visiting((width, 844), **({"api_key": key} if key else {})) as visit:
        page = visit.page
        await page.goto(f"{visit.url}/console#/library")
        if key:
            await page.get_by_label("Key").fill(key)
            await page.get_by_role("button", name="Open").click()
        await page.get_by_role("heading", name="Library").wait_for()
        await chosen(visit, tmp_path, ("half.jpg", half_sharp()))
        await page.locator(".tile").click()
        over = page.locator(".canvas img.over")
        for name in ("Focus", "Saliency"):
            button = page.get_by_role("button", name=name)
            await button.focus()
            await page.keyboard.press("Enter")
            assert await button.get_attribute("aria-pressed") == "true"
            await over.wait_for()
            # It covers the picture, whatever their sizes in pixels.
            below, above = await page.locator(".canvas img").first.bounding_box(), await over.bounding_box()
            assert below is not None and above is not None  # noqa: PT018
            assert above == pytest.approx(below, abs=1)  # browsers round to whole pixels
            slider = page.get_by_role("slider", name="Strength")
            await slider.focus()
            await page.keyboard.press("Home")
            assert await over.evaluate("image => image.style.opacity") == "0"
            await page.keyboard.press("End")
            assert await over.evaluate("image => image.style.opacity") == "1"
        await accessible(visit)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_role("button", name="Saliency").click()
        await over.wait_for(state="detached")
        visit.watched.check()


async def test_the_focus_that_is_drawn_is_where_the_picture_is_sharp(visiting: Visiting) -> None:
    async with visiting() as visit:
        await visit.open(f"asset/{await uploaded(visit, 'half.jpg', half_sharp())}")
        await visit.page.get_by_role("button", name="Focus").click()
        await visit.page.locator(".canvas img.over").evaluate("image => image.decode()")
        left, right = await visit.page.evaluate("""() => {
            const image = document.querySelector('.canvas img.over');
            const canvas = document.createElement('canvas');
            canvas.width = image.naturalWidth;
            canvas.height = image.naturalHeight;
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const opacity = (from, to) => {
                const data = context.getImageData(from, 0, to - from, canvas.height).data;
                let sum = 0;
                for (let at = 3; at < data.length; at += 4) sum += data[at];
                return (4 * sum) / data.length;
            };
            return [opacity(0, 60), opacity(68, 128)];
        }""")
        assert left > 150
        assert right < 40


async def test_the_library_is_searched_in_words(visiting: Visiting) -> None:
    async with visiting(more=(PictureLook,)) as visit:
        page = visit.page
        for colour in COLOURS:
            await uploaded(visit, f"{colour}.png", encoded(Image.new("RGB", (40, 30), colour), "PNG"))
        film = await uploaded(visit, "walk", video(1))
        await visit.open("library")
        field = page.get_by_role("searchbox", name="What should the picture show?")
        await field.fill(f"something {COLOURS[0]}")
        await field.press("Enter")
        await page.wait_for_selector(".row-grid .tile >> nth=3")
        assert await page.locator(".row-grid .name").first.inner_text() == f"{COLOURS[0]}.png"
        # A film is known by what the service says of it, not by the end of its name.
        assert await page.locator(".row-grid .tile", has_text="walk").get_attribute("href") == f"#/video/{film}"
        await accessible(visit)
        await page.get_by_role("button", name="Back to the library").click()
        await page.wait_for_selector(".grid .tile >> nth=3")
        visit.watched.check()


async def test_without_a_model_for_texts_the_library_says_why(visiting: Visiting) -> None:
    async with visiting(more=(BlindLook,)) as visit:
        await visit.open("library")
        said = visit.page.get_by_text("No search in words")
        await said.wait_for()
        assert "which is not installed" in await said.inner_text()
        assert await visit.page.get_by_role("searchbox").count() == 1  # that for file names
        visit.watched.check()


@pytest.mark.parametrize("size", [(1360, 900), (390, 844)], ids=["1360 pixels", "390 pixels"])
async def test_what_deviates_from_references_is_found(visiting: Visiting, size: tuple[int, int]) -> None:
    async with visiting(size) as visit:
        page = visit.page
        for number in range(4):
            await uploaded(visit, f"usual {number}.png", picture(1, noise=0.02 * (number + 1)))
        odd = await uploaded(visit, "odd.png", picture(2))
        await visit.open("groups")
        await page.get_by_role("button", name="Anomalies").click()
        compare = page.get_by_role("button", name="Compare")
        await page.get_by_label("usual 0.png is a reference").focus()
        await page.keyboard.press("Space")
        assert await compare.is_disabled()
        for number in (1, 2):
            await page.get_by_label(f"usual {number}.png is a reference").check()
        await compare.click()
        await page.get_by_text("1 of 2 deviate").wait_for()
        deviating = page.locator("section.card", has=page.get_by_role("heading", name="Deviate"))
        assert await deviating.locator(".tile").get_attribute("href") == f"#/asset/{odd}"
        assert float((await deviating.locator(".meter-value").inner_text()).split()[0]) > 2
        await accessible(visit)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.watched.check()


async def enrolled(visit: Visit, animal_id: str, seed: int) -> None:
    photos = [base64.b64encode(muzzle(seed, number)).decode() for number in range(3)]
    answer = await visit.service.client.post("/animals", json={"animal_id": animal_id, "photos": photos})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("size", [(1360, 900), (390, 844)], ids=["1360 pixels", "390 pixels"])
async def test_the_registry_of_animals(visiting: Visiting, tmp_path: Path, size: tuple[int, int]) -> None:
    async with visiting(size) as visit:
        page = visit.page
        page.on("dialog", lambda dialog: dialog.accept())
        await visit.open("muzzle")
        await page.get_by_role("button", name="Registry").click()
        await page.get_by_text("Nobody is enrolled yet").wait_for()
        await page.get_by_role("textbox", name="Animal").fill("DE-1")
        await chosen(visit, tmp_path, *((f"{number}.png", muzzle(1, number)) for number in range(3)))
        await page.get_by_role("button", name="Enrol").click()
        row = page.locator(".animals li", has_text="DE-1")
        await row.wait_for()
        assert "3 photos" in await row.inner_text()
        await accessible(visit)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        await page.get_by_role("button", name="Identify").first.click()
        await chosen(visit, tmp_path, ("probe.png", muzzle(1, 4)))
        await page.get_by_label("Show the nearest").fill("1")
        await page.get_by_role("button", name="Identify").last.click()
        await page.get_by_text("✓ 1. DE-1").wait_for()
        await chosen(visit, tmp_path, ("other.png", muzzle(7)))
        await page.get_by_role("button", name="Identify").last.click()
        await page.get_by_text("✓ None of these").wait_for()
        await accessible(visit)
        await page.get_by_role("button", name="enrol it").click()
        await page.get_by_text("1 chosen").wait_for()

        await page.get_by_role("button", name="Remove DE-1").click()
        await row.wait_for(state="detached")
        await page.get_by_text("Nobody is enrolled yet").wait_for()
        assert await visit.service.context.animals.count() == 0
        assert visit.watched.dialogs == ["Remove DE-1 from the registry?"]
        assert (visit.watched.errors, visit.watched.elsewhere) == ([], [])


async def test_a_large_registry_comes_in_pages(visiting: Visiting) -> None:
    async with visiting() as visit:
        for number in range(ANIMALS):
            await enrolled(visit, f"DE-{number}", number)
        await visit.open("muzzle")
        await visit.page.get_by_role("button", name="Registry").click()
        await visit.page.wait_for_selector(".animals li >> nth=49")
        assert await visit.page.locator(".animals li").count() == 50
        await visit.page.get_by_role("button", name="More").click()
        await visit.page.wait_for_selector(".animals li >> nth=50")
        assert await visit.page.locator(".animals li").last.locator("b").inner_text() == "DE-0"
        assert await visit.page.get_by_role("button", name="More").count() == 0


PROVENANCE: dict[str, Any] = {
    "status": "invalid",
    "declaration": {"kind": "generated", "by": "Picture Maker 3", "source_type": None, "basis": "signed_unknown"},
    "credentials": {
        "state": "invalid",
        "signer": "Example Signer",
        "organisation": "Example Ltd",
        "algorithm": "Es256",
        "serial": "1",
        "signed_at": "2026-01-15T12:00:00+00:00",
        "time_trusted": False,
        "generator": "Picture Maker 3",
        "title": "<b>bold</b>.jpg",
        "bytes_match": False,
        "actions": [
            {"name": "c2pa.created", "source_type": "trainedAlgorithmicMedia", "software": "Maker", "when": None},
            {"name": "c2pa.color_adjustments", "source_type": None, "software": None, "when": "2026-01-15T12:00:01Z"},
        ],
        "ingredients": [
            {
                "title": "before.jpg",
                "relationship": "parentOf",
                "format": "image/jpeg",
                "state": "trusted",
                "signer": "A Camera",
                "declares": "captured",
            }
        ],
        "failures": [{"code": "assertion.dataHash.mismatch", "explanation": "The bytes are others."}],
        "remote_url": None,
        "unreadable": None,
    },
    "metadata": dict.fromkeys(
        [
            *("digital_source_type", "make", "model", "taken", "created", "modified", "generator"),
            *("generator_place", "generator_text", "jpeg_quality", "thumbnail_correlation"),
        ]
    )
    | {"software": "Editor 5"},
    "findings": [
        {
            "code": "BYTES_CHANGED",
            "severity": "strong",
            "text": "The bytes were changed after signing.",
            "signed": False,
        }
    ],
}


def judged(signals: dict[str, Any], provenance: dict[str, Any] | None) -> str:
    """An answer on a picture as the API gives it, with these signals beside its usual ones."""
    signal = {"score": 0.25, "weight": 0.4, "effective_weight": 0.6, "unavailable": None}
    usual = {
        "visual": signal | {"faces_detected": 1, "analysis_type": "face_level", "model": "mesonet@1"},
        "forensic": {"score": None, "weight": 0.3, "effective_weight": 0, "unavailable": "too small", "features": None},
        "generated": signal | {"model": "one@1", "opinions": {"one@1": 0.25}},
        **{name: each for name, each in signals.items() if name in ImageSignals.model_fields},
    }
    answer = ImageAnswer.model_validate(
        {
            "analysis_id": "5748e24c-f0fb-40b0-90dc-b399c60af656",
            "timestamp": "2026-01-15T12:00:00Z",
            "filename": "a.jpg",
            "processing_time_ms": 5,
            "provenance": provenance,
            "classification": "SUSPICIOUS",
            "confidence": "LOW",
            "risk_score": 60,
            "signals": usual,
            "face_detections": [],
            "explanation": {"summary": "It may be changed.", "factors": ["One factor"], "recommendation": "Ask."},
            "heatmap_url": "/api/v1/results/5748e24c/heatmap.png",
        }
    ).model_dump(mode="json")
    answer["signals"] |= signals
    return json.dumps(answer)


async def answering(visit: Visit, path: str, body: str) -> None:
    """Have the service answer a path with this JSON."""

    async def answer(route: Route) -> None:
        await route.fulfill(body=body, content_type="application/json")

    await visit.page.route(path, answer)


@pytest.mark.parametrize("size", [(1360, 900), (390, 844)], ids=["1360 pixels", "390 pixels"])
async def test_signals_and_provenance_are_shown_whatever_they_are(
    visiting: Visiting, tmp_path: Path, size: tuple[int, int]
) -> None:
    async with visiting(size) as visit:
        page = visit.page
        signals = {
            "quite_new": {"score": 0.875, "weight": 0.1, "effective_weight": 0.4, "places": {"left": 0.123456}},
            "provenance": {
                **{"score": None, "weight": 0, "effective_weight": 0, "unavailable": None},
                **{"status": "invalid", "declared": "signed_unknown"},
            },
        }
        await answering(visit, "**/api/v1/analyze/image/", judged(signals, PROVENANCE))
        await visit.open("authenticity")
        await chosen(visit, tmp_path, ("a.jpg", half_sharp()))
        await page.get_by_role("heading", name="Signals").wait_for()
        new = page.locator(".signal", has_text="Quite new")
        assert "0.88" in await new.inner_text()
        assert "counts for 40 %" in await new.inner_text()
        await new.get_by_text("What was measured").click()
        assert "0.1235" in await new.inner_text()
        assert "too small" in await page.locator(".signal", has_text="Compression").inner_text()
        block = page.locator("section.card", has=page.get_by_role("heading", name="Provenance"))
        text = await block.inner_text()
        for said in (
            *("Invalid", "The signature does not hold", "Generated by Picture Maker 3, as an unknown signer says"),
            *("Example Signer, Example Ltd", "changed since they were signed", "<b>bold</b>.jpg", "Color adjustments"),
            *("before.jpg, parent of, captured, credentials trusted, of A Camera", "The bytes are others."),
            "The bytes were changed after signing.",
        ):
            assert said.casefold() in text.casefold(), said
        await block.get_by_text("Metadata that nobody signed").click()
        assert "Editor 5" in await block.inner_text()
        await accessible(visit)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.watched.elsewhere == []


async def test_a_file_without_a_verdict_is_said_to_have_none(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        answer = json.loads(judged({}, None)) | {"media_type": "audio", "classification": None, "risk_score": None}
        answer |= {"signals": None, "heatmap_url": None, "segments": []}
        await answering(visit, "**/api/v1/analyze/audio/", json.dumps(answer))
        await visit.open("authenticity")
        await chosen(visit, tmp_path, ("voice.wav", b"RIFF"))
        await visit.page.get_by_text("No verdict").wait_for()
        visit.watched.check()


async def test_criteria_and_pictures_of_a_muzzle_are_shown_whatever_they_are(
    visiting: Visiting, tmp_path: Path
) -> None:
    async with visiting() as visit:
        page = visit.page
        shown = base64.b64encode(encoded(Image.fromarray(np.zeros((20, 60, 3), np.uint8)), "PNG")).decode()
        criterion = {"metric": "print_match", "value": 42, "threshold": 12, "passed": True, "description": "42 agree."}
        body = {
            "decision": {"verdict": "MATCH", "score": 0.9, "explanation": "It matches."},
            "summary": {"criteria": [criterion]},
            "print": {"matches_png": shown, "probe_photo": {"usable": False, "reasons": ["Come nearer."]}},
        }
        await answering(visit, "**/predict/file*", json.dumps(body))
        await visit.open("muzzle")
        for place in range(4):
            await chosen(visit, tmp_path, (f"{place}.png", muzzle(1, place)), place=f".drop input >> nth={place}")
        await page.get_by_role("button", name="Compare").click()
        await page.get_by_text("✓ Print match").wait_for()
        assert "42 agree." in await page.locator(".meter").inner_text()
        assert await page.locator("img.matches").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [
            60,
            20,
        ]
        assert "Come nearer." in await page.locator(".verdict").inner_text()
        await accessible(visit)
        visit.watched.check()
