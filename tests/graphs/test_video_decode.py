"""Decoding a stored video in chunks: the frames in them are those they say, upright, also from the middle."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from graphs.indexing.decode import Chunk, FaceFrame, VideoDecoder
from stores.open import Stores
from tests.graphs.indexing import film
from tests.tolerances import FP32
from tests.unit.vision.media.samples import RECIPES, TICKS, X264, Recipe, number_in, shown, write
from vision.errors import InvalidMedia, MediaNotFound
from vision.shots.transitions import MARGIN, STRIDE

KEY = "a" * 32


async def decoder_of(recipe: Recipe | bytes, folder: Path) -> VideoDecoder:
    objects = Stores(objects=f"file://{folder}/objects").objects
    path = folder / "video"
    if isinstance(recipe, bytes):
        path.write_bytes(recipe)
    else:
        path = write(recipe, folder / f"video.{recipe.container}")
    await objects.put_file(KEY, path, "video/mp4")
    return await VideoDecoder.open(objects, KEY)


async def chunks_from(decoder: VideoDecoder, frame: int, *, faces: bool = True) -> list[Chunk]:
    decoder.start(frame, faces=faces)
    chunks = []
    while (chunk := await decoder.next()) is not None:
        chunks.append(chunk)
    return chunks


def face_frames(chunks: list[Chunk]) -> list[FaceFrame]:
    return [frame for chunk in chunks for frame in chunk.face_frames]


@pytest.mark.parametrize("name", ["b-frames", "open gop", "vfr", "60 fps", "rotated 90", "mirrored", "edit list"])
async def test_face_frames_are_the_frames_they_say(name: str, tmp_path: Path) -> None:
    decoder = await decoder_of(RECIPES[name], tmp_path)
    expected = shown(name)
    step = 3 if name == "60 fps" else 2
    assert decoder.timeline.step == step
    chunks = await chunks_from(decoder, 0)
    frames, last = face_frames(chunks), len(expected) - 1
    assert [each.frame for each in frames] == sorted({*range(0, last, step), last})
    assert [number_in(each.image) for each in frames] == [expected[each.frame] for each in frames]
    assert {each.scale for each in frames} == {1.0}
    assert [(chunk.first, chunk.end) for chunk in chunks] == [
        (first, min(first + STRIDE, last + 1)) for first in range(0, last + 1, STRIDE)
    ]
    assert (np.concatenate([chunk.changes for chunk in chunks])[1:, 0] > 0).all()
    await decoder.close()


@pytest.mark.parametrize("data", [film(), film(fps=60), film(fps=10)], ids=["25 fps", "60 fps", "10 fps"])
async def test_chunks_from_the_middle_on_are_those_of_the_whole_video(data: bytes, tmp_path: Path) -> None:
    decoder = await decoder_of(data, tmp_path)
    whole = await chunks_from(decoder, 0)
    assert [chunk.first for chunk in whole] == [0, 50, 100]
    rest = await chunks_from(decoder, 50)
    for one, other in zip(whole[1:], rest, strict=True):
        assert (one.first, one.end) == (other.first, other.end)
        assert one.window is not None
        assert other.window is not None
        np.testing.assert_array_equal(one.window.thumbnails, other.window.thumbnails)
        np.testing.assert_array_equal(one.changes, other.changes)
        np.testing.assert_array_equal(one.sampled, other.sampled)
        np.testing.assert_array_equal(one.run.frames, other.run.frames)
        assert [each.frame for each in one.face_frames] == [each.frame for each in other.face_frames]
        assert one.candidates == other.candidates
    await decoder.close()


async def test_windows_reach_into_the_chunks_beside(tmp_path: Path) -> None:
    decoder = await decoder_of(film(), tmp_path)
    first, second, third = await chunks_from(decoder, 0)
    assert first.window is not None
    assert second.window is not None
    assert third.window is not None
    assert [chunk.window.start for chunk in (first, second, third) if chunk.window] == [0, 50, 100]
    np.testing.assert_array_equal(first.window.thumbnails[MARGIN + STRIDE :], second.window.thumbnails[MARGIN:STRIDE])
    np.testing.assert_array_equal(first.window.thumbnails[:MARGIN], first.window.thumbnails[[MARGIN] * MARGIN])
    # The last chunk has 30 frames, and behind them all is as in the last one.
    end = third.window.thumbnails[MARGIN + 29]
    assert all((thumbnail == end).all() for thumbnail in third.window.thumbnails[MARGIN + 30 :])
    await decoder.close()


async def test_samples_overlap_by_one_and_candidates_lie_in_their_chunk(tmp_path: Path) -> None:
    decoder = await decoder_of(film(), tmp_path)
    chunks = await chunks_from(decoder, 0)
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        if before is not None:
            assert chunk.sampled[0] == before.sampled[-1] < chunk.first
        assert len(chunk.sampled) == len(chunk.run.frames) == len(chunk.run.times)
        assert {60, 90, 129} & set(range(chunk.first, chunk.end)) <= set(chunk.sampled.tolist())
        assert chunk.run.frames.shape[1:] == (108, 192)
        frames = [candidate.frame for candidate in chunk.candidates]
        assert frames == sorted(set(frames))
        assert all(chunk.first <= frame < chunk.end for frame in frames)
    # One for each second, and one for what is before and behind a cut.
    assert len([candidate for chunk in chunks for candidate in chunk.candidates]) >= 6
    await decoder.close()


async def test_without_faces_there_are_no_face_frames(tmp_path: Path) -> None:
    decoder = await decoder_of(film(), tmp_path)
    whole, without = await chunks_from(decoder, 0), await chunks_from(decoder, 0, faces=False)
    assert face_frames(without) == []
    assert face_frames(whole) != []
    assert [chunk.candidates for chunk in without] == [chunk.candidates for chunk in whole]
    await decoder.close()


async def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    decoder = await decoder_of(RECIPES["vfr"], tmp_path)
    ticks = np.array(RECIPES["vfr"].ticks)
    np.testing.assert_allclose(decoder.timeline.times, (ticks - ticks[0]) / TICKS, atol=FP32)
    assert decoder.timeline.end_of(0) == decoder.timeline.times[1]
    assert decoder.timeline.end_of(len(decoder.timeline.times) - 1) == decoder.timeline.facts.duration
    await decoder.close()


async def test_large_frames_are_shrunk(tmp_path: Path) -> None:
    decoder = await decoder_of(Recipe(size=(720, 1920), rotation=90, frames=4, encoder=X264), tmp_path)
    (chunk,) = await chunks_from(decoder, 0)
    first, second, _ = chunk.face_frames
    assert (decoder.timeline.facts.width, decoder.timeline.facts.height) == (720, 1920)
    assert first.image.shape == (1280, 480, 3)
    assert first.scale == second.scale == 1.5
    assert chunk.run.frames.shape == (3, 320, 120)
    await decoder.close()


async def test_frames_of_oblong_pixels_are_stretched(tmp_path: Path) -> None:
    stretched = Recipe(size=(800, 480), pixel_aspect=Fraction(2), frames=3, encoder=X264)
    decoder = await decoder_of(stretched, tmp_path)
    (chunk,) = await chunks_from(decoder, 0)
    assert (decoder.timeline.facts.width, decoder.timeline.facts.height) == (1600, 480)
    assert {(each.image.shape, each.scale) for each in chunk.face_frames} == {((384, 1280, 3), 1.25)}
    assert chunk.run.frames.shape[1:] == (96, 320)
    await decoder.close()


@pytest.mark.parametrize(("fps", "step"), [(10, 1), (15, 1), (24, 2), (30, 2), (50, 3), (60, 3), (120, 3)])
async def test_samples_are_three_frames_apart_at_most(fps: int, step: int, tmp_path: Path) -> None:
    decoder = await decoder_of(Recipe(fps=fps, frames=6, encoder=X264), tmp_path)
    assert decoder.timeline.step == step
    await decoder.close()


async def test_what_cannot_be_opened(tmp_path: Path) -> None:
    objects = Stores(objects=f"file://{tmp_path}/objects").objects
    with pytest.raises(MediaNotFound, match="upload it again"):
        await VideoDecoder.open(objects, KEY)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 1000)
    await objects.put_file(KEY, broken, "video/mp4")
    with pytest.raises(InvalidMedia):
        await VideoDecoder.open(objects, KEY)
