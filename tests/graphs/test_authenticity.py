"""The authenticity API: verdicts, what is missing from them, what is refused, and what is kept."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from graphs.authenticity import analyze
from graphs.authenticity.fusion import pooled
from graphs.authenticity.uploads import VIDEOS_AT_ONCE, VIDEOS_DECODED_AT_ONCE
from tests.dummies.video import PEOPLE
from tests.graphs.authenticity import (
    BASE,
    AuthenticityService,
    coded,
    detail_of,
    film,
    saved,
    scene,
    serving_authenticity,
    tone,
    wav,
)
from tests.graphs.harness import settings_in
from tests.graphs.photos import stage_replaced
from tests.tolerances import decimals
from vision.errors import InvalidInput, ModelNotLoaded, StageUnavailable
from vision.forensics.voices import SAMPLES
from vision.images import Pixels
from vision.media.decord_reader import DecordReader

ADA, BOB = (PEOPLE[name][1] / 255 for name in ("ada", "bob"))


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuthenticityService]:
    with settings_in(tmp_path_factory.mktemp("authenticity")) as config:
        async with serving_authenticity(config) as made:
            yield made
            assert made.spooled == []


async def test_a_picture_has_all_that_the_contract_names(service: AuthenticityService) -> None:
    body = await service.judged("image/", saved(scene("ada", "bob")), "two.png")
    assert (body["media_type"], body["filename"]) == ("image", "two.png")
    visual, forensic = body["signals"]["visual"], body["signals"]["forensic"]
    assert (visual["faces_detected"], visual["analysis_type"], visual["weight"]) == (2, "face_level", 0.45)
    assert visual["score"] == pytest.approx(BOB, abs=decimals(3))  # the more suspicious face
    assert (forensic["weight"], forensic["effective_weight"]) == (0.3, 0.4)
    assert {"high_freq_ratio", "spectral_entropy", "noise_variance", "sharpness"} <= set(forensic["features"])
    risk = 100 * pooled([(visual["score"], 0.6), (forensic["score"], 0.4)])
    assert body["risk_score"] == pytest.approx(risk, abs=0.1)
    assert [face["fake_probability"] for face in body["face_detections"]] == pytest.approx([ADA, BOB], abs=decimals(3))
    assert body["face_detections"][0]["bbox"] == [10, 30, 45, 80]
    assert "2 face(s) analyzed for manipulation signs" in body["explanation"]["factors"]
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize("route", ["image", "image/"])
async def test_the_slash_at_the_end_does_not_matter(service: AuthenticityService, route: str) -> None:
    assert (await service.send(route, saved(scene("ada")))).status_code == 200


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
async def test_formats_of_pictures_whatever_they_are_called(service: AuthenticityService, fmt: str) -> None:
    body = await service.judged("image/", saved(scene("ada"), fmt), "film.mp4")
    doubles = body["signals"]["forensic"]["features"]["double_compression"]
    assert (doubles is None) or fmt == "JPEG"


async def test_without_a_face_the_pixels_speak_alone(service: AuthenticityService) -> None:
    body = await service.judged("image/", saved(scene()))
    visual, forensic = body["signals"]["visual"], body["signals"]["forensic"]
    assert (visual["score"], visual["effective_weight"], visual["analysis_type"]) == (None, 0.0, "no_face")
    assert "no face" in visual["unavailable"]
    assert (forensic["effective_weight"], body["confidence"]) == (1, "LOW")
    assert body["risk_score"] == pytest.approx(100 * forensic["score"], abs=0.1)


async def test_an_absent_model_is_named_and_nothing_is_sure(service: AuthenticityService) -> None:
    service.visual.off = True
    try:
        body = await service.judged("image/", saved(scene("ada")))
    finally:
        service.visual.off = False
    assert body["confidence"] == "LOW"
    assert body["signals"]["visual"]["analysis_type"] == "unavailable"
    assert "no weights" in body["signals"]["visual"]["unavailable"]
    assert "No visual signal: forensics/visual has no weights here" in body["explanation"]["factors"]
    assert body["face_detections"][0]["fake_probability"] is None
    assert body["unavailable"] == {"signals.visual": "forensics/visual has no weights here."}
    assert "unavailable" not in await service.judged("image/", saved(scene("ada")))


async def test_a_batch_names_what_is_missing_for_each_file(service: AuthenticityService) -> None:
    service.visual.off = True
    try:
        files = [("files", ("a.png", saved(scene("ada")))), ("files", ("b.png", b"no picture"))]
        body = (await service.client.post(f"{BASE}/analyze/image/batch", files=files)).json()
    finally:
        service.visual.off = False
    good, bad = body["results"]
    assert (good["confidence"], list(good["unavailable"])) == ("LOW", ["signals.visual"])
    assert (bad["risk_score"], "unavailable" in bad) == (None, False)


async def test_a_video_without_models_is_judged_by_its_pixels(service: AuthenticityService) -> None:
    data = film([scene("ada", seed=place) for place in range(12)], tone(2, 0.5))
    gone = ModelNotLoaded("no weights\n- folder: not set")
    with stage_replaced(service, "people/video_faces", gone), stage_replaced(service, "forensics/speech", gone):
        body = await service.judged("video/", data, num_frames=4)
    assert body["unavailable"] == dict.fromkeys(("signals.audio", "signals.temporal", "signals.visual"), "no weights")
    assert (body["confidence"], body["signals"]["forensic"]["effective_weight"]) == ("LOW", 1)
    assert body["risk_score"] == pytest.approx(100 * body["signals"]["forensic"]["score"], abs=0.1)
    assert (body["temporal_consistency"], body["signals"]["audio"]["score"]) == ("UNAVAILABLE", None)


@pytest.mark.parametrize(
    ("key", "route"),
    [
        ("forensics/visual", "image/"),
        ("people/faces", "image/"),
        ("people/identity", "video/"),
        ("forensics/voice", "audio/"),
        ("forensics/speech", "audio/"),
    ],
)
async def test_a_model_that_is_away_for_a_moment_costs_no_signal(
    service: AuthenticityService, key: str, route: str
) -> None:
    data = {
        "image/": saved(scene("ada")),
        "video/": film([scene("ada", seed=place) for place in range(12)]),
        "audio/": wav(tone(2, 0.5)),
    }[route]
    with stage_replaced(service, key, StageUnavailable(f"{key} is restarting; try again in a few seconds.")):
        assert "is restarting" in detail_of(await service.send(route, data), 503)


async def test_never_a_verdict_from_nothing(service: AuthenticityService) -> None:
    service.visual.off = True
    try:
        answer = await service.send("image/", saved(scene().resize((40, 30))))  # too small to be measured as well
    finally:
        service.visual.off = False
    assert "there is no verdict" in detail_of(answer, 503)


@pytest.mark.parametrize("size", [(40, 30), (30, 65_000)], ids=["small", "thin"])
async def test_what_cannot_be_measured_is_no_fault_of_the_models(
    service: AuthenticityService, size: tuple[int, int]
) -> None:
    answer = await service.send("image/", saved(Image.new("RGB", size, (90, 90, 90)), "PNG"))
    assert "Nothing in this file can be measured" in detail_of(answer, 422)


async def test_a_batch_has_one_result_per_file(service: AuthenticityService) -> None:
    data = [saved(scene("bob")), b"\xff\xd8\xff\xe0 no jpeg", saved(scene("ada"))]
    files = [("files", (f"{place}.png", each)) for place, each in enumerate(data)]
    for end in ("", "/"):
        answer = await service.client.post(f"{BASE}/analyze/image/batch{end}", files=files)
        assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["batch_id"].startswith("batch-")
    assert (body["total_files"], [each["filename"] for each in body["results"]]) == (3, ["0.png", "1.png", "2.png"])
    good, bad, other = body["results"]
    assert good["risk_score"] > other["risk_score"]
    assert (bad["classification"], bad["risk_score"]) == (None, None)
    assert bad["error"]
    assert (await service.client.get(f"{BASE}/results/{good['analysis_id']}")).json()["filename"] == "0.png"


async def test_a_batch_has_ten_files_at_most(service: AuthenticityService) -> None:
    files = [("files", (f"{place}.png", saved(scene()))) for place in range(11)]
    assert "at most 10" in detail_of(await service.client.post(f"{BASE}/analyze/image/batch", files=files), 400)


@pytest.mark.parametrize(
    ("route", "data", "status", "message"),
    [
        ("image/", b"%PDF-1.7", 400, "A PDF. Supported: ['.jpg', '.jpeg', '.png', '.webp']"),
        ("image/", wav(tone(1, 0.2)), 400, "a WAV"),
        ("image/", saved(scene(), "GIF"), 400, "a GIF"),
        ("image/", saved(scene("ada"), "JPEG")[:700], 422, "JPEG"),
        ("video/", saved(scene()), 400, "a PNG"),
        ("video/", b"\0\0\0\x18ftypmp42" + bytes(500), 422, "MP4"),
        ("audio/", saved(scene()), 400, "a PNG"),
        ("audio/", film([scene()] * 5), 400, "is video"),
        ("audio/", b"RIFF\x24\0\0\0WAVEfmt ", 422, "WAV"),
        ("image/", b"", 400, "empty"),
    ],
)
async def test_what_is_not_taken(
    service: AuthenticityService, route: str, data: bytes, status: int, message: str
) -> None:
    assert message in detail_of(await service.send(route, data, "holiday.jpg"), status)


async def test_a_form_without_a_file(service: AuthenticityService) -> None:
    assert "'file'" in detail_of(await service.client.post(f"{BASE}/analyze/image/", data={"a": "b"}), 400)


async def test_files_over_the_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("small")
    with settings_in(home, max_analysis_bytes=2000, max_image_pixels=100) as config:
        async with serving_authenticity(config) as service:
            detail = detail_of(await service.send("image/", bytes(2001)), 413)
            assert detail.startswith("File too large. Maximum size: 2,000 bytes. Send a smaller")
            assert "File too large" in detail_of(await service.send("image/", bytes(200_000)), 413)
            assert "pixels" in detail_of(await service.send("image/", saved(Image.new("RGB", (11, 10)))), 413)
            assert service.spooled == []


async def test_a_hundred_megabytes_are_the_limit(service: AuthenticityService) -> None:
    for route, most in (("video/", 100), ("audio", 100), ("image/batch", 1000)):
        head = {"content-type": "multipart/form-data; boundary=x", "content-length": str(1001 * 2**20)}
        answer = await service.client.post(f"{BASE}/analyze/{route}", content=b"", headers=head)
        assert f"File too large. Maximum size: {most}MB. Send a smaller" in detail_of(answer, 413)


async def test_pictures_do_not_wait_for_videos_and_too_many_videos_are_refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    examining, held = asyncio.Semaphore(0), asyncio.Event()

    async def examine(*_: object) -> NoReturn:
        examining.release()
        await held.wait()
        raise InvalidInput("nothing")

    monkeypatch.setattr(analyze, "examine_video", examine)
    with settings_in(tmp_path_factory.mktemp("slots")) as config:
        async with serving_authenticity(config) as service, asyncio.TaskGroup() as group:
            data = film([scene()] * 3)
            waiting = [group.create_task(service.send("video/", data)) for _ in range(VIDEOS_AT_ONCE)]
            for _ in range(VIDEOS_DECODED_AT_ONCE):
                await examining.acquire()
            while len(service.spooled) < VIDEOS_AT_ONCE:  # noqa: ASYNC110 - the others have no event for it
                await asyncio.sleep(0.01)
            assert "8 videos are being processed" in detail_of(await service.send("video/", data), 429)
            await service.judged("image/", saved(scene("ada")))
            held.set()
        assert {answer.status_code for task in waiting if (answer := task.result())} == {400}


async def test_senders_that_stop_keep_nobody_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    arrived, held = asyncio.Barrier(VIDEOS_AT_ONCE + 1), asyncio.Event()

    async def stopping() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF'
        await arrived.wait()
        await held.wait()
        yield b"\r\n--x--\r\n"

    with settings_in(tmp_path_factory.mktemp("slots")) as config:
        async with serving_authenticity(config) as service, asyncio.TaskGroup() as group:
            head = {"content-type": "multipart/form-data; boundary=x"}
            post = service.client.post
            waiting = [
                group.create_task(post(f"{BASE}/analyze/video/", content=stopping(), headers=head))
                for _ in range(VIDEOS_AT_ONCE)
            ]
            await arrived.wait()
            await service.judged("video/", film([scene()] * 3))
            held.set()
        assert {answer.status_code for task in waiting if (answer := task.result())} == {400}


@pytest.mark.parametrize("codec", ["tta", "ac-4"])
async def test_a_film_whose_sound_cannot_be_decoded_is_judged_without_it(
    service: AuthenticityService, codec: str
) -> None:
    frames = [scene("ada", seed=place) for place in range(10)]
    if codec == "ac-4":  # which FFmpeg has no decoder for
        data = film(frames, tone(1, 0.6)).replace(b"mp4a", b"ac-4").replace(b"esds", b"free")
    else:  # which is not among those that are trusted
        data = film(frames, tone(1, 0.6), container="matroska", codec=codec)
    body = await service.judged("video/", data)
    assert body["confidence"] == "LOW"
    assert body["signals"]["visual"]["score"] is not None
    audio = body["signals"]["audio"]
    assert (audio["score"], audio["speech_seconds"], audio["effective_weight"]) == (None, None, 0)
    assert "could not be analysed" in audio["unavailable"]
    assert any("the sound track could not be analysed" in factor for factor in body["explanation"]["factors"])


async def test_a_film_of_which_nothing_can_be_measured(service: AuthenticityService) -> None:
    frames = [Image.new("RGB", (48, 48), (90, 90, 90))] * 5
    data = film(frames, tone(0.5, 0.6)).replace(b"mp4a", b"ac-4").replace(b"esds", b"free")
    assert "Nothing in this file can be measured" in detail_of(await service.send("video/", data), 422)


async def test_a_sound_that_cannot_be_decoded_has_no_verdict(service: AuthenticityService) -> None:
    sound = coded(tone(3, 0.6), "flac", "flac")
    detail_of(
        await service.send("audio/", coded(tone(3, 0.6)).replace(b"mp4a", b"ac-4").replace(b"esds", b"free")), 422
    )
    frames = bytes(sound[:200]) + bytes(len(sound) - 200)
    detail_of(await service.send("audio/", frames), 422)


async def test_a_sound_is_as_long_as_what_can_be_decoded(service: AuthenticityService) -> None:
    forged = bytearray(coded(tone(3, 0.6), "flac", "flac"))
    assert forged[8 + 13] & 0x0F == 0  # 36 bits of the number of samples
    forged[8 + 14 : 8 + 18] = (3600 * 16_000).to_bytes(4)
    body = await service.judged("audio/", bytes(forged))
    assert body["audio_info"]["duration_seconds"] == pytest.approx(3, abs=0.01)
    assert body["audio_info"]["seconds_analyzed"] == pytest.approx(3, abs=0.01)
    assert body["audio_features"]["rms_energy"] == pytest.approx(0.6 / np.sqrt(2), abs=decimals(2))


async def test_a_video_has_frames_motion_and_sound(service: AuthenticityService) -> None:
    frames = [scene("ada", seed=place) for place in range(30)]
    data = film(frames, tone(3, 0.6))
    body = await service.judged("video/", data, "film.mp4", num_frames=5)
    assert body["video_info"]["frames_analyzed"] == 5
    assert (body["video_info"]["total_frames"], body["video_info"]["duration_seconds"]) == (30, 3.0)
    analysis = body["frame_analysis"]
    assert [frame["frame_index"] for frame in analysis] == [3, 9, 15, 21, 27]
    assert [frame["timestamp"] for frame in analysis] == pytest.approx([0.3, 0.9, 1.5, 2.1, 2.7])
    assert {frame["faces_detected"] for frame in analysis} == {1}
    average = float(np.mean([frame["risk_score"] for frame in analysis]))
    assert body["average_risk_score"] == pytest.approx(average, abs=0.06)
    signals = body["signals"]
    assert signals["temporal"]["looks"] == 30
    assert body["temporal_consistency"] in ("CONSISTENT", "INCONSISTENT", "UNDECIDED")
    assert signals["audio"]["score"] == pytest.approx(0.6, abs=0.1)
    shares = [signals[name]["effective_weight"] for name in ("visual", "forensic", "temporal", "audio")]
    assert shares == pytest.approx([0.45, 0.3, 0.125, 0.125])


async def test_decord_reads_videos_where_the_settings_say_so(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    batch = DecordReader._batch

    def counted(self: DecordReader, numbers: list[int]) -> Iterable[Pixels]:
        read.extend(numbers)
        return batch(self, numbers)

    monkeypatch.setattr(DecordReader, "_batch", counted)
    with settings_in(tmp_path_factory.mktemp("decord"), analysis_video_backend="decord") as config:
        async with serving_authenticity(config) as service:
            body = await service.judged("video/", film([scene("ada", seed=place) for place in range(30)]), num_frames=3)
    assert [frame["frame_index"] for frame in body["frame_analysis"]] == [5, 15, 25]
    assert {5, 15, 25} <= set(read)


async def test_a_silent_video_without_people(service: AuthenticityService) -> None:
    body = await service.judged("video", film([scene(seed=place) for place in range(12)]), num_frames=256)
    assert body["video_info"]["frames_analyzed"] == 12
    assert (body["temporal_consistency"], body["signals"]["audio"]) == ("NO_FACE_TRACK", None)
    assert body["signals"]["forensic"]["effective_weight"] == 1


async def test_frames_beside_a_cut_are_left_alone(service: AuthenticityService) -> None:
    dark, bright = Image.new("RGB", (160, 120), (10, 10, 10)), Image.new("RGB", (160, 120), (240, 240, 240))
    data = film([dark] * 15 + [bright] * 15)
    body = await service.judged("video/", data, num_frames=1)
    (frame,) = body["frame_analysis"]
    assert frame["frame_index"] in (13, 16)  # not 14 or 15, which the cut lies between


@pytest.mark.parametrize("frames", [0, 257, "many"])
async def test_the_number_of_frames_has_a_range(service: AuthenticityService, frames: Any) -> None:
    assert "num_frames" in detail_of(await service.send("video/", b"x", num_frames=frames), 422)


async def test_a_voice(service: AuthenticityService) -> None:
    body = await service.judged("audio/", wav(tone(3, 0.8)), "voice.wav")
    assert body["classification"] == "MANIPULATED"
    assert body["confidence"] != "HIGH"  # one signal agrees with none
    assert body["prediction"]["synthetic_probability"] == pytest.approx(0.8, abs=decimals(3))
    assert sum(body["prediction"].values()) == pytest.approx(1)
    assert body["audio_info"]["sample_rate"] == 16_000
    assert body["audio_info"]["duration_seconds"] == pytest.approx(3, abs=decimals(3))
    assert body["audio_features"]["rms_energy"] == pytest.approx(0.8 / np.sqrt(2), abs=decimals(3))
    assert body["audio_features"]["zero_crossing_rate"] == pytest.approx(440 / 16_000, abs=decimals(3))
    assert any("ASVspoof" in factor for factor in body["explanation"]["factors"])


async def test_a_long_voice_is_judged_in_windows_where_somebody_speaks(service: AuthenticityService) -> None:
    quiet = np.zeros(20 * 16_000)
    sound = np.concatenate([quiet, tone(10, 0.3), quiet])
    service.voice.lengths.clear()
    body = await service.judged("audio/", wav(sound))
    segments = body["segments"]
    assert set(service.voice.lengths) == {SAMPLES}
    assert body["audio_info"]["speech_seconds"] == pytest.approx(10, abs=0.1)
    assert len(segments) == body["audio_info"]["windows_total"] == 6
    assert min(segment["start"] for segment in segments) > 16
    assert max(segment["end"] for segment in segments) < 34


async def test_where_nobody_speaks_there_is_no_verdict(service: AuthenticityService) -> None:
    body = await service.judged("audio/", wav(np.zeros(32_000)))
    assert (body["classification"], body["risk_score"], body["prediction"]) == ("NO_SPEECH", None, None)
    assert "Nobody speaks" in body["explanation"]["summary"]


async def test_without_the_voice_model_there_is_no_verdict(service: AuthenticityService) -> None:
    service.voice.off = True
    try:
        body = await service.judged("audio/", wav(tone(2, 0.5)))
        silent = await service.judged("audio/", wav(np.zeros(32_000)))
    finally:
        service.voice.off = False
    assert (body["classification"], body["risk_score"], body["prediction"]) == (None, None, None)
    assert (body["confidence"], body["segments"]) == ("LOW", [])
    assert body["unavailable"] == {"prediction": "forensics/voice has no weights here."}
    assert "No audio signal: forensics/voice has no weights here" in body["explanation"]["factors"]
    assert body["audio_info"]["speech_seconds"] == pytest.approx(2, abs=0.1)
    assert body["audio_features"]["rms_energy"] == pytest.approx(0.5 / np.sqrt(2), abs=decimals(3))
    assert (silent["classification"], "unavailable" in silent) == ("NO_SPEECH", False)


async def test_without_the_speech_model_a_sound_is_still_measured(service: AuthenticityService) -> None:
    with stage_replaced(service, "forensics/speech", ModelNotLoaded("no weights")):
        body = await service.judged("audio/", wav(tone(2, 0.5)))
    assert (body["classification"], body["audio_info"]["speech_seconds"]) == (None, None)
    assert body["unavailable"] == {"prediction": "no weights"}
    assert body["audio_features"]["zero_crossing_rate"] == pytest.approx(440 / 16_000, abs=decimals(3))


async def test_a_heat_map_shows_the_picture(service: AuthenticityService) -> None:
    body = await service.judged("image/", saved(scene("ada", size=(1600, 1200)), "JPEG"))
    answer = await service.client.get(body["heatmap_url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (2 * 640 + 8, 480 + 22)
    for panel, left in (("error_level", 0), ("noise", 640 + 8)):
        alone = Image.open(io.BytesIO((await service.client.get(f"{body['heatmap_url']}?panel={panel}")).content))
        assert alone.size == (640, 480)
        assert alone.tobytes() == image.crop((left, 22, left + 640, 502)).tobytes()
    assert (await service.client.get(f"{body['heatmap_url']}?panel=other")).status_code in (400, 422)
    sound = await service.judged("audio/", wav(tone(1, 0.5)))
    detail_of(await service.client.get(f"{BASE}/results/{sound['analysis_id']}/heatmap.png"), 404)


@pytest.mark.parametrize("name", ["550e8400-e29b-41d4-a716-446655440000", "nothing"])
async def test_an_unknown_result(service: AuthenticityService, name: str) -> None:
    assert "no analysis" in detail_of(await service.client.get(f"{BASE}/results/{name}"), 404)
    detail_of(await service.client.get(f"{BASE}/results/{name}/heatmap.png"), 404)


async def test_a_result_is_kept_for_its_time(service: AuthenticityService) -> None:
    body = await service.judged("image/", saved(scene()))
    kept = await service.context.analyses.get(body["analysis_id"], datetime.now(UTC))
    assert kept is not None
    assert kept.expires_at - kept.created_at == timedelta(days=30)


async def test_health_names_the_models(service: AuthenticityService) -> None:
    body = (await service.client.get(f"{BASE}/health")).json()
    assert body["models_loaded"] == {"visual_detector": True, "forensic_analyzer": True, "audio_detector": True}
    assert body["status"] == "healthy"
    assert body["uptime_seconds"] >= 0
    assert (await service.client.get("/health")).json()["status"] == "ok"
