"""people/video_faces without its weights: which sizes of a frame are looked at, and that no close look is made."""

import numpy as np
import pytest

from deployments.people import faces, video_faces
from deployments.people.video_faces import VideoFaceDetector
from tests.unit.deployments.people.test_faces import BoxNetwork


@pytest.fixture
def stage() -> VideoFaceDetector:
    stage = VideoFaceDetector(video_faces.Config())
    stage._network, stage._exact = BoxNetwork(), BoxNetwork()  # type: ignore[assignment]
    return stage


@pytest.mark.parametrize(
    ("size", "levels"),
    [((360, 640), [(384, 640)]), ((720, 1280), [(736, 1280), (128, 224)]), ((1280, 720), [(1280, 736), (224, 128)])],
)
def test_a_frame_is_looked_at_in_its_own_size(
    stage: VideoFaceDetector, size: tuple[int, int], levels: list[tuple[int, int]]
) -> None:
    pyramid = stage.prepare(np.zeros((*size, 3), np.uint8))
    assert [level.shape[1:3] for level, _ in pyramid.levels] == levels
    assert [scale for _, scale in pyramid.levels] == [1.0, 1 / 6][: len(levels)]


def test_faces_are_found_without_a_close_look(stage: VideoFaceDetector) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[100:160, 200:245] = 240
    (found,) = stage.predict_batch([stage.prepare(frame)])
    assert isinstance(found, tuple)
    (face,) = found
    assert (face.x, face.y, face.width, face.height) == pytest.approx((200, 100, 45, 60), abs=2)
    assert face.confidence == pytest.approx(240 / 255, abs=0.02)
    looks = stage._exact.shapes  # type: ignore[attr-defined]
    assert {shape[1] for shape in looks} == {faces.SURE.size}


def test_faces_that_are_less_sure_are_found_too(stage: VideoFaceDetector) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[100:160, 200:260] = 195  # a score of 0.76
    assert faces.Config().confidence > 0.8
    (found,) = stage.predict_batch([stage.prepare(frame)])
    assert isinstance(found, tuple)
    assert len(found) == 1
