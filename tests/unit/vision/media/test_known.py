"""A second reader of a film, opened with what the first one has learned: the same frames, at any place."""

import io
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import RECIPES, X264, Recipe
from vision.errors import InvalidMedia
from vision.media.reader import VideoReader

PYRAMID = {"preset": "veryfast", "g": "30", "bf": "5", "x264-params": "b-pyramid=normal:ref=4"}
MORE = {
    "pyramid": Recipe(frames=60, encoder=PYRAMID),
    "pyramid in mpeg-ts": Recipe("mpegts", frames=60, encoder=PYRAMID),
    "pyramid in matroska": Recipe("matroska", frames=60, encoder=PYRAMID),
    "hevc in mpeg-ts": Recipe("mpegts", "libx265", frames=40),
    "hevc in matroska": Recipe("matroska", "libx265", frames=40),
    "mpeg-4 in mov": Recipe("mov", "mpeg4", frames=40),
    "av1 in matroska": Recipe("matroska", "libsvtav1", frames=40, encoder={"preset": "12"}),
    "stretched": Recipe(frames=30, pixel_aspect=Fraction(3, 2), encoder=X264),
    "one frame": Recipe(frames=1, encoder=X264),
}


@pytest.fixture
def film(video: MakeVideo) -> Callable[[str], Path]:
    return lambda name: video(MORE.get(name, name))


@pytest.mark.parametrize("name", [*RECIPES, *MORE])
def test_it_gives_the_frames_of_the_first_reader(name: str, film: Callable[[str], Path]) -> None:
    rng = random.Random(name)
    with VideoReader(film(name)) as first:
        row = [pixels for _, _, pixels in first.frames()]
        chosen = [rng.randrange(len(row)) for _ in range(12)]
        for start in (len(row) - 1, 0, *chosen[:2]):
            with VideoReader(film(name), known=first.known) as second:
                assert second.facts == first.facts
                assert np.array_equal(second.times, first.times)
                for number in (start, *chosen):
                    assert np.array_equal(second.frame(number), row[number]), (start, number)
                with VideoReader(film(name), known=second.known) as third:
                    assert np.array_equal(third.frame(start), row[start])
                rest = [number for number, _, _ in second.frames(start)]
                assert rest == list(range(start, len(row)))


@pytest.mark.parametrize("name", ["b-frames", "pyramid", "hevc", "mpeg-ts", "edit list", "vfr"])
def test_where_it_begins_to_decode(name: str, film: Callable[[str], Path]) -> None:
    with VideoReader(film(name)) as reader, VideoReader(film(name), known=reader.known) as other:
        last = len(reader.times) - 1
        keys = [number for number in range(last + 1) if other.between_keys(number)[0] == number]
        assert keys[0] == 0
        for number in range(last + 1):
            first, behind = other.between_keys(number)
            assert first == max(key for key in keys if key <= number)
            assert behind == min((key for key in keys if key > number), default=last + 1)
            assert (other.seeks(number), other.distance(number)) == (True, number - first)
        reader.frame(keys[-1])
        at = keys[-1]
        reader.frame(min(at + 3, last))
        assert reader.place == min(at + 3, last)
        assert (reader.seeks(last), reader.distance(last)) == (False, last - reader.place)
        assert reader.seeks(0)


def test_bytes_that_are_not_those_of_the_film_fail_as_damage_does(film: Callable[[str], Path]) -> None:
    with VideoReader(film("b-frames")) as first:
        for data in (b"", b"no film", film("b-frames").read_bytes()[:100]):
            with pytest.raises(InvalidMedia):
                VideoReader(io.BytesIO(data), known=first.known)
