"""people/faces without its weights: squares, decoding, and the search over a pyramid by a network that sees boxes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.people import faces
from deployments.people.faces import Config, FaceDetector
from deployments.serving.catalog import local_handle
from tests.tolerances import FP32
from vision.errors import ModelNotLoaded
from vision.faces import detection
from vision.faces.detection import CLOSE, COARSE, VIEW_SIZES, FaceSearch
from vision.faces.face import Face, Square
from vision.faces.yunet import Detections, _decode, _outputs
from vision.images import Pixels
from vision.weights import Registry
from vision.weights.store import Store

pytestmark = pytest.mark.numeric

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
"""Landmarks of every box, as shares of its width and height."""
Box = tuple[int, int, int, int]


class BoxNetwork:
    """Sees upright filled boxes of one brightness as faces, when they have 20 to 640 pixels, as YuNet does.

    The score is the brightness over 255; the boxes of a picture have different ones.
    """

    engine, device, streams = "boxes", "cpu", 1

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pictures: Pixels, floor: float) -> list[Detections]:
        self.shapes.append(pictures.shape)
        return [self._see(picture, floor) for picture in pictures]

    def _see(self, picture: Pixels, floor: float) -> Detections:
        rows: list[NDArray[np.float32]] = [np.empty((0, 15), np.float32)]
        # fewer pixels of a brightness are the seam of a brighter box
        for level in np.flatnonzero(np.bincount(picture[..., 0].ravel(), minlength=256) >= 300):
            if level == 0 or level / 255 < floor:
                continue
            y, x = np.nonzero(picture[..., 0] == level)
            box = np.array([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1], np.float32)
            if 20 <= box[2:].max() <= 640:
                rows.append(np.concatenate([box, (box[:2] + POINTS * box[2:]).ravel(), [level / 255]])[None])
        return np.concatenate(rows).astype(np.float32)


def detector(**config: Any) -> FaceDetector:
    stage = FaceDetector(Config(**config))
    network: Any = BoxNetwork()
    stage._search = FaceSearch(network, network)
    return stage


def find(stage: FaceDetector, image: Pixels) -> tuple[Face, ...]:
    (detections,) = stage.predict_batch([stage.prepare(image)])
    assert isinstance(detections, tuple)
    return detections


def picture(size: tuple[int, int], boxes: Sequence[tuple[Box, int]]) -> Pixels:
    """A black picture of (width, height) with boxes (x, y, width, height) of a brightness."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for (x, y, width, height), level in boxes:
        image[max(0, y) : y + height, max(0, x) : x + width] = level
    image.flags.writeable = False
    return image


def close_to(face: Face, box: Box, pixels: float) -> bool:
    return bool(np.abs(np.subtract((face.x, face.y, face.width, face.height), box)).max() <= pixels)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((640, 480), (100, 120, 12, 14)),  # only in the enlarged picture
        ((640, 480), (50, 40, 380, 420)),
        ((4000, 3000), (3300, 2500, 60, 70)),
        ((4000, 3000), (400, 100, 2100, 2800)),  # only in the coarse level
        ((300, 9000), (100, 8000, 90, 120)),
        ((9000, 300), (8000, 100, 90, 120)),
    ],
)
def test_a_face_is_found_at_any_size(size: tuple[int, int], box: Box) -> None:
    (face,) = find(detector(), picture(size, [(box, 250)]))
    assert face.confidence == pytest.approx(250 / 255)
    assert close_to(face, box, 1 + 0.03 * max(box[2:]))
    expected = np.array(box[:2]) + POINTS * box[2:]
    assert np.abs(np.array(face.landmarks) - expected).max() <= 1 + 0.01 * max(box[2:])


