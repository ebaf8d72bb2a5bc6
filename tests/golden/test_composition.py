"""quality/composition on photographs, with the faces that people/faces finds in them.

Photographs come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deployments.people.faces import Config, FaceDetector
from vision.errors import ModelNotLoaded
from vision.images import Pixels, decode
from vision.quality.composition import Composition, analyze

DEEP = ["iqa/calibra_ref/I06.bmp", "iqa/calibra_ref/I08.bmp", "iqa/calibra_ref/I19.bmp", "iqa/goldhill.gif"]
"""Landscapes and streets, sharp from front to back."""
SHALLOW = [
    "face_pairs_deepface/img16.jpg",
    "face_pairs_deepface/img17.jpg",
    "iqa/ava/42044.jpg",
    "deepfake_images/ciplab/real/real_00001.jpg",
]
"""Portraits, and mushrooms in the grass, before a blurred background."""


@pytest.fixture(scope="module")
def media() -> Path:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    media = Path(os.environ["VISION_MODELS_DIR"]).parent / "media"
    if not media.is_dir():
        pytest.skip("no folder media beside VISION_MODELS_DIR")
    return media


@pytest.fixture(scope="module")
def detector(media: Path) -> FaceDetector:
    detector = FaceDetector(Config())
    try:
        detector.load()
    except ModelNotLoaded as error:
        pytest.skip(error.message)
    return detector


def photo(path: Path) -> Pixels:
    return decode(path.read_bytes(), max_pixels=60_000_000)


def composed(detector: FaceDetector, image: Pixels) -> Composition:
    (faces,) = detector.predict_batch([detector.prepare(image)])
    assert isinstance(faces, tuple)
    return analyze(image, faces)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("iqa/calibra_ref/I04.bmp", "extreme_close_up"),
        ("deepfake_images/ciplab/real/real_00004.jpg", "close_up"),
        ("face_pairs_deepface/img10.jpg", "close_up"),
        ("face_pairs_deepface/img15.jpg", "medium_close_up"),
        ("deepfake_images/faceforensics/ex_original.png", "medium"),
        ("faces/multiface.jpg", "medium_full"),
    ],
)
def test_shot_sizes(detector: FaceDetector, media: Path, name: str, size: str) -> None:
    composition = composed(detector, photo(media / name))
    assert composition.shot_size == size
    assert composition.shot_angle == "eye_level"
    assert size in composition.tags


def test_portraits_are_close_and_at_eye_level(detector: FaceDetector, media: Path) -> None:
    shots = [composed(detector, photo(path)) for path in sorted((media / "face_pairs_deepface").glob("img*.jpg"))]
    assert len(shots) == 25
    assert {shot.shot_size for shot in shots} == {"close_up", "medium_close_up"}
    assert {shot.shot_angle for shot in shots} == {"eye_level"}


def test_a_camera_on_its_side_is_dutch(detector: FaceDetector, media: Path) -> None:
    image = photo(media / "faces" / "two_people.jpg")
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -25, 0.8)  # clockwise
    turned = composed(detector, cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))
    assert turned.shot_angle == "dutch"


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("face_pairs_deepface/img22.jpg", "right_third"),
        ("face_pairs_deepface/img4.jpg", "left_third"),
        ("face_pairs_deepface/img25.jpg", "centered"),
        ("near_duplicates/base/ukbench09348.jpg", "centered"),
        ("near_duplicates/base/ukbench09012.jpg", "left_third"),
    ],
)
def test_the_side_of_the_subject(detector: FaceDetector, media: Path, name: str, side: str) -> None:
    image = photo(media / name)
    assert composed(detector, image).framing == side
    other = {"left_third": "right_third", "right_third": "left_third", "centered": "centered"}
    assert composed(detector, np.ascontiguousarray(image[:, ::-1])).framing == other[side]


def test_depth_of_field(media: Path) -> None:
    deep = [analyze(photo(media / name), ()) for name in DEEP]
    shallow = [analyze(photo(media / name), ()) for name in SHALLOW]
    assert max(composition.depth_of_field for composition in deep) < 0.25
    assert min(composition.depth_of_field for composition in shallow) > 0.5
    assert all("shallow_depth_of_field" in composition.tags for composition in shallow)


@pytest.mark.parametrize("name", DEEP)
def test_blurring_one_half_raises_the_depth_of_field(media: Path, name: str) -> None:
    image = photo(media / name)
    half = image.copy()
    middle = image.shape[1] // 2
    half[:, :middle] = cv2.GaussianBlur(image, (0, 0), 4)[:, :middle]
    assert analyze(half, ()).depth_of_field > analyze(image, ()).depth_of_field + 0.5


def test_symmetry(media: Path) -> None:
    bottle, board = (
        analyze(photo(media / name), ()) for name in ("near_duplicates/base/ukbench09348.jpg", "iqa/ava/42041.jpg")
    )
    assert bottle.horizontal_symmetry > 0.8
    assert "symmetric" in bottle.tags
    assert max(board.horizontal_symmetry, board.vertical_symmetry) < 0.2


def test_colours(media: Path) -> None:
    red = analyze(photo(media / "iqa/ava/42041.jpg"), ())
    assert red.dominant_hue == pytest.approx(3, abs=5)
    assert red.warm_cool_ratio > 0.95
    blue = analyze(photo(media / "near_duplicates/base/ukbench00120.jpg"), ())
    assert blue.dominant_hue == pytest.approx(206, abs=6)
    assert "cool" in blue.tags
    grey = analyze(photo(media / "iqa/goldhill.gif"), ())
    assert grey.dominant_hue is None
    assert "monochrome" in grey.tags
