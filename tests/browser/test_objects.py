"""Objects in the console: in films over time and over the picture, in pictures, chosen, filtered, and not there."""

import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
from playwright.async_api import expect

from graphs.media.boxes import Boxes
from graphs.media.spans import Span
from stores.people import Identity, ObjectRecord, TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from tests.browser.conftest import Visit, Visiting, accessible, until_film_is_at
from tests.browser.test_views import uploaded
from tests.dummies.objects import DummyDetector
from tests.graphs.indexing import FPS, SIZE, film, without_weights
from tests.graphs.samples import picture
from tests.graphs.test_media_objects import SCENE
from tests.graphs.test_objects import scene
from vision.errors import ModelNotLoaded
from vision.media.overlay import PALETTE

FRAMES = sum(frames for frames, _ in SCENE)
VECTOR = np.ones(4, np.float32) / 2
WHY = "It has no weights here."
COVERED = """() => {
  const edges = (each) => each.getBoundingClientRect();
  const plates = [...document.querySelectorAll(".boxes .plate")].map(edges);
  const faces = [...document.querySelectorAll(".boxes rect.face")].map(edges);
  const apart = (a, b) => a.left > b.right - 0.5 || a.top > b.bottom - 0.5;
  const over = (a, b) => !apart(a, b) && !apart(b, a);
  const frame = edges(document.querySelector(".boxes"));
  const leaves = (a) => a.left < frame.left - 1 || a.right > frame.right + 1 || a.bottom > frame.bottom + 1;
  return {
    labels: plates.length,
    faces: faces.length,
    each_other: plates.filter((a, place) => plates.slice(place + 1).some((b) => over(a, b))).length,
    of_faces: plates.filter((a) => faces.some((b) => over(a, b))).length,
    outside: plates.filter(leaves).length,
  };
}"""
"""Labels in sight, and how many of them cover each other, cover a face, or leave the picture."""


async def filmed(visit: Visit) -> Asset:
    """A film with a dog, then a car and Ada in a person's box."""
    DummyDetector.running.confidences["person"] = 0.8  # enough to begin a track
    return await visit.service.indexed(film(SCENE))


def boxes_of(first: int, last: int, box: tuple[float, float, float, float]) -> TraceBoxes:
    count = last - first + 1
    detected = np.arange(count) % 8 == 0
    boxes = np.tile(np.array(box, np.float32), (count, 1))
    return TraceBoxes(np.arange(first, last + 1), boxes, np.full(count, 0.8, np.float32), detected)


def trace_of(asset_id: str, number: int, first: int, last: int, identity: str | None = None) -> TraceRecord:
    return TraceRecord(asset_id, number, first, last, first / FPS, last / FPS, last - first, identity, VECTOR)