def test_every_level_is_a_multiple_of_32_and_the_work_is_bounded() -> None:
    stage = detector(fine_megapixels=2)
    for size in ((1, 1), (4000, 3000), (8000, 6000), (20000, 40), (33, 2000)):
        levels = stage.prepare(picture(size, [])).levels
        assert all(level.shape[1] % 32 == level.shape[2] % 32 == 0 for level, _ in levels)
        assert all(before / after == pytest.approx(6) for (_, before), (_, after) in pairwise(levels))
        finest, scale = levels[0]
        assert scale <= 2
        assert round(size[0] * scale) * round(size[1] * scale) <= 2.05e6
        assert finest.shape[1] - size[1] * scale < 33
        assert min(size) * levels[-1][1] <= COARSE


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1), (3, 400_000)])
def test_a_strip_is_no_more_work_than_a_picture(size: tuple[int, int]) -> None:
    levels = detector().prepare(np.zeros((*size, 3), np.uint8)).levels
    assert sum(level.nbytes for level, _ in levels) <= 3 * 5.1e6


def test_faces_come_in_the_order_of_their_confidence_and_below_the_threshold_not_at_all() -> None:
    boxes: list[tuple[Box, int]] = [((50, 50, 60, 80), 235), ((300, 60, 50, 60), 250), ((200, 300, 90, 120), 210)]
    detections = find(detector(), picture((640, 480), boxes))
    assert [round(face.confidence * 255) for face in detections] == [250, 235]
    everything = find(detector(confidence=0.6), picture((640, 480), boxes))
    assert [round(face.confidence * 255) for face in everything] == [250, 235, 210]
    assert close_to(everything[2], (200, 300, 90, 120), 4)


@pytest.mark.parametrize("faces", [0, 1, 2])
def test_boxes_alone_are_the_same_without_a_close_view(faces: int) -> None:
    stage = detector()
    image = picture((640, 480), [((50, 50, 60, 80), 235), ((300, 60, 150, 160), 250)][:faces])
    network: Any = stage._search._exact

    def seen(item: Any) -> tuple[list[Face], int]:
        network.shapes.clear()
        (result,) = stage.predict_batch([stage.prepare(item)])
        assert isinstance(result, tuple)
        close = sum(shape[0] for shape in network.shapes if shape[1:3] == (CLOSE.size, CLOSE.size))
        return [replace(face, landmarks=()) for face in result], close

    (whole, close), (boxes, none) = seen(image), seen((image, "boxes"))
    assert whole == boxes
    assert (len(boxes), close, none) == (faces, faces, 0)


@pytest.mark.parametrize(("size", "box"), [((4000, 3000), (400, 100, 2100, 2800)), ((640, 480), (100, 120, 12, 14))])
def test_coarse_levels_have_a_network_of_their_own(size: tuple[int, int], box: Box) -> None:
    stage, image = detector(), picture(size, [(box, 250)])
    whole = find(stage, image)
    networks: Any = [BoxNetwork() for _ in range(3)]
    finest, exact, coarse = networks
    stage._search = FaceSearch(finest, exact, coarse)
    assert find(stage, image) == whole
    levels = [level.shape for level, _ in stage.prepare(image).levels]
    assert len(levels) >= 2
    assert (finest.shapes, coarse.shapes) == (levels[:1], levels[1:])
    assert {shape[1:3] for shape in exact.shapes} == set(VIEW_SIZES)


def test_the_threshold_changes_in_place() -> None:
    stage = detector()
    image = picture((640, 480), [((200, 300, 90, 120), 210)])
    assert find(stage, image) == ()
    stage.reconfigure(Config(confidence=0.8))
    assert len(find(stage, image)) == 1


def test_a_box_is_cut_at_the_edge_of_the_picture() -> None:
    (face,) = find(detector(), picture((640, 480), [((560, 400, 80, 80), 250)]))
    assert close_to(face, (560, 400, 80, 80), 3)
    assert face.x + face.width <= 640
    assert face.y + face.height <= 480
    clipped = detection._face(np.array([-10, 470, 30, 40, *range(10), 0.9], np.float32), 480, 640)
    assert (clipped.x, clipped.y, clipped.width, clipped.height) == (0, 470, 20, 10)
    assert clipped.landmarks == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
    assert all(type(value) is float for value in (clipped.x, clipped.width, clipped.confidence))


