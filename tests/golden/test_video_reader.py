"""Real videos: frames by number equal decoding in a row, copies and clips hold what they should, blur is told apart.

They come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import io
import os
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vision.errors import InvalidInput
from vision.media.encoder import encode
from vision.media.plan import ClipPlan
from vision.media.reader import VideoReader
from vision.media.remux import copied_part, copy
from vision.quality.blur import edge_width

FRAMES = {
    "shots/testvideo.mp4": 720,
    "shots/fades.mp4": 250,
    "shots/transnetv2_test.mp4": 5301,
    "shots/Megamind.avi": 270,
    "camera/pan_153_105898.mp4": 157,
    "camera/static_tree.avi": 68,
    "faces/facenet_pytorch_video.mp4": 105,
}


COUNTED = {"shots/Megamind.avi"}
"""XviD with packed B-frames, which AVI has no times for."""
HD = {"shots/testvideo.mp4", "camera/pan_153_105898.mp4", "faces/facenet_pytorch_video.mp4"}
"""Name no matrix, and are large enough for players to take that of BT.709."""


@pytest.fixture(params=FRAMES)
def film(request: pytest.FixtureRequest) -> Path:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    path = Path(os.environ["VISION_MODELS_DIR"]).parent / "media" / request.param
    if not path.is_file():
        pytest.skip(f"no {request.param} in the folder media beside VISION_MODELS_DIR")
    return path


def test_frame_n_is_frame_n(film: Path) -> None:
    import av

    name = f"{film.parent.name}/{film.name}"
    wanted = set(random.Random(name).sample(range(FRAMES[name]), 20)) | {0, FRAMES[name] - 1}
    with av.open(str(film)) as container:
        decoded = enumerate(container.decode(video=0))
        matrix = "ITU709" if name in HD else None
        expected = {
            number: frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
            for number, frame in decoded
            if number in wanted
        }
    with VideoReader(film) as reader:
        assert reader.facts.frame_count == FRAMES[name]
        assert reader.index.counted == (name in COUNTED)
        order = list(expected)
        random.Random(1).shuffle(order)
        for number in order:
            assert np.array_equal(reader.frame(number), expected[number]), number


def test_a_clip_looks_like_its_source(film: Path) -> None:
    with VideoReader(film) as reader:
        plan = ClipPlan("clip", 20, 60)
        with VideoReader(io.BytesIO(b"".join(encode(reader, partial(film.open, "rb"), plan)))) as clip:
            row = list(clip.frames())
            assert len(row) == 41
            expected = reader.times[20:61] - reader.times[20]
            np.testing.assert_allclose(clip.times, expected, atol=2e-5)  # two ticks of 90 kHz
            errors = []
            for number, _, pixels in row:
                source = reader.frame(20 + number)[: pixels.shape[0], : pixels.shape[1]]
                errors.append(float(np.mean((pixels.astype(np.float64) - source) ** 2)))
            assert 10 * np.log10(255**2 / max(np.mean(errors), 1e-9)) > 32
            assert clip.facts.has_audio == reader.facts.has_audio


def test_a_copy_has_the_very_pixels_or_is_refused(film: Path) -> None:
    with VideoReader(film) as reader:
        plan = ClipPlan("copy", 30, 60)
        if film.suffix == ".avi":  # one tells no times, the other holds Cinepak
            with pytest.raises(InvalidInput, match="encoded anew"):
                next(copy(reader, partial(film.open, "rb"), plan))
            return
        first, last = copied_part(reader, plan)[:2]
        with VideoReader(io.BytesIO(b"".join(copy(reader, partial(film.open, "rb"), plan)))) as copy_:
            for number in (0, (last - first) // 2, last - first):
                assert np.array_equal(copy_.frame(number), reader.frame(first + number))


def test_blur_is_seen_on_real_frames(film: Path) -> None:
    import cv2

    with VideoReader(film) as reader:
        frame = max(reader.frames(0, 200, 20), key=lambda sample: sample[2].std())[2]
    scores = [edge_width(cv2.GaussianBlur(frame, (0, 0), sigma)) for sigma in (1, 2, 3)]
    if film.name == "fades.mp4":
        assert scores == [None] * 3  # it shows plain colours
    else:
        assert 0 < (scores[0] or 0) < (scores[1] or 0) < (scores[2] or 0)