def object_of(
    asset_id: str, number: int, label: str, first: int, last: int, confidence: float, trace: int | None = None
) -> ObjectRecord:
    lasts = (last - first + 1) / FPS
    times = first / FPS, last / FPS
    return ObjectRecord(asset_id, number, label, first, last, *times, 1 + (last - first) // 8, confidence, lasts, trace)


def crowd(asset_id: str, classes: int, tracks: int, faces: int) -> tuple[list[Any], list[Any]]:
    """Traces and objects in a film of ``FRAMES``, as they come; the first class is seen longest."""
    some = random.Random(3)
    traces, objects = [], []
    for number in range(1, faces + 1):
        box = some.uniform(0, 170), some.uniform(0, 80), 12.0, 16.0
        traces.append((trace_of(asset_id, number, 0, FRAMES - 1), boxes_of(0, FRAMES - 1, box)))
    for number in range(1, tracks + 1):
        place = number % classes
        first = some.randrange(0, FRAMES - 60) if place else 0
        last = first + (40 if place else FRAMES - 1)
        width, height = some.uniform(10, 50), some.uniform(10, 50)
        box = some.uniform(0, SIZE[0] - width), some.uniform(0, SIZE[1] - height), width, height
        record = object_of(asset_id, number, f"class {place}", first, last, some.uniform(0.3, 1))
        objects.append((record, boxes_of(first, last, box)))
    return traces, objects


def index_of(asset_id: str, traces: int, objects: int) -> VideoIndex:
    return VideoIndex(
        asset_id=asset_id,
        models="dummy@00000001",
        width=SIZE[0],
        height=SIZE[1],
        fps=FPS,
        duration=FRAMES / FPS,
        frame_count=FRAMES,
        step=2,
        cuts=(60,),
        indexed_at=datetime.now(UTC),
        trace_count=traces,
        objects="dummy@00000000:",
        object_count=objects,
    )


async def crowded(visit: Visit, classes: int = 80, tracks: int = 400, faces: int = 6) -> Asset:
    """A film in which much is seen, as a store has it."""
    asset = await visit.service.add(film(SCENE))
    traces, objects = crowd(asset.asset_id, classes, tracks, faces)
    index = index_of(asset.asset_id, len(traces), len(objects))
    await visit.service.context.people.put_index(index, traces, objects)
    return asset


async def test_objects_are_on_the_timeline_and_over_the_film(visiting: Visiting) -> None:
    async with visiting() as visit:
        page, asset = visit.page, await filmed(visit)
        await visit.open(f"video/{asset.asset_id}?t=1.2")
        await page.wait_for_selector(".objects li >> nth=1")
        # Classes are seen longest first; the person whose face is known is in the row of that person.
        assert [text.split()[0] for text in await page.locator(".objects li > span").all_inner_texts()] == [
            "dog",
            "car",
        ]
        rows = await page.locator(".lane[data-row]").evaluate_all("rows => rows.map(row => row.dataset.row)")
        assert rows == ["Person 1", "Person 2", "class dog", "class car"]
        await expect(page.locator(".lane[data-row='Person 2'] path.faint")).to_have_count(1)
        assert "among the people" in await page.locator("section", has_text="Objects").last.inner_text()
        await page.wait_for_selector(".boxes text >> nth=1", state="attached")
        assert sorted(await page.locator(".boxes text").all_text_contents()) == ["Person 1", "dog"]
        await accessible(visit)

        # A stretch that is clicked is chosen; so is a picture, with the keyboard.
        lane = page.locator(".lane[data-row='class car']")
        box = await lane.bounding_box()
        assert box is not None
        await lane.click(position={"x": 0.75 * box["width"], "y": box["height"] / 2})
        card = page.get_by_label("The chosen object")
        await expect(card.get_by_role("heading")).to_contain_text("car")
        facts = await card.inner_text()
        assert "60 % on average" in facts
        assert "Seen\n0:02.40" in facts
        await until_film_is_at(page, 0.75 * FRAMES / FPS)
        await expect(lane.locator("path.chosen")).to_have_count(1)
        await page.wait_for_selector(".boxes rect.chosen", state="attached")
        # Ada and the body around her face are one, with one label.
        await page.wait_for_selector(".boxes rect >> nth=2", state="attached")
        assert sorted(await page.locator(".boxes text").all_text_contents()) == ["Person 2", "car"]
        await page.locator(".objects button").first.focus()
        await page.keyboard.press("Enter")
        await expect(card.get_by_role("heading")).to_contain_text("dog")
        await expect(page.locator(".objects button").first).to_have_attribute("aria-pressed", "true")
        await until_film_is_at(page, 0)
        await accessible(visit)
        # What is chosen stays, where boxes are not wanted.
        await page.get_by_role("button", name="Boxes around objects").click()
        await expect(page.locator(".boxes rect:not(.face)")).to_have_count(1)
        await page.get_by_role("button", name="Close").click()
        await expect(page.locator(".boxes rect:not(.face)")).to_have_count(0)
        visit.watched.check()


async def test_one_object_is_played_and_boxes_are_drawn_of_some(visiting: Visiting) -> None:
    async with visiting(api_key="the-key-of-this-test") as visit:
        page = visit.page
        visit.service.client.headers["x-api-key"] = "the-key-of-this-test"
        asset = await filmed(visit)
        await page.add_init_script("sessionStorage.setItem('visiongraph.key', 'the-key-of-this-test')")
        await page.goto(f"{visit.url}/console#/video/{asset.asset_id}")
        await page.locator(".objects button").first.click()
        await page.get_by_role("button", name="Play it alone").click()
        played = "(part) => document.querySelector('video[src*=signature]')?.src.includes(part)"
        await page.wait_for_function(played, arg="/object/1/video")
        assert await page.get_by_label("Play").input_value() == "object 1"
        await page.get_by_label("Play").select_option("boxes")
        await page.wait_for_function(played, arg="/video/bbox")
        await page.get_by_role("group", name="Classes of objects").get_by_role("button", name="car").click()
        await page.wait_for_function(played, arg="classes=car%2Cface")
        await page.wait_for_function("() => document.querySelector('video').readyState >= 1")
        visit.watched.check()


async def test_classes_and_confidence_choose_what_is_shown(visiting: Visiting) -> None:
    async with visiting() as visit:
        page, asset = visit.page, await filmed(visit)
        await visit.open(f"video/{asset.asset_id}?objects=car")
        group = page.get_by_role("group", name="Classes of objects")
        car = group.get_by_role("button", name="car")
        await car.wait_for()
        await expect(car).to_have_attribute("aria-pressed", "true")
        await expect(page.locator(".objects li")).to_have_count(1)
        await expect(page.locator(".lane[data-row='class dog']")).to_have_count(0)
        await car.focus()
        await page.keyboard.press("Space")
        await expect(page.locator(".objects li")).to_have_count(2)
        least = page.get_by_role("slider", name="Least confidence")
        await least.fill("0.9")
        await expect(least).to_have_attribute("aria-valuetext", "90 %")
        await expect(page.locator(".objects li")).to_have_count(1)
        await expect(page.locator(".lane[data-row='class car']")).to_have_count(0)
        await group.get_by_role("button", name="car").click()
        await page.get_by_text("Nothing is left of this choice").wait_for()
        visit.watched.check()


async def test_hundreds_of_tracks_of_80_classes_stay_usable(visiting: Visiting) -> None:
    async with visiting() as visit:
        page, asset = visit.page, await crowded(visit)
        await visit.open(f"video/{asset.asset_id}?t=2")
        await page.wait_for_selector(".objects li >> nth=23")
        await expect(page.locator(".lane[data-row^=class]")).to_have_count(5)
        await expect(page.locator(".lane[data-row^=class]").first).to_have_attribute("data-row", "class class 0")
        await expect(page.locator(".objects li")).to_have_count(24)
        more = page.get_by_role("button", name="75 more classes in the timeline")
        await more.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(".lane[data-row^=class]")).to_have_count(80)
        await page.get_by_role("button", name="fewer classes").click()
        await expect(page.locator(".lane[data-row^=class]")).to_have_count(5)
        await page.get_by_role("button", name="70 more classes").click()
        await expect(page.get_by_role("group", name="Classes of objects").get_by_role("button")).to_have_count(81)
        await page.get_by_role("button", name="Show 24 more of 400").click()
        await expect(page.locator(".objects li")).to_have_count(48)
        # Labels cover neither each other nor a face.
        await page.wait_for_function(
            "() => document.querySelectorAll('rect').length > 60 && document.querySelectorAll('.face').length === 6"
        )
        for width, height in ((1360, 900), (3840, 2160), (390, 844)):
            await page.set_viewport_size({"width": width, "height": height})
            await page.wait_for_timeout(300)
            covered = await page.evaluate(COVERED)
            assert covered.pop("labels") > 6
            assert covered == {"faces": 6, "each_other": 0, "of_faces": 0, "outside": 0}, width
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        await accessible(visit)
        visit.watched.check()


