"""The frames by which a camera is followed: those of a whole pass, when objects alone are looked for."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from graphs.indexing.decode import Chunk, ChunkDecoder
from tests.graphs.indexing import film
from vision.media.reader import VideoReader
from vision.shots.hard_cuts import cuts
from vision.shots.transitions import STRIDE


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    path.write_bytes(film())
    return path


def pairs(chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
    """The frames between which a movement is measured."""
    return [pair for chunk in chunks for pair in pairwise(chunk.sampled.tolist())]


def test_the_camera_is_followed_through_the_same_frames(path: Path) -> None:
    with VideoReader(path) as reader:
        decoder = ChunkDecoder(reader)
        whole = list(decoder.chunks())
        begins = cuts(np.concatenate([chunk.changes for chunk in whole]))
        alone = list(decoder.object_chunks(0, frozenset(begins)))
        assert len(begins) > 0
        assert pairs(alone) == pairs(whole)
        assert [one for one, _ in pairs(alone)[1:]] == [other for _, other in pairs(alone)[:-1]], "there is a gap"
        for one, other in zip(whole, alone, strict=True):
            assert np.array_equal(one.run.frames, other.run.frames)
        # Wherever it resumes.
        assert pairs(decoder.object_chunks(STRIDE, frozenset(begins))) == pairs(whole[1:])
