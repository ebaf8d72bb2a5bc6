"""The benchmarks of objects count as their reports say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ops.bench.object_films import KINDS, PlannedFilm
from ops.bench.object_map import evaluate
from ops.bench.object_tracks import detections, sampled, tally
from ops.bench.report import publish_section
from ops.bench.scenes import read_labels
from tests.tolerances import FP32
from vision.objects.tracking import ObjectTrack, track_objects

FRAMES = 20
LABELS = {
    "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 9, "bbox": [20, 20, 50, 20], "area": 1000, "iscrowd": 0},
    ],
    "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "car"}],
}


def film(*ways: tuple[float, float]) -> PlannedFilm:
    """Objects of 100 pixels beside each other, from one place across the picture to another."""
    boxes = np.zeros((len(ways), FRAMES, 4))
    boxes[..., 1:] = 100, 100, 100
    for box, (start, end) in zip(boxes, ways, strict=True):
        box[:, 0] = np.linspace(start, end, FRAMES)
    return PlannedFilm(10.0, ("person",) * len(ways), boxes, np.zeros((0, FRAMES, 4)))


def track(box: NDArray[np.float64], first: int = 0, last: int = FRAMES) -> ObjectTrack:
    frames = np.arange(first, last)
    boxes = box[first:last].astype(np.float32)
    return ObjectTrack(0, frames, boxes, np.ones(len(frames), np.float32), np.ones(len(frames), np.bool_))


def test_tracks_that_are_the_truth_are_clean() -> None:
    planned = film((0, 300), (600, 900))
    counted = tally(planned, [track(box) for box in planned.boxes])
    assert (counted.frames, counted.covered, counted.clean, counted.switches) == (40, 40, 40, 0)
    assert counted.idf1 == 1


def test_a_track_that_changes_over_is_counted() -> None:
    """One is followed for 12 frames and the other for 8 by one track, and the other way round."""
    planned = film((0, 300), (600, 900))
    one, other = planned.boxes
    mixed = [np.concatenate([one[:12], other[12:]]), np.concatenate([other[:12], one[12:]])]
    counted = tally(planned, [track(box) for box in mixed])
    assert (counted.switches, counted.covered, counted.clean) == (2, 40, 24)
    assert counted.idf1 == pytest.approx(24 / 40, rel=FP32)


def test_a_track_in_two_parts_and_a_false_one_are_counted() -> None:
    planned = film((0, 300))
    (box,) = planned.boxes
    counted = tally(planned, [track(box, 0, 12), track(box, 15), track(np.add(box, [600, 300, 0, 0]), 0, 10)])
    assert (counted.covered, counted.switches, counted.clean) == (17, 1, 12)
    # 12 of 20 visible frames are identified, and of 27 of tracks.
    assert counted.idf1 == pytest.approx(2 * 12 / (20 + 27), rel=FP32)


def test_what_is_hidden_is_not_visible() -> None:
    planned = film((100, 100), (150, 150))
    wall = np.tile([0.0, 0, 1280, 140], (1, FRAMES, 1))
    np.testing.assert_allclose(planned.visibility()[:, 0], [0.5, 1])
    np.testing.assert_allclose(replace(planned, walls=wall).visibility()[:, 0], [0.3, 0.6], atol=0.05)  # of 12 points


def test_frames_are_sampled_as_by_the_index() -> None:
    assert sampled(np.arange(30) / 30, 30.0, ()) == [0, 10, 20]
    assert sampled(np.arange(10) / 5, 5.0, (3,)) == [0, 2, 3, 4, 5, 7, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_films_of_each_kind_are_mostly_followed(kind: str) -> None:
    random = np.random.default_rng(1)
    planned = KINDS[kind](random, 24.0)
    counted = tally(planned, track_objects(detections(planned, None), planned.cuts, planned.times, planned.camera))
    assert counted.clean / counted.covered > 0.8
    assert counted.frames > 0.2 * planned.boxes.shape[1]


def found(box: list[float], image: int = 1, category: int = 7, score: float = 0.9) -> dict[str, object]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_precision_is_that_of_coco() -> None:
    right = [found([10, 10, 40, 40]), found([20, 20, 50, 20], 2, 9)]
    assert evaluate(LABELS, right).by_class == pytest.approx({"dog": 1, "car": 1}, rel=FP32)
    # An intersection over union of 40/50 = 0.8 is right at 7 of the 10 from 0.5 to 0.95.
    off = evaluate(LABELS, [found([10, 10, 50, 40]), right[1]])
    assert off.by_class == pytest.approx({"dog": 0.7, "car": 1}, rel=FP32)
    assert (off.mean, off.mean50) == pytest.approx((0.85, 1), rel=FP32)
    # Of another class it is nowhere near, and a surer one that is false halves the precision.
    assert evaluate(LABELS, [found([10, 10, 40, 40], 1, 9), right[1]]).by_class["dog"] == 0
    assert evaluate(LABELS, [found([50, 50, 40, 40], 1, 7, 0.95), *right]).by_class["dog"] == pytest.approx(
        0.5, rel=FP32
    )
    assert evaluate(LABELS, []).mean == 0


def test_labels_lie_in_their_pictures() -> None:
    labels = read_labels()
    images = {each["id"]: each for each in labels["images"]}
    assert len(images) == len(labels["images"]) == len({each["file_name"] for each in images.values()})
    assert {each["category_id"] for each in labels["annotations"]} == {each["id"] for each in labels["categories"]}
    for each in labels["annotations"]:
        x, y, width, height = each["bbox"]
        image = images[each["image_id"]]
        assert 0 <= x < x + width <= image["width"] + 1
        assert 0 <= y < y + height <= image["height"] + 1


def test_a_section_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    out.write_text("# A report\n\nWhat it is about.\n")
    publish_section("Cost", ["1", ""], out)
    publish_section("Tracks", ["2"], out)
    publish_section("Cost", ["3", "", "4"], out)
    assert out.read_text() == "# A report\n\nWhat it is about.\n\n## Cost\n\n3\n\n4\n\n## Tracks\n\n2\n"
