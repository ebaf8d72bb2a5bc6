"""people/emotion with mini-XCEPTION's weights: the numbers of Keras, and photographs with an expression judged by eye.

Photographs come from the folder ``media`` beside VISION_MODELS_DIR.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deployments.people.emotion import Config, Emotion, EmotionRecognizer
from deployments.people.faces import FaceDetector
from tests.golden.conftest import loaded, media_folder
from tests.tolerances import FP32_NETWORK, FP64, assert_close, decimals
from vision.faces.face import Face
from vision.images import Pixels, decode
from vision.networks.mini_xception import LABELS, WEIGHT_FILE, load
from vision.weights import resolve

pytestmark = pytest.mark.numeric

NAME = "mini-xception-fer2013"
LAUGHING = [1, 8, 9, 15, 16, 17, 20, 22, 23, 24, 25]
"""Numbers of photographs in face_pairs_deepface."""


@pytest.fixture(scope="module")
def stage() -> Iterator[EmotionRecognizer]:
    with loaded(EmotionRecognizer(Config(models=[NAME]))) as stage:
        stage.warm_up()
        yield stage


@pytest.fixture(scope="module")
def media(stage: EmotionRecognizer) -> Path:
    return media_folder()


def photo(path: Path) -> Pixels:
    return decode(path.read_bytes(), max_pixels=60_000_000)


def recognize(stage: EmotionRecognizer, image: Pixels, faces: tuple[Face, ...]) -> tuple[Emotion, ...]:
    (emotions,) = stage.predict_batch([stage.prepare((image, faces))])
    assert isinstance(emotions, tuple)
    return emotions


def read(stage: EmotionRecognizer, detector: FaceDetector, image: Pixels) -> tuple[Emotion, ...]:
    (faces,) = detector.predict_batch([detector.prepare(image)])
    assert isinstance(faces, tuple)
    return recognize(stage, image, faces)


def test_the_network_has_the_numbers_of_keras(stage: EmotionRecognizer) -> None:
    # Computed by Keras 3.15.1 (torch backend) from the same file; no output of eight inputs differed by more than 1e-6.
    y, x = np.mgrid[0:64, 0:64].astype(np.float32)
    waves = np.stack([np.sin(x / 9) * np.cos(y / 7), np.sin((x + y) / 11), np.cos(x * y / 300)]).astype(np.float32)
    network = load(resolve(NAME).files[WEIGHT_FILE])
    with torch.inference_mode():
        chances = network(torch.from_numpy(waves)[:, None]).softmax(1).numpy()
    expected = [
        [0.092230, 0.000925, 0.022950, 0.066276, 0.034587, 0.003707, 0.779325],
        [0.048091, 0.000026, 0.007313, 0.057258, 0.095917, 0.000138, 0.791258],
        [0.409266, 0.009238, 0.050647, 0.072872, 0.259713, 0.000744, 0.197520],
    ]
    assert_close(chances, expected, FP32_NETWORK + decimals(6), scale=1)
    assert LABELS[int(chances[2].argmax())] == "angry"


def test_a_happy_face_is_happy(stage: EmotionRecognizer, detector: FaceDetector, media: Path) -> None:
    (emotion,) = read(stage, detector, photo(media / "emotion" / "justin_happy.jpg"))
    assert emotion.dominant == "happy"
    assert emotion.scores["happy"] > 90
    assert sum(emotion.scores.values()) == pytest.approx(100, rel=FP64)


def test_laughing_faces_are_happy(stage: EmotionRecognizer, detector: FaceDetector, media: Path) -> None:
    scores = []
    for number in LAUGHING:
        (emotion,) = read(stage, detector, photo(media / "face_pairs_deepface" / f"img{number}.jpg"))
        scores.append(emotion.scores["happy"])
    assert min(scores) > 50
    assert np.mean(scores) > 90


@pytest.mark.parametrize(
    "name",
    [
        "anti_spoof/image_F1.jpg",
        "deepfake_images/ciplab/real/real_00008.jpg",
        "deepfake_images/mesonet/real/real00240.jpg",
        "face_pairs_deepface/img10.jpg",
    ],
)
def test_calm_faces_are_neutral(stage: EmotionRecognizer, detector: FaceDetector, media: Path, name: str) -> None:
    (emotion,) = read(stage, detector, photo(media / name))
    assert emotion.dominant == "neutral"
    assert emotion.scores["neutral"] > 50


def test_the_faces_of_a_picture_are_read_one_by_one(
    stage: EmotionRecognizer, detector: FaceDetector, media: Path
) -> None:
    image = photo(media / "faces" / "multiface.jpg")
    (faces,) = detector.predict_batch([detector.prepare(image)])
    assert isinstance(faces, tuple)
    together = recognize(stage, image, faces)
    assert len(together) == 6
    assert [emotion.dominant for emotion in together].count("happy") >= 3
    for emotion, face in zip(together, faces, strict=True):
        (alone,) = recognize(stage, image, (face,))
        assert alone.scores == pytest.approx(emotion.scores, abs=100 * FP32_NETWORK)


def test_a_tiny_face_has_an_answer_too(stage: EmotionRecognizer, detector: FaceDetector, media: Path) -> None:
    image = photo(media / "emotion" / "justin_happy.jpg")
    (face,) = detector.predict(detector.prepare(image))
    scale = 18 / face.height
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    box = Face(face.x * scale, face.y * scale, face.width * scale, face.height * scale, 0.9, ())
    (emotion,) = recognize(stage, small, (box,))
    assert emotion.dominant == "happy"
    assert emotion.scores["happy"] > 35


def test_info_says_how_often_it_is_right(stage: EmotionRecognizer) -> None:
    info = stage.info()
    assert (info["model"], info["model_version"], info["licence"]) == (NAME, f"{NAME}@59534287", "MIT")
    assert "68.5 % of 927 images of CK+" in info["accuracy"]