async def test_colours_are_those_of_the_service(visiting: Visiting) -> None:
    some = random.Random(5)
    spans = [(first := some.randrange(FRAMES - 1), some.randrange(first, FRAMES)) for _ in range(100)]
    box = (10.0, 10.0, 20.0, 20.0)
    async with visiting() as visit:
        asset = await visit.service.add(film(SCENE))
        key, people = asset.asset_id, visit.service.context.people
        identities = [None, "1" * 32, "2" * 32]
        for uuid in identities[1:]:
            await people.put_identity(Identity(str(uuid), None, "m", VECTOR, 1.0, (), datetime.now(UTC)))
        traces = [
            (trace_of(key, number, *span, some.choice(identities)), boxes_of(*span, box))
            for number, span in enumerate(spans[:30], 1)
        ]
        bodies = [*range(1, 20), *[None] * 51]
        objects = [
            (object_of(key, number, "dog", *span, 0.5, trace), boxes_of(*span, box))
            for number, (span, trace) in enumerate(zip(spans[30:], bodies, strict=True), 1)
        ]
        await people.put_index(index_of(key, len(traces), len(objects)), traces, objects)
        track = await Boxes(visit.service.context).of_all(key, Span(), numbers=True)
        assert track is not None
        drawn = {
            track.labels[name]: "#{:02x}{:02x}{:02x}".format(*PALETTE[colour])
            for name, colour in zip(track.names.tolist(), track.colours.tolist(), strict=True)
        }
        await visit.open("library")
        shown = await visit.page.evaluate(
            """async (id) => {
                const [{ coloured }, { objectsOf }, { peopleOf }] = await Promise.all(
                    ["boxes", "objects", "video"].map((name) => import(`/console/${name}.js`)),
                );
                const seen = coloured(await peopleOf(id), await objectsOf(id));
                const traces = seen.people.flatMap(({ traces, colour }) => traces.map((each) => [each, colour]));
                return Object.fromEntries([
                    ...seen.objects.map((each) => [`dog ${each.track_id} 0.50`, each.colour]),
                    ...traces.map(([{ trace_id }, colour]) => [`trace ${trace_id}`, colour]),
                ]);
            }""",
            key,
        )
    assert len(drawn) == 100
    assert shown == drawn


