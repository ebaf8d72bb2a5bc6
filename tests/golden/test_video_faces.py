"""people/video_faces with real weights: the faces that people/faces finds, in frames of a film of a street.

The film comes from the folder ``media`` beside VISION_MODELS_DIR.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import settings as settings_module
from deployments.people import faces, video_faces
from deployments.people.faces import FaceDetector
from deployments.people.video_faces import VideoFaceDetector
from ops.bench.indexing import overlap
from vision.faces.face import Face
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.weights.store import store

SMALLEST = 24
"""Pixels; below that the network's reach ends."""


@pytest.fixture(scope="module")
def street() -> Iterator[list[Pixels]]:
    """Every tenth frame, 1280 pixels wide."""
    models = os.environ.get("VISION_MODELS_DIR")
    if models is None or not (Path(models) / "face_detect").is_dir():
        pytest.skip("no weights of people/video_faces under VISION_MODELS_DIR")
    film = Path(models).parent / "media" / "faces" / "facenet_pytorch_video.mp4"
    if not film.is_file():
        pytest.skip("no folder media/faces beside VISION_MODELS_DIR")
    settings_module.settings.cache_clear()
    store.cache_clear()
    with VideoReader(film) as reader:
        yield [pixels for _, _, pixels in reader.frames(step=10, size=(1280, 720))]
    settings_module.settings.cache_clear()
    store.cache_clear()


def found_by(stage: FaceDetector, frames: list[Pixels]) -> list[tuple[Face, ...]]:
    stage.load()
    results = stage.predict_batch([stage.prepare(frame) for frame in frames])
    assert all(isinstance(result, tuple) for result in results)
    return list(results)  # type: ignore[arg-type]


def box(face: Face) -> tuple[float, float, float, float]:
    return face.x, face.y, face.width, face.height


def test_it_finds_what_people_faces_finds(street: list[Pixels]) -> None:
    careful = found_by(FaceDetector(faces.Config()), street)
    quick = found_by(VideoFaceDetector(video_faces.Config()), street)
    wanted = [(frame, face) for frame, in_frame in enumerate(careful) for face in in_frame if face.width >= SMALLEST]
    assert len(wanted) >= 30
    missed = [
        (frame, face)
        for frame, face in wanted
        if max((overlap(box(face), box(other)) for other in quick[frame]), default=0) < 0.6
    ]
    assert len(missed) <= 0.03 * len(wanted)


def test_no_face_has_two_boxes(street: list[Pixels]) -> None:
    for in_frame in found_by(VideoFaceDetector(video_faces.Config()), street):
        for number, face in enumerate(in_frame):
            assert all(overlap(box(face), box(other)) < 0.4 for other in in_frame[:number])


def test_it_says_how_it_differs(street: list[Pixels]) -> None:
    stage = VideoFaceDetector(video_faces.Config())
    stage.load()
    info = stage.info()
    assert (info["threshold"], info["smallest_face"]) == (0.7, "20 pixels")
    assert info["model"] == "yunet-2023mar"