def test_a_picture_without_faces_is_an_answer() -> None:
    stage = detector()
    assert stage.predict_batch([stage.prepare(picture((64, 48), []))] * 2) == [(), ()]


def test_a_candidate_on_a_part_of_a_face_is_moved_to_the_face() -> None:
    search = detector()._search
    whole = (200, 100, 160, 200)
    image = picture((640, 480), [(whole, 250)])
    part = np.array([[200, 100, 100, 120, *[0] * 10, 0.6]], np.float32)
    (row,) = search._confirmed(image, part, 0.87)
    assert np.abs(row[:4] - whole).max() <= 4
    both = np.concatenate([part, np.array([[*whole, *[0] * 10, 0.7]], np.float32)])
    assert len(search._confirmed(image, both, 0.87)) == 1
    beside = np.array([[400, 300, 100, 120, *[0] * 10, 0.9]], np.float32)
    assert len(search._confirmed(image, beside, 0.87)) == 0


def test_two_candidates_of_one_face_are_one_face() -> None:
    rows = np.zeros((4, 15), np.float32)
    rows[:, :4] = [(0, 0, 10, 10), (1, 1, 10, 10), (30, 0, 10, 10), (5, 5, 10, 10)]
    rows[:, 14] = (0.6, 0.9, 0.7, 0.5)
    # The last overlaps the second by 36 of 164, which is less than 0.3.
    assert detection._distinct(rows)[:, 14].tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert len(detection._distinct(rows[:0])) == 0
    shares = detection.overlap(rows[0, :4], rows[:, :4])
    np.testing.assert_allclose(shares, [1, 81 / 119, 0, 25 / 175], rtol=FP32)


def test_the_grids_of_the_network_become_pixels() -> None:
    outputs = {
        name: np.zeros((64 * 96 // int(name.split("_")[1]) ** 2, width), np.float32) for name, width in _outputs()
    }
    cell = 1 * (96 // 16) + 2  # row 1, column 2 of the grid of stride 16
    outputs["cls_16"][cell], outputs["obj_16"][cell] = 0.64, 1.5  # the network's outputs can exceed 1
    outputs["bbox_16"][cell] = (0.5, 0.25, np.log(2), np.log(3))
    outputs["kps_16"][cell] = np.arange(10) / 10
    outputs["cls_8"][5] = outputs["obj_8"][5] = 0.4
    (row,) = _decode(outputs, 96, 0.5)
    middle = (2.5 * 16, 1.25 * 16)
    np.testing.assert_allclose(row[:4], (middle[0] - 16, middle[1] - 24, 32, 48), rtol=FP32)
    expected = [((2 if i % 2 == 0 else 1) + i / 10) * 16 for i in range(10)]
    np.testing.assert_allclose(row[4:14], expected, rtol=FP32)
    assert row[14] == pytest.approx(0.8)


def test_a_square_is_black_outside_the_picture() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    image[:20, :30] = (10, 20, 30)
    square = Square.around(-10, -10, 20, 10, 2.0)
    assert square == Square(-20, -25, 40)
    cut = square.cut(image, 40)
    assert cut[:25].max() == 0
    assert cut[:, :20].max() == 0
    assert (cut[25:, 20:] == (10, 20, 30)).all()
    assert Square(100, 100, 10).cut(image, 8).max() == 0
    assert Square(30, 20, 20).cut(image, 10).min() == 200
    assert Square.around(5, 5, 0, 0, 1.3).side == 1
    assert Square(0, 0, 4).cut(image[..., 0], 2).shape == (2, 2)


async def test_without_weights_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Registry.model_validate({}), tmp_path)
    monkeypatch.setattr(faces, "resolve", store.resolve)
    handle = await local_handle(FaceDetector, {})
    with pytest.raises(ModelNotLoaded, match="yunet-2023mar: not registered"):
        await handle(picture((64, 48), []))
