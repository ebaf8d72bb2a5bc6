"""media/frames and media/clips over a folder of objects: pictures, streams, errors, readers that are kept."""

import asyncio
import io
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from configs import settings as settings_module
from deployments.media.clips import ClipStreamer
from deployments.media.frames import FrameExtractor, FramePicture, FrameRequest
from deployments.serving.handle import StageHandle
from deployments.serving.runner import StageRunner
from deployments.serving.stored import ReaderPool, StoredVideos
from stores.file.objects import FileObjects
from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import X264, Recipe, number_in
from tests.unit.vision.media.test_encoder import BEEPS, WITH_SOUND, beeps_in
from vision.errors import InvalidInput, InvalidMedia, MediaNotFound, StageError
from vision.images import Pixels
from vision.media.plan import Box, BoxTrack, ClipFacts, ClipPlan, ClipRequest, FrameOutOfRange
from vision.media.reader import VideoReader

OpenStage = Callable[..., Awaitable[StageHandle]]


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileObjects]:
    url = f"file://{tmp_path}/objects"
    monkeypatch.setenv("VISION_OBJECTS_URL", url)
    settings_module.settings.cache_clear()
    yield FileObjects(url)
    settings_module.settings.cache_clear()


@pytest.fixture
async def opened() -> AsyncIterator[OpenStage]:
    """Handles to stages that are closed after the test."""
    runners = []

    async def open_stage(stage_class: type[FrameExtractor | ClipStreamer], **config: int) -> StageHandle:
        runner = StageRunner(stage_class)
        await runner.configure(config)
        runners.append(runner)
        return StageHandle(runner.key, runner.run, no_info, runner.stream)

    yield open_stage
    for runner in runners:
        await asyncio.to_thread(_join_streams)
        await runner.close()


async def no_info() -> dict[str, Any]:
    return {}


async def store(objects: FileObjects, key: str, path: Path, folder: Path) -> None:
    copy = await asyncio.to_thread(shutil.copy, path, folder / "upload")
    await objects.put_file(key, Path(copy), "video/mp4")


def pixels(jpeg: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


async def test_frames_come_as_jpegs(opened: OpenStage, objects: FileObjects, tmp_path: Path, video: MakeVideo) -> None:
    await store(objects, "film", video("open gop"), tmp_path)
    handle = await opened(FrameExtractor)
    wanted = [50, 3, 24, 59, 24, 0]
    pictures = await asyncio.gather(*(handle(FrameRequest("film", number)) for number in wanted))
    assert [number_in(pixels(picture.jpeg)) for picture in pictures] == wanted
    for picture, number in zip(pictures, wanted, strict=True):
        assert (picture.width, picture.height) == (256, 192)
        assert picture.time == pytest.approx(number / 25)


async def test_a_part_of_a_frame_in_another_size(
    opened: OpenStage, objects: FileObjects, tmp_path: Path, video: MakeVideo
) -> None:
    await store(objects, "film", video("rotated 90"), tmp_path)
    handle = await opened(FrameExtractor)
    with VideoReader(video("rotated 90")) as reader:
        whole = reader.frame(9)
    part = await handle(FrameRequest("film", 9, crop=(20, 30, 100, 80), quality=95))
    assert (part.width, part.height) == (100, 80)
    assert np.abs(pixels(part.jpeg).astype(int) - whole[30:110, 20:120]).mean() < 4
    small = await handle(FrameRequest("film", 9, crop=(20, 30, 100, 80), size=(50, 40), quality=95))
    assert (small.width, small.height) == pixels(small.jpeg).shape[1::-1] == (50, 40)
    large = await handle(FrameRequest("film", 9, crop=(20, 30, 100, 80), size=(320, 320)))
    assert pixels(large.jpeg).shape == (320, 320, 3)
    assert len((await handle(FrameRequest("film", 9, quality=20))).jpeg) < len(
        (await handle(FrameRequest("film", 9))).jpeg
    )


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (FrameRequest("film", 60), FrameOutOfRange),
        (FrameRequest("film", -1), FrameOutOfRange),
        (FrameRequest("film", 0, crop=(200, 0, 57, 10)), InvalidInput),
        (FrameRequest("film", 0, crop=(-1, 0, 5, 5)), InvalidInput),
        (FrameRequest("film", 0, crop=(0, 0, 0, 5)), InvalidInput),
        (FrameRequest("film", 0, size=(0, 5)), InvalidInput),
        (FrameRequest("film", 0, size=(5, 9999)), InvalidInput),
        (FrameRequest("film", 0, quality=0), InvalidInput),
        (FrameRequest("nothing", 0), MediaNotFound),
        (FrameRequest("text", 0), InvalidMedia),
    ],
)
async def test_what_cannot_be_shown_fails_alone(
    request_: FrameRequest, error: type[StageError], objects: FileObjects, tmp_path: Path, video: MakeVideo
) -> None:
    await store(objects, "film", video("b-frames"), tmp_path)
    text = tmp_path / "text"
    text.write_text("no video")
    await objects.put_file("text", text, "video/mp4")
    stage = FrameExtractor(FrameExtractor.config_class())
    stage.load()
    before, failed, after = stage.predict_batch([FrameRequest("film", 5), request_, FrameRequest("film", 6)])
    stage._readers.close_idle()
    assert type(failed) is error
    for picture, number in ((before, 5), (after, 6)):
        assert isinstance(picture, FramePicture)
        assert number_in(pixels(picture.jpeg)) == number


