"""people/video_faces without its weights: the sizes that a frame is searched in, and that there is no close view."""

from typing import Any, cast

import numpy as np
import pytest

from deployments.people import faces, video_faces
from deployments.people.video_faces import VideoFaceDetector
from tests.unit.deployments.people.test_faces import BoxNetwork
from vision.faces.detection import SURE, FaceSearch


@pytest.fixture
def stage() -> VideoFaceDetector:
    stage = VideoFaceDetector(video_faces.Config())
    stage._search = FaceSearch(cast(Any, BoxNetwork()), cast(Any, BoxNetwork()))
    return stage


@pytest.mark.parametrize(
    ("size", "levels"),
    [((360, 640), [(384, 640)]), ((720, 1280), [(736, 1280), (128, 224)]), ((1280, 720), [(1280, 736), (224, 128)])],
)
def test_a_frame_is_searched_in_its_own_size(
    stage: VideoFaceDetector, size: tuple[int, int], levels: list[tuple[int, int]]
) -> None:
    pyramid = stage.prepare(np.zeros((*size, 3), np.uint8))
    assert [level.shape[1:3] for level, _ in pyramid.levels] == levels
    assert [scale for _, scale in pyramid.levels] == [1.0, 1 / 6][: len(levels)]


def test_faces_are_found_without_a_close_view(stage: VideoFaceDetector) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[100:160, 200:245] = 240
    (detections,) = stage.predict_batch([stage.prepare(frame)])
    assert isinstance(detections, tuple)
    (face,) = detections
    assert (face.x, face.y, face.width, face.height) == pytest.approx((200, 100, 45, 60), abs=2)
    assert face.confidence == pytest.approx(240 / 255, abs=0.02)
    views = cast(BoxNetwork, stage._search._exact).shapes
    assert {shape[1] for shape in views} == {SURE.size}


def test_faces_that_are_less_sure_are_found_too(stage: VideoFaceDetector) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[100:160, 200:260] = 195  # a score of 0.76
    assert faces.Config().confidence > 0.8
    (detections,) = stage.predict_batch([stage.prepare(frame)])
    assert isinstance(detections, tuple)
    assert len(detections) == 1
