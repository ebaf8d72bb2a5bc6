"""Finding the shots of a video over HTTP, with a worker beside: the answer, the job behind it, the contact sheet."""

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from configs import settings as settings_module
from deployments.people.identity import FaceVector
from deployments.serving.catalog import local_handle
from graphs.indexing.shots import KeyframeLabels
from graphs.web.uploads.library import Library
from stores.records import Asset
from stores.shots import ShotAnalysis
from tests.contract.fields import SHOT_CONTRACT
from tests.dummies import DummyEmbed, video
from tests.dummies.texts import DummyLook
from tests.dummies.video import PEOPLE, DummyCuts, DummyRecognizer, seen_in
from tests.graphs.harness import configured
from tests.graphs.indexing import IndexService, Shot, Walk, film, index_service, without_weights
from tests.graphs.samples import picture
from vision.embed.clip import ClipEmbedding
from vision.errors import InvalidInput, ModelNotLoaded
from vision.faces.face import Face
from vision.images import Pixels
from vision.shots.tags import ZERO_SHOT


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    config = configured(monkeypatch, tmp_path, request_timeout_s=30)
    async with index_service(config) as made:
        yield made
    settings_module.settings.cache_clear()


async def asked(service: IndexService, asset_id: str, **more: Any) -> httpx.Response:
    return await service.client.post("/api/v1/analyze-video-shots", json={"video_asset_id": asset_id, **more})


async def analyzed(service: IndexService, asset: Asset, **more: Any) -> dict[str, Any]:
    async with service.working():
        answer = await asked(service, asset.asset_id, **more)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_the_shots_of_a_video(service: IndexService) -> None:
    asset = await service.add(film())
    analysis = await analyzed(service, asset)
    assert {name: analysis[name] for name in ("video_asset_id", "video_filename", "video_duration", "fps")} == {
        "video_asset_id": asset.asset_id,
        "video_filename": "film.mp4",
        "video_duration": 5.2,
        "fps": 25.0,
    }
    assert analysis["shots_detected"] == 3
    shots = analysis["shot_analyses"]
    promised = SHOT_CONTRACT["POST", "analyze-video-shots"]
    assert {*promised.response, "processing_time"} <= set(analysis)
    assert all(set(promised.parts["shot_analyses"]) <= set(shot) for shot in shots)
    assert [(shot["start_frame"], shot["end_frame"]) for shot in shots] == [(0, 59), (60, 89), (90, 129)]
    times = [(shot["start_timestamp"], shot["end_timestamp"], shot["duration"]) for shot in shots]
    assert times == [(0.0, 2.4, 2.4), (2.4, 3.6, 1.2), (3.6, 5.2, 1.6)]
    assert [shot["transition_in"] for shot in shots] == [
        None,
        {"kind": "cut", "first_frame": 59, "last_frame": 60, "probability": 0.9},
        {"kind": "cut", "first_frame": 89, "last_frame": 90, "probability": 0.9},
    ]
    assert [shot["confidence"] for shot in shots] == [0.9, 0.9, 0.9]
    for index, shot in enumerate(shots):
        assert shot["shot_index"] == index
        assert shot["start_frame"] <= shot["keyframe_frame"] <= shot["end_frame"]
        assert shot["keyframe_time"] == pytest.approx(shot["keyframe_frame"] / 25)
        assert len(shot["features"]) == 384
        assert shot["features_version"] == "dummy@00000000"
        assert shot["camera_movement"] in shot["auto_tags"] or shot["camera_movement"] == "undetermined"
    # Ada and Bob, then Cyd, then Ada: people by the faces of several frames, the shot of two as such.
    assert [("two_people" in shot["auto_tags"], "one_person" in shot["auto_tags"]) for shot in shots] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert {shot["shot_size"] for shot in shots} <= {"medium_close_up", "medium", "close_up"}
    thumbnail = await service.client.get(shots[1]["thumbnail_url"])
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg")
    assert np.asarray(Image.open(io.BytesIO(thumbnail.content))).shape == (108, 192, 3)