async def read(handle: Any, request: ClipRequest) -> bytes:
    return b"".join([chunk async for chunk in handle.stream(request)])


async def test_clips_are_streamed(opened: OpenStage, objects: FileObjects, tmp_path: Path, video: MakeVideo) -> None:
    await store(objects, "film", video(WITH_SOUND), tmp_path)
    handle = await opened(ClipStreamer)
    boxes = BoxTrack.of([(40, Box(10, 60, 50, 50, "Ada", 0))])
    requests = [
        ClipRequest("film", ClipPlan("clip", 30, 49)),
        ClipRequest("film", ClipPlan("copy", 30, 49, audio=False)),
        ClipRequest("film", ClipPlan("overlay", 30, 49), boxes),
    ]
    streams = await asyncio.gather(*(read(handle, request) for request in requests))
    expected = [(30, 50, "video/mp2t"), (20, 50, "video/mp4"), (30, 50, "video/mp4")]
    for request, data, (start, stop, content_type) in zip(requests, streams, expected, strict=True):
        facts = await handle(request)
        assert facts == ClipFacts(start, stop - 1, stop - start, start / 25, stop / 25, content_type)
        with VideoReader(io.BytesIO(data)) as reader:
            numbers = [number_in(picture) for _, _, picture in reader.frames()]
        assert numbers[: stop - start] == list(range(start, stop))
    assert beeps_in(streams[0])[0] == pytest.approx([0.0], abs=0.03)
    assert BEEPS[1] == 30 / 25


@pytest.mark.parametrize(
    ("key", "plan", "error"),
    [
        ("film", ClipPlan("clip", 75, 80), FrameOutOfRange),
        ("film", ClipPlan("copy", 10, 5), InvalidInput),
        ("nothing", ClipPlan("clip"), MediaNotFound),
    ],
)
async def test_a_stream_that_cannot_begin(
    key: str,
    plan: ClipPlan,
    error: type[StageError],
    opened: OpenStage,
    objects: FileObjects,
    tmp_path: Path,
    video: MakeVideo,
) -> None:
    await store(objects, "film", video(WITH_SOUND), tmp_path)
    handle = await opened(ClipStreamer)
    with pytest.raises(error):
        await anext(handle.stream(ClipRequest(key, plan)))
    with pytest.raises(error):
        await handle(ClipRequest(key, plan))


async def test_a_client_that_leaves_frees_its_reader(objects: FileObjects, tmp_path: Path, video: MakeVideo) -> None:
    await store(objects, "film", video(WITH_SOUND), tmp_path)
    stage = ClipStreamer(ClipStreamer.config_class())
    stage.load()
    sounds = []
    open_file = stage._videos.open

    def noted(key: str) -> BinaryIO:
        sounds.append(open_file(key))
        return sounds[-1]

    stage._videos.open = noted  # type: ignore[method-assign]
    chunks = stage.stream(ClipRequest("film", ClipPlan("clip")))
    while not next(chunks):
        pass
    chunks.close()
    assert [file.closed for file in sounds] == [True]
    assert [idle.key for idle in stage._readers._idle] == ["film"]
    stage._readers.close_idle()
    assert stage._readers._idle == []


async def test_readers_are_kept_lent_and_closed(objects: FileObjects, tmp_path: Path, video: MakeVideo) -> None:
    for key in ("a", "b", "c"):
        await store(objects, key, video("b-frames"), tmp_path)
    opened: list[Any] = []
    videos = StoredVideos()

    def open_file(key: str) -> Any:
        opened.append(videos.open(key))
        return opened[-1]

    pool = ReaderPool(open_file, threads=1, most_idle=2, most_bytes=2**30)
    with pool.borrowed("a") as first, pool.borrowed("a") as second:
        assert first is not second
    with pool.borrowed("a") as again:
        assert again in (first, second)
    assert len(opened) == 2
    for key in ("b", "c"):
        with pool.borrowed(key):
            pass
    assert [file.closed for file in opened] == [True, True, False, False]
    with pytest.raises(RuntimeError), pool.borrowed("c"):
        raise RuntimeError("a bug")
    assert [file.closed for file in opened] == [True, True, False, True]
    pool.close_idle(older_than_s=60)
    assert not opened[2].closed
    pool.close_idle()
    assert all(file.closed for file in opened)
    with pytest.raises(MediaNotFound), pool.borrowed("nothing"):
        pass


LONG = {**X264, "g": "600", "bf": "2"}
FILMS = {
    "mp4": Recipe(frames=90, encoder=LONG),
    "mpegts": Recipe("mpegts", frames=90, encoder=LONG),
    "hevc": Recipe("matroska", "libx265", frames=90, encoder={"preset": "ultrafast", "x265-params": "keyint=600"}),
}


