"""The benchmark of shot detection: it measures what the service does, and counts as its report says."""

from pathlib import Path

import numpy as np
import pytest

from graphs.indexing.decode import ChunkDecoder
from ops.bench.cut_films import Label
from ops.bench.cuts import ServiceCuts, Video, score
from tests.dummies.video import DummyCuts
from tests.graphs.indexing import film
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.shots.hard_cuts import ChangeMeter, cuts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(film())
    return path


def test_frame_differences_are_measured_on_the_thumbnails_of_the_service(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnails: list[Pixels] = []
    update = ChangeMeter.update

    def recorded(meter: ChangeMeter, thumbnail: Pixels) -> tuple[float, float]:
        thumbnails.append(thumbnail.copy())
        return update(meter, thumbnail)

    monkeypatch.setattr(ChangeMeter, "update", recorded)
    with VideoReader(path) as reader:
        changes = np.concatenate([chunk.changes for chunk in ChunkDecoder(reader).chunks()])
    of_service = np.stack(thumbnails)
    thumbnails.clear()
    stage = DummyCuts(DummyCuts.config_class())
    stage.load()
    starts = ServiceCuts(stage).difference(path)
    assert np.array_equal(np.stack(thumbnails), of_service)
    assert starts == list(cuts(changes)) != []


def test_every_label_is_matched_once() -> None:
    labels = (Label(9, 10, "cut"), Label(30, 40, "fade"), Label(59, 60, "cut"))
    result = score([11, 33, 37, 70, 95], Video("v", Path("v"), labels, ignored=((90, 99),)))
    assert (result.right, result.false, result.missed, result.off) == (2, 2, 1, [1])
    assert result.f1 == pytest.approx(4 / 7)