@pytest.mark.parametrize(
    ("key", "part"), [("embed/dinov3", "features"), ("people/faces", "faces"), ("embed/clip", "auto_tags.clip")]
)
async def test_without_a_model_the_shots_have_the_rest(service: IndexService, key: str, part: str) -> None:
    asset = await service.add(film())
    mend = without_weights(service, key, ModelNotLoaded("no weights; get them\n- it, folder: not set"))
    analysis = await analyzed(service, asset)
    assert analysis["unavailable"][part] == "no weights; get them"
    shots = analysis["shot_analyses"]
    assert [(shot["start_frame"], shot["end_frame"]) for shot in shots] == [(0, 59), (60, 89), (90, 129)]
    assert {shot["features"] is None for shot in shots} == {part == "features"}
    assert {shot["shot_size"] == "undetermined" for shot in shots} == {part == "faces"}
    assert (await asked(service, asset.asset_id)).json()["unavailable"] == analysis["unavailable"]  # nobody works now
    mend()
    complete = await analyzed(service, asset)
    assert part == "auto_tags.clip" or part not in complete.get("unavailable", {})
    assert {shot["features"] is None for shot in complete["shot_analyses"]} == {False}


async def test_asked_again_it_is_known(service: IndexService) -> None:
    asset = await service.add(film())
    first = await analyzed(service, asset)
    windows = DummyCuts.running.windows
    again = (await asked(service, asset.asset_id)).json()  # nobody works now
    assert DummyCuts.running.windows == windows == 3
    assert again["shot_analyses"] == first["shot_analyses"]
    without = (await asked(service, asset.asset_id, extract_keyframes=False)).json()
    assert [shot["features"] for shot in without["shot_analyses"]] == [None] * 3
    assert [shot["thumbnail_url"] for shot in without["shot_analyses"]] == [None] * 3


async def test_decisions_are_enough_only_at_the_usual_threshold(service: IndexService) -> None:
    asset = await service.add(film())
    await analyzed(service, asset)
    glances = DummyCuts.running.glances
    assert 1 <= glances < DummyCuts.running.windows == 3  # two cuts are in the second window
    await analyzed(service, asset, shot_detection_threshold=0.2)
    assert (DummyCuts.running.windows, DummyCuts.running.glances) == (6, glances)


async def test_a_stage_of_an_older_version_gets_whole_windows(
    service: IndexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DummyCuts, "takes_decisions", False)
    assert (await analyzed(service, await service.add(film())))["shots_detected"] == 3
    assert (DummyCuts.running.windows, DummyCuts.running.glances) == (3, 0)


async def test_another_threshold_is_another_analysis(service: IndexService) -> None:
    asset = await service.add(film())
    assert (await analyzed(service, asset))["shots_detected"] == 3
    # Bob comes in, which the dummy gives 0.3.
    lenient = await analyzed(service, asset, shot_detection_threshold=0.2)
    assert [shot["start_frame"] for shot in lenient["shot_analyses"]] == [0, 21, 60, 90]
    assert (await analyzed(service, asset))["shots_detected"] == 3
    kinds = [job.kind for job in await service.context.jobs.list(subject=asset.asset_id)]
    assert kinds == ["analyze-shots"] * 3


async def test_indexing_finds_the_same_shots(service: IndexService) -> None:
    asset = await service.add(film())
    alone = (await analyzed(service, asset))["shot_analyses"]
    await service.context.shots.delete_video(asset.asset_id)
    job = await service.index(asset)
    assert job.result is not None
    assert job.result["shots"] == 3
    together = (await asked(service, asset.asset_id)).json()["shot_analyses"]
    for one, other in zip(alone, together, strict=True):
        same = ("start_frame", "end_frame", "camera_movement", "movement_intensity", "keyframe_frame", "features")
        assert {name: one[name] for name in same} == {name: other[name] for name in same}
        assert (one["shot_size"], other["shot_size"]).count("undetermined") == 0