async def test_a_film_whose_objects_were_not_looked_for_says_so_and_gets_them(visiting: Visiting) -> None:
    async with visiting() as visit:
        page = visit.page
        mend = without_weights(visit.service, "objects/detector", ModelNotLoaded(WHY))
        asset = await visit.service.indexed(film(SCENE))
        await visit.open(f"video/{asset.asset_id}")
        await page.get_by_text(f"No objects: {WHY}").wait_for()
        await page.wait_for_selector(".people li >> nth=1")
        await expect(page.get_by_role("heading", name="Objects")).to_have_count(0)
        await expect(page.get_by_role("button", name="Boxes around objects")).to_have_count(0)
        await expect(page.locator("[role=alert]")).to_have_count(0)
        await accessible(visit)
        mend()
        DummyDetector.running.confidences["person"] = 0.8
        await page.get_by_role("button", name="Look again").click()
        await page.wait_for_selector(".objects li >> nth=1")
        await expect(page.get_by_text("No objects")).to_have_count(0)
        visit.watched.check()


async def test_objects_are_drawn_over_a_picture(visiting: Visiting) -> None:
    async with visiting((390, 844)) as visit:
        page = visit.page
        await visit.open(f"asset/{await uploaded(visit, 'scene.png', scene())}")
        await page.wait_for_selector(".boxes text >> nth=1", state="attached")
        await expect(page.locator(".boxes text")).to_have_text(["dog 95 %", "car 60 %"])
        assert await page.locator(".boxes rect").first.evaluate(
            "rect => ['x', 'y', 'width', 'height'].map(name => Number(rect.getAttribute(name)))"
        ) == [20, 10, 60, 40]
        assert (await page.evaluate(COVERED))["each_other"] == 0
        await page.get_by_role("slider", name="Least confidence").fill("0.3")
        await expect(page.locator(".boxes rect")).to_have_count(3)
        await page.get_by_role("group", name="Classes of objects").get_by_role("button", name="car").click()
        await expect(page.locator(".boxes text")).to_have_text(["car 60 %"])
        await accessible(visit)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_role("button", name="Objects", exact=False).first.click()
        await expect(page.locator(".boxes rect")).to_have_count(0)
        visit.watched.check()


async def test_a_picture_without_a_detector_says_why(visiting: Visiting) -> None:
    async with visiting() as visit:
        without_weights(visit.service, "objects/detector", ModelNotLoaded(WHY))
        await visit.open(f"asset/{await uploaded(visit, 'some.png', picture(1))}")
        said = visit.page.locator(".notice", has_text=WHY)
        await said.wait_for()
        assert (await said.inner_text()).startswith("Objects: ")
        assert await visit.page.get_by_role("button", name="Objects").is_disabled()
        await accessible(visit)
        visit.watched.check()
