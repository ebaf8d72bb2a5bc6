"""Uploads: what is stored and reported of a file, and what is refused."""

import asyncio
import struct
import threading
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from graphs.web import transfers
from graphs.web.uploads import library
from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import FPS, FRAMES, audio, encoded, error_of, picture, plain, video
from vision.errors import InvalidMedia
from vision.media.probe import Limits, Probe


async def test_a_picture_is_described_and_returned(service: Service) -> None:
    data = picture(1, size=(70, 50))
    answer = await service.uploaded(data, "holiday.png")
    assert answer["asset_id"] == digest(data)
    assert (answer["filename"], answer["content_type"], answer["format"]) == (
        "holiday.png",
        "image/png",
        "PNG",
    )
    assert (answer["file_size"], answer["width"], answer["height"]) == (len(data), 70, 50)
    assert (answer["processing_status"], answer["duplicate"]) == ("uploaded", False)
    uploaded = datetime.fromisoformat(answer["upload_timestamp"])
    assert uploaded.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - uploaded) < timedelta(minutes=5)

    content = await service.client.get(answer["public_url"])
    assert content.content == data
    assert content.headers["content-type"] == "image/png"
    assert content.headers["content-length"] == str(len(data))
    assert content.headers["x-content-type-options"] == "nosniff"
    part = await service.client.get(answer["public_url"], headers={"range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, data[3:10])
    known = await service.client.get(answer["public_url"], headers={"if-none-match": content.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    beyond = await service.client.get(answer["public_url"], headers={"range": f"bytes={len(data)}-"})
    assert beyond.headers["content-range"] == f"bytes */{len(data)}"
    error_of(beyond, 416, "RANGE_NOT_SATISFIABLE")

    shown = await service.get(f"media/{answer['asset_id']}")
    kept = set(answer) - {"duplicate", "processing_time"}
    assert {name: shown[name] for name in kept} == {name: answer[name] for name in kept}
    assert (shown["features_extracted"], shown["features"], shown["features_timestamp"]) == (
        False,
        None,
        None,
    )


async def test_the_same_bytes_are_the_same_asset_under_any_name(service: Service) -> None:
    first = await service.uploaded(picture(1), "first.png")
    second = await service.uploaded(picture(1), "second.png")
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    for name in ("asset_id", "filename", "upload_timestamp", "file_size"):
        assert second[name] == first[name]


async def test_concurrent_uploads_of_the_same_bytes_make_one_asset(service: Service) -> None:
    for data in (picture(1), video(1)):
        answers = await asyncio.gather(*(service.uploaded(data) for _ in range(12)))
        assert {answer["asset_id"] for answer in answers} == {digest(data)}
        assert [answer["duplicate"] for answer in answers].count(False) == 1
    assert len(await service.context.documents.list_assets()) == 2
    keys = [info.key async for info in service.context.objects.list()]
    assert sorted(keys) == sorted([digest(picture(1)), digest(video(1)), f"posters/{digest(video(1))}"])


async def test_sizes_are_as_shown_when_exif_turns_the_picture(service: Service) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = encoded(Image.new("RGB", (40, 30), "red"), "JPEG", exif=exif)
    answer = await service.uploaded(turned, "turned.jpg")
    assert (answer["width"], answer["height"], answer["format"]) == (30, 40, "JPEG")


async def test_a_video_has_times_and_a_poster(service: Service) -> None:
    answer = await service.uploaded(video(1, size=(80, 64)), "clip.avi")
    assert (answer["format"], answer["content_type"], answer["filename"]) == ("MP4", "video/mp4", "clip.avi")
    assert (answer["width"], answer["height"], answer["rotation"]) == (80, 64, 0)
    assert (answer["fps"], answer["frame_count"]) == (FPS, FRAMES)
    assert answer["duration"] == pytest.approx(FRAMES / FPS, abs=0.05)
    poster = await service.client.get(f"/api/v1/media/{answer['asset_id']}/poster")
    assert poster.headers["content-type"] == "image/jpeg"
    assert poster.content.startswith(b"\xff\xd8\xff")
    shown = await service.get(f"media/{answer['asset_id']}")
    assert (shown["fps"], shown["frame_count"]) == (FPS, FRAMES)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_video_that_is_given_up_while_it_is_probed_leaves_no_poster(
    service: Service, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    begun, given_up, ended = threading.Event(), threading.Event(), threading.Event()

    def slow_probe(path: Path, limits: Limits, *, poster: Path) -> Probe:
        begun.set()
        assert given_up.wait(10)
        poster.write_bytes(b"late")
        ended.set()
        if fails:
            raise InvalidMedia("broken")
        return Probe("video", "MP4", "video/mp4")

    monkeypatch.setattr(library, "probe", slow_probe)
    uploading = asyncio.create_task(service.uploaded(video(1)))
    assert await asyncio.to_thread(begun.wait, 10)
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    given_up.set()
    assert await asyncio.to_thread(ended.wait, 10)
    async with asyncio.timeout(5):
        while service.spooled:  # noqa: ASYNC110 (a thread removes it)
            await asyncio.sleep(0.01)
    assert not [info.key async for info in service.context.objects.list()]


async def test_sound_has_a_duration_and_no_poster(service: Service) -> None:
    answer = await service.uploaded(audio(), "voice.wav")
    assert (answer["format"], answer["duration"]) == ("WAV", 0.5)
    assert (answer["width"], answer["height"], answer["fps"]) == (None, None, None)
    refused = await service.client.get(f"/media/{answer['asset_id']}/poster")
    assert "not a video" in error_of(refused, 400, "INVALID_INPUT")["message"]


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("fake.jpg", b"This is not a picture, whatever its name says.", "text file"),
        ("fake.jpg", b"\xff\xd8\xff\xe0" + bytes(500), "image cannot be read"),
        ("page.png", b"<!doctype html><script>alert(1)</script>", "web page"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("cut.png", picture(1, size=(200, 150))[:2000], "of its rows"),
        ("cut.mp4", video(1)[:1000], "damaged"),
        ("empty.png", b"", "empty"),
    ],
)
async def test_what_is_no_media_is_refused(refusing: Service, name: str, data: bytes, word: str) -> None:
    assert word in error_of(await refusing.send(data, name), 400, "INVALID_FILE_FORMAT")["message"]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that claims this size and holds next to nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(100))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [10_000, 14_000, 60_000])
async def test_a_pixel_bomb_is_refused_by_its_header(refusing: Service, side: int) -> None:
    answer = await refusing.send(bomb(side, side), "bomb.png")
    assert "million" in error_of(answer, 413, "FILE_TOO_LARGE")["message"]


async def test_a_picture_over_the_byte_limit_is_refused(settings_for: MakeSettings, serve: Serve) -> None:
    data = picture(1, size=(200, 200), noise=0.2)
    assert len(data) > 50_000
    async with serve(settings_for(max_image_bytes=50_000, max_video_bytes=200_000)) as service:
        error = error_of(await service.send(data), 413, "FILE_TOO_LARGE")
        assert "0.0476837 MB" in error["message"]
        clip = await service.uploaded(video(1))
        assert clip["format"] == "MP4"
        assert service.spooled == []


async def test_a_file_over_every_limit_is_not_even_read(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "MOST_DRAINED", 10_000)
    limits = {"max_image_bytes": 1000, "max_video_bytes": 2000, "max_audio_bytes": 1000}
    async with serve(settings_for(**limits)) as service:
        error_of(await service.send(bytes(200_000)), 413, "FILE_TOO_LARGE")
        error_of(await service.send(bytes(3_000)), 413, "FILE_TOO_LARGE")

        sent = 0

        async def endless() -> object:
            nonlocal sent
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
            while True:
                sent += 1000
                yield bytes(1000)

        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = await service.client.post("/upload-media", content=endless(), headers=headers)
        error_of(answer, 413, "FILE_TOO_LARGE")
        assert sent < 100_000
        assert service.spooled == []


@pytest.mark.parametrize(
    ("kind", "body", "word"),
    [
        ("application/json", b'{"file": "x"}', "multipart/form-data"),
        ("", b"", "multipart/form-data"),
        ("multipart/form-data", b"--b--\r\n", "boundary"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "'file'"),
        ("multipart/form-data; boundary=b", b"--b\r\n\x00\x01: 1\r\n\r\n", "broken"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nabc',
            "ends before",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n--b--\r\n',
            "'image'",
        ),
    ],
)
async def test_a_form_that_is_none_is_explained(refusing: Service, kind: str, body: bytes, word: str) -> None:
    answer = await refusing.client.post("/upload-media", content=body, headers={"content-type": kind})
    assert word in error_of(answer, 400, "INVALID_INPUT")["message"]


async def test_a_file_name_is_only_a_name(service: Service) -> None:
    answer = await service.uploaded(plain("red"), "../../etc/passwd.png")
    assert answer["filename"] == "passwd.png"


async def test_a_deleted_asset_is_gone(service: Service) -> None:
    asset_id = await service.upload(video(1))
    await service.post("extract-features", asset_id=asset_id)
    gone = await service.delete(asset_id)
    assert (gone["asset_id"], gone["deleted"], gone["storage_deleted"]) == (asset_id, True, True)
    assert "deleted" in gone["message"]
    for path in ("", "/content", "/poster"):
        error_of(await service.client.get(f"/media/{asset_id}{path}"), 404, "ASSET_NOT_FOUND")
    error_of(await service.client.delete(f"/media/{asset_id}"), 404, "ASSET_NOT_FOUND")
    error_of(await service.try_post("extract-features", asset_id=asset_id), 404, "ASSET_NOT_FOUND")
    assert [info async for info in service.context.objects.list()] == []
    assert (await service.uploaded(video(1)))["duplicate"] is False
