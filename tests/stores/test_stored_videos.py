"""Videos read from object stores by PyAV: the frames asked for, through few and bounded reads."""

from pathlib import Path

import numpy as np

from stores.objects import Objects
from tests.unit.vision.media.samples import X264, Recipe, number_in, write
from vision.media.encoder import encode
from vision.media.plan import ClipPlan
from vision.media.reader import VideoReader

RECIPE = Recipe(frames=60, beeps=(0.5,), encoder={**X264, "g": "20", "bf": "2"})


async def test_frames_and_clips_of_a_stored_video(objects: Objects, tmp_path: Path) -> None:
    path = write(RECIPE, tmp_path / "film.mp4")
    with VideoReader(path) as reader:
        expected = [pixels for _, _, pixels in reader.frames()]
    await objects.put_file("film", path, "video/mp4")
    with objects.open("film") as file, VideoReader(file) as reader:
        for number in (45, 3, 59, 20, 0):
            assert np.array_equal(reader.frame(number), expected[number])
        clip = b"".join(encode(reader, lambda: objects.open("film"), ClipPlan("clip", 10, 30)))
    copy = tmp_path / "clip.ts"
    copy.write_bytes(clip)
    with VideoReader(copy) as reader:
        assert [number_in(pixels) for _, _, pixels in reader.frames()] == list(range(10, 31))
        assert reader.facts.has_audio