async def test_an_analysis_that_takes_too_long_is_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(monkeypatch, tmp_path, request_timeout_s=3)
    async with index_service(config) as service:
        asset = await service.add(film())
        answer = await asked(service, asset.asset_id)  # nobody works
        assert answer.status_code == 202
        pending = answer.json()
        assert (pending["video_asset_id"], pending["status"], pending["progress"]) == (asset.asset_id, "queued", 0)
        assert (await service.client.get(pending["status_url"])).json()["job_id"] == pending["job_id"]
        again = (await asked(service, asset.asset_id)).json()
        assert again["job_id"] == pending["job_id"]
        async with service.working():
            await service.ended(pending["job_id"])
        assert (await asked(service, asset.asset_id)).status_code == 200
    settings_module.settings.cache_clear()


async def test_bad_input(service: IndexService) -> None:
    def error(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["code"]

    assert error(await asked(service, "0" * 32)) == (404, "ASSET_NOT_FOUND")
    still = await service.add(picture(1), "still.png")
    assert error(await asked(service, still.asset_id)) == (400, "INVALID_INPUT")
    asset = await service.add(film())
    for threshold in (0, 1, -0.1, 7, "x"):
        answer = await asked(service, asset.asset_id, shot_detection_threshold=threshold)
        assert error(answer) == (422, "VALIDATION_ERROR")
    sheet = f"/api/v1/shots/sheets/{asset.asset_id}"
    assert error(await service.client.get(f"{sheet}.png")) == (409, "NOT_ANALYZED")
    assert error(await service.client.get(f"{sheet}.html")) == (409, "NOT_ANALYZED")
    assert await service.context.jobs.list() == []


async def test_a_job_that_fails_or_is_cancelled_ends_the_wait(service: IndexService, tmp_path: Path) -> None:
    asset = await service.add(film())
    waiting = asyncio.create_task(asked(service, asset.asset_id))
    while not (jobs := await service.context.jobs.list()):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await service.context.jobs.cancel(jobs[0].job_id)
    answer = await waiting
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "ANALYSIS_CANCELLED")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 5000)
    await service.context.objects.put_file(asset.asset_id, broken, "video/mp4")
    async with service.working():
        answer = await asked(service, asset.asset_id)
    assert answer.status_code == 500
    assert "damaged" in answer.json()["error"]["message"]


