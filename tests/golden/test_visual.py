"""forensics/visual with MesoNet's real weights: the numbers of its faces, and what it cannot see.

Pictures come from the folder ``media`` beside VISION_MODELS_DIR.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deployments.forensics.visual import Config, Visual, VisualDetector
from deployments.people.faces import FaceDetector
from tests.golden.conftest import loaded, media_folder
from tests.tolerances import FP32_DEEP
from vision.images import Pixels, decode
from vision.networks.mesonet import SIDE, WEIGHT_FILE, load
from vision.weights import resolve

pytestmark = pytest.mark.numeric

NAME = "mesonet-deepfakes"


@pytest.fixture(scope="module")
def stage() -> Iterator[VisualDetector]:
    with loaded(VisualDetector(Config(models=[NAME]))) as stage:
        yield stage


@pytest.fixture(scope="module")
def pictures(stage: VisualDetector) -> Path:
    return media_folder("deepfake_images")


def judged(stage: VisualDetector, detector: FaceDetector, image: Pixels) -> Visual:
    (faces,) = detector.predict_batch([detector.prepare(image)])
    assert isinstance(faces, tuple)
    (visual,) = stage.predict_batch([stage.prepare((image, faces))])
    assert isinstance(visual, Visual)
    return visual


def photo(path: Path) -> Pixels:
    return decode(path.read_bytes(), max_pixels=10**8)


def test_the_network_tells_the_faces_of_its_own_set_apart(pictures: Path) -> None:
    network = load(resolve(NAME).files[WEIGHT_FILE])
    # The whole pictures are faces already; the weights' own pages give 0.026, 0.001, 1.000 and 1.000 by Keras.
    made = {"df/df00204": True, "df/df01254": True, "real/real00240": False, "real/real00772": False}
    for name, fake in made.items():
        face = cv2.resize(photo(pictures / "mesonet" / f"{name}.jpg"), (SIDE, SIDE))
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(face.transpose(2, 0, 1))).float() / 255
            real = float(torch.sigmoid(network(pixels[None])))
        assert real < 0.05 if fake else real > 0.999


def test_swapped_faces_stand_out(stage: VisualDetector, detector: FaceDetector, pictures: Path) -> None:
    for name in ("df00204", "df01254"):
        (probability,) = judged(stage, detector, photo(pictures / "mesonet" / "df" / f"{name}.jpg")).probabilities
        assert probability is not None
        assert probability > 0.75
    for path in sorted((pictures / "mesonet" / "real").glob("*.jpg")):
        (probability,) = judged(stage, detector, photo(path)).probabilities
        assert probability is not None
        assert probability < 0.5


def test_retouched_faces_are_not_seen(stage: VisualDetector, detector: FaceDetector, pictures: Path) -> None:
    visuals = [judged(stage, detector, photo(path)) for path in sorted((pictures / "ciplab" / "fake").glob("*.jpg"))]
    assert max(visual.probabilities[0] or 0 for visual in visuals) < 0.45
    assert "none of 9 faces" in stage.info()["worth"]


def test_a_blurred_face_is_not_judged(stage: VisualDetector, detector: FaceDetector, pictures: Path) -> None:
    image = photo(pictures / "ciplab" / "real" / "real_00001.jpg")
    assert judged(stage, detector, cv2.GaussianBlur(image, (0, 0), 8)).probabilities == (None,)
    assert judged(stage, detector, cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)).probabilities == (None,)


def test_without_a_face_it_says_nothing(stage: VisualDetector) -> None:
    (visual,) = stage.predict_batch([stage.prepare((np.full((80, 80, 3), 128, np.uint8), ()))])
    assert isinstance(visual, Visual)
    assert (visual.level, visual.probabilities) == ("no_face", ())


def test_a_result_does_not_depend_on_its_batch(stage: VisualDetector, detector: FaceDetector, pictures: Path) -> None:
    crops = []
    for path in sorted((pictures / "mesonet").rglob("*.jpg")):
        image = photo(path)
        (faces,) = detector.predict_batch([detector.prepare(image)])
        assert isinstance(faces, tuple)
        crops.append(stage.prepare((image, faces)))
    together = stage.predict_batch(crops)
    for visual, crop in zip(together, crops, strict=True):
        (alone,) = stage.predict_batch([crop])
        assert isinstance(visual, Visual)
        assert isinstance(alone, Visual)
        assert visual.log_odds == pytest.approx(alone.log_odds, rel=FP32_DEEP, abs=FP32_DEEP)