def lent(pool: ReaderPool, number: int) -> tuple[int, VideoReader]:
    """The place of the reader that is lent for a frame, and the reader, which has decoded that frame then."""
    with pool.borrowed("film", lambda reader: number) as reader:
        place = reader.place
        assert number_in(reader.frame(number)) == number
    return place, reader


@pytest.mark.parametrize("name", FILMS)
async def test_the_reader_that_is_nearest_is_lent(
    name: str, objects: FileObjects, tmp_path: Path, video: MakeVideo
) -> None:
    await store(objects, "film", video(FILMS[name]), tmp_path)
    pool = ReaderPool(StoredVideos().open, threads=1, most_idle=3, most_bytes=2**30)
    _, at_80 = lent(pool, 80)
    _, at_50 = lent(pool, 50)
    _, at_30 = lent(pool, 30)
    assert len({at_80, at_50, at_30}) == len(pool._idle) == 3
    for number, reader, place in ((52, at_50, 50), (30, at_30, 30), (89, at_80, 80), (40, at_30, 30)):
        assert lent(pool, number) == (place, reader)
    # There is no room for a fourth, so the one at 89 goes back: behind its place there is one frame, before it 37.
    assert lent(pool, 20) == (89, at_80)
    # Of 52, 40 and 20 the one in the middle saves 20 x 12 frames, less than 12 x 38 and 20 x 20.
    assert lent(pool, 5) == (40, at_30)
    assert len(pool._idle) == 3
    pool.close_idle()


@pytest.mark.parametrize("name", FILMS)
async def test_open_readers_take_no_more_memory_than_they_may(
    name: str, objects: FileObjects, tmp_path: Path, video: MakeVideo
) -> None:
    path = video(FILMS[name])
    for key in ("film", "other"):
        await store(objects, key, path, tmp_path)
    with VideoReader(path, threads=1) as reader:
        memory = reader.memory
    assert memory >= 6 * 256 * 192 * 3 // 2
    pool = ReaderPool(StoredVideos().open, threads=1, most_idle=100, most_bytes=2 * memory)
    for number in (80, 50, 30, 10, 85):
        lent(pool, number)
        assert len(pool._idle) <= 2
    with pool.borrowed("other"):
        pass
    assert [entry.key for entry in pool._idle] == ["film", "other"]
    small = ReaderPool(StoredVideos().open, threads=1, most_idle=100, most_bytes=1)
    for number in (80, 50, 81):
        lent(small, number)
        assert len(small._idle) == 1
    for each in (pool, small):
        each.close_idle()


async def test_readers_of_a_deleted_film_are_closed(objects: FileObjects, tmp_path: Path, video: MakeVideo) -> None:
    for key in ("film", "other"):
        await store(objects, key, video("b-frames"), tmp_path)
    pool = ReaderPool(StoredVideos().open, threads=1, most_idle=3, most_bytes=2**30)
    for key in ("film", "other"):
        with pool.borrowed(key):
            pass
    await objects.delete("film")
    pool.close_idle(older_than_s=60)
    assert [entry.key for entry in pool._idle] == ["other"]
    await store(objects, "other", video("vfr"), tmp_path)
    pool.close_idle(older_than_s=60)
    assert pool._idle == []
    with pytest.raises(MediaNotFound), pool.borrowed("film", lambda reader: 3):
        pass


@pytest.mark.parametrize("name", ["mp4", "hevc"])
async def test_frames_are_the_same_from_many_readers_at_once(
    name: str, opened: OpenStage, objects: FileObjects, tmp_path: Path, video: MakeVideo
) -> None:
    path = video(FILMS[name])
    await store(objects, "film", path, tmp_path)
    one_at_a_time = FrameExtractor(FrameExtractor.config_class(decoders=1, idle_readers=1))
    one_at_a_time.load()
    wanted = np.random.default_rng(7).integers(0, 90, 60).tolist()
    expected = one_at_a_time.predict_batch([FrameRequest("film", number) for number in wanted])
    one_at_a_time.close()
    handle = await opened(FrameExtractor, decoders=4, max_batch_size=2)
    pictures = await asyncio.gather(*(handle(FrameRequest("film", number)) for number in wanted))
    assert pictures == expected


async def test_leaving_a_handle_leaves_no_thread(
    opened: OpenStage, objects: FileObjects, tmp_path: Path, video: MakeVideo
) -> None:
    await store(objects, "film", video(WITH_SOUND), tmp_path)
    handle = await opened(ClipStreamer, max_streams=1)
    for _ in range(3):
        async with aclosing(handle.stream(ClipRequest("film", ClipPlan("clip")))) as chunks:
            assert await anext(chunks)
        await asyncio.to_thread(_join_streams)


def _join_streams() -> None:
    import threading

    for thread in threading.enumerate():
        if thread.name == "media/clips-stream":
            thread.join(10)
            assert not thread.is_alive()