async def test_a_keyframe_without_features_does_not_cost_the_others(
    service: IndexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await service.add(film())
    embed, calls = DummyEmbed.running.predict, []

    def second_fails(raw: Any) -> Any:
        calls.append(raw)
        if len(calls) == 2:
            raise InvalidInput("a strange picture")
        return embed(raw)

    monkeypatch.setattr(DummyEmbed.running, "predict", second_fails)
    shots = (await analyzed(service, asset))["shot_analyses"]
    assert sum(shot["features"] is None for shot in shots) == 1


async def test_the_contact_sheet(service: IndexService) -> None:
    asset = await service.add(film(), '<b>film".mp4')
    analysis = await analyzed(service, asset)
    answer = await service.client.get(analysis["contact_sheet_url"])
    assert (answer.headers["content-type"], answer.headers["x-pages"]) == ("image/png", "1")
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    # Three pictures side by side, each on the background of its shot.
    for column, colour in enumerate(((200, 200, 120), (90, 90, 90), (150, 120, 200))):
        left = 12 + column * 332
        inside = sheet[44:224, left : left + 320]
        assert (np.abs(inside - colour).sum(2) < 40).mean() > 0.3
    page = await service.client.get(analysis["contact_sheet_url"].replace(".png", ".html"))
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "&lt;b&gt;film&quot;.mp4: 3 shots" in page.text
    assert "<b>" not in page.text
    assert page.text.count("<figure>") == 3
    for shot in analysis["shot_analyses"]:
        assert f"thumbnail?frame={shot['keyframe_frame']}" in page.text


async def test_keyframes_go_with_what_they_are_of(service: IndexService) -> None:
    async def keyframes() -> int:
        return len([info async for info in service.context.objects.list(f"{asset.asset_id}/shots/")])

    asset = await service.add(film())
    analysis = await analyzed(service, asset)
    assert await keyframes() == 3
    kept = analysis["shot_analyses"][1] | {"scene_description": "somebody waits"}
    answer = await service.client.post(
        "/api/v1/store-shot-data", json={"video_asset_id": asset.asset_id, "shots": [kept]}
    )
    assert answer.status_code == 200, answer.text
    assert (await analyzed(service, asset, shot_detection_threshold=0.2))["shots_detected"] == 4
    # The first shot became two, and those of the others are the same.
    assert await keyframes() == 4
    await service.context.shots.put_analysis(ShotAnalysis(asset.asset_id, "none", datetime.now(UTC), ()))
    assert (await analyzed(service, asset))["shots_detected"] == 3
    assert await keyframes() == 3
    await Library(service.context).delete(asset.asset_id)
    assert await keyframes() == 0
    assert await service.context.shots.get_analysis(asset.asset_id) is None


class Sentences(DummyLook):
    """CLIP for which every sentence is a direction of its own."""

    def predict(self, item: Any) -> ClipEmbedding:
        return ClipEmbedding(direction(item), "dummy/clip")


def direction(sentence: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.random.default_rng(list(sentence.encode())).normal(size=512)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


async def test_labels_are_those_that_a_keyframe_is_clearly_like() -> None:
    labels = KeyframeLabels(await local_handle(Sentences))
    night, sea = ZERO_SHOT["time_of_day"]["night"], ZERO_SHOT["setting"]["sea"]
    tags = await labels.of(direction(night) + direction(sea))
    assert {"night", "sea"} <= set(tags)
    assert len(tags) <= len(ZERO_SHOT)
    # Between two of one set it cannot choose.
    day = ZERO_SHOT["time_of_day"]["day"]
    assert not {"night", "day"} & set(await labels.of(direction(night) + direction(day)))


async def test_the_sentences_are_embedded_once_by_each_model() -> None:
    embedded: list[str] = []

    class Counted(Sentences):
        def predict(self, item: Any) -> ClipEmbedding:
            embedded.append(item)
            return super().predict(item)

    clip, night = await local_handle(Counted), direction(ZERO_SHOT["time_of_day"]["night"])
    sentences = sorted(sentence for labels in ZERO_SHOT.values() for sentence in labels.values())
    labels = KeyframeLabels(clip, "one")
    tags = await asyncio.gather(*(labels.of(night) for _ in range(4)))
    assert all("night" in each and each == tags[0] for each in tags)
    assert await KeyframeLabels(clip, "one").of(night) == tags[0]
    assert sorted(embedded) == sentences
    await KeyframeLabels(clip, "another").of(night)
    assert sorted(embedded) == sorted(2 * sentences)


async def test_a_library_shot_keeps_its_own_keyframe(service: IndexService) -> None:
    asset = await service.add(film())
    shot = (await analyzed(service, asset))["shot_analyses"][1]
    other = shot["end_frame"] if shot["keyframe_frame"] != shot["end_frame"] else shot["start_frame"]
    changed = shot | {"keyframe_frame": other, "keyframe_time": None}
    body = {"video_asset_id": asset.asset_id, "shots": [changed]}
    stored = (await service.client.post("/api/v1/store-shot-data", json=body)).json()["stored_shot_ids"][0]
    url = f"/api/v1/shots/{stored}/thumbnail"
    before = (await service.client.get(url)).content
    await analyzed(service, asset, shot_detection_threshold=0.4)
    assert (await service.client.get(url)).content == before
    (kept,) = (await service.context.shots.get_shots([stored])).values()
    assert (kept.keyframe_frame, kept.features) == (other, None)  # those of the analysis are of another picture


async def test_an_analysis_that_was_lost_is_made_again(service: IndexService) -> None:
    asset = await service.add(film())
    await analyzed(service, asset)
    await service.context.shots.delete_video(asset.asset_id)
    assert (await analyzed(service, asset))["shots_detected"] == 3


async def test_a_video_too_thin_to_measure_movement_in_has_shots(service: IndexService) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 16, "yuv420p"
        for number in range(1200):
            pixels = np.full((16, 640, 3), (number // 600) * 120 + 40, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    asset = await service.add(file.getvalue())
    analysis = await analyzed(service, asset)
    assert [shot["start_frame"] for shot in analysis["shot_analyses"]] == [0, 600]
    assert {shot["camera_movement"] for shot in analysis["shot_analyses"]} == {"undetermined"}
    assert (await service.client.get(analysis["contact_sheet_url"])).status_code == 200


SOMEBODY: dict[str, Walk] = {"ada": (0, 29, (40, 30), (60, 30))}


@pytest.mark.parametrize("fps", [25, 50])
@pytest.mark.parametrize("black", [1, 2, 3])
@pytest.mark.parametrize("place", ["beginning", "middle", "end"])
async def test_a_few_frames_of_one_shade_are_no_shot(service: IndexService, fps: int, black: int, place: str) -> None:
    shots: list[Shot] = [(30, SOMEBODY), (30, {"bob": (0, 29, (90, 30), (90, 30))})]
    shots.insert({"beginning": 0, "middle": 1, "end": 2}[place], (black, {}))
    analysis = await analyzed(service, await service.add(film(shots, fps)))
    first, second = (shot["start_frame"] for shot in analysis["shot_analyses"])
    # In the middle the black is where the one goes over into the other.
    assert first == 0
    assert second in {"beginning": (30 + black,), "middle": range(30, 31 + black), "end": (30,)}[place]
    assert analysis["shot_analyses"][-1]["end_frame"] == 60 + black - 1
    assert [shot["shot_size"] != "undetermined" for shot in analysis["shot_analyses"]] == [True, True]


async def test_a_longer_stretch_of_one_shade_is_a_shot_and_so_is_a_short_one_that_shows_something(
    service: IndexService,
) -> None:
    blank = await analyzed(service, await service.add(film([(30, SOMEBODY), (10, {}), (30, SOMEBODY)])))
    assert [shot["start_frame"] for shot in blank["shot_analyses"]] == [0, 30, 40]
    glimpse: Shot = (2, {"cyd": (0, 1, (20, 20), (20, 20)), "bob": (0, 1, (120, 50), (120, 50))})
    shown = await analyzed(service, await service.add(film([(30, SOMEBODY), glimpse, (30, SOMEBODY)])))
    assert [shot["start_frame"] for shot in shown["shot_analyses"]] == [0, 30, 32]


async def sizes(service: IndexService) -> list[str]:
    """The sizes of the shots of the film, once it is indexed: Ada and Bob, Cyd, and Ada."""
    analysis = await service.context.shots.get_analysis((await service.indexed()).asset_id)
    assert analysis is not None
    return [shot.shot_size for shot in analysis.shots]


@pytest.mark.parametrize(("strength", "quality", "person"), [(13.0, 0.9, True), (5.0, 0.9, False), (5.0, 0.5, True)])
async def test_a_face_that_is_surely_drawn_is_no_person_of_a_shot(
    service: IndexService, monkeypatch: pytest.MonkeyPatch, strength: float, quality: float, person: bool
) -> None:
    predict = DummyRecognizer.predict

    def drawn(stage: DummyRecognizer, item: tuple[Pixels, tuple[Face, ...]]) -> tuple[FaceVector, ...]:
        image, faces = item
        middles = [image[int(face.y + face.height / 2), int(face.x + face.width / 2)].astype(int) for face in faces]
        is_cyd = [np.abs(middle - PEOPLE["cyd"]).sum() < 60 for middle in middles]
        given = zip(predict(stage, item), is_cyd, strict=True)
        return tuple(FaceVector(each.vector, quality, strength) if cyd else each for each, cyd in given)

    monkeypatch.setattr(DummyRecognizer, "predict", drawn)
    first, second, third = await sizes(service)
    assert "undetermined" not in (first, third)
    assert (second != "undetermined") == person


async def test_a_face_that_pictures_would_not_count_is_no_person_of_a_shot(
    service: IndexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "seen_in", lambda image: tuple(replace(face, confidence=0.8) for face in seen_in(image)))
    assert await sizes(service) == ["undetermined"] * 3
