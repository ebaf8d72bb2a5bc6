"""Labels of boxes: none over another, none over a face if that can be, all inside the frame, steady in time."""

import itertools

import numpy as np
import pytest

from vision.images import Pixels
from vision.media.labels import Label, LabelPlacer, Place, Rectangles
from vision.media.overlay import BACKING, PALETTE, Overlay
from vision.media.plan import Box

SIZES = {"240p": (426, 240, 12), "1080p": (1920, 1080, 27), "4K": (3840, 2160, 54), "upright": (720, 1280, 18)}
"""Width and height of the frame, and the height of letters."""


def crowd(rng: np.random.Generator, count: int, width: int, height: int, side: float) -> Rectangles:
    """Boxes that touch no other, of about this share of the frame's height."""
    boxes: list[list[float]] = []
    while len(boxes) < count:
        h = rng.uniform(0.7, 1.3) * side * height
        x, y = rng.uniform(0, width - h), rng.uniform(0, height - h)
        if all(x + h < a or c < x or y + h < b or d < y for a, b, c, d in boxes):
            boxes.append([x, y, x + h * 0.8, y + h])
    return np.array(boxes)


def labels_of(count: int, text: int) -> list[Label]:
    return [Label(number, text * (4 + 3 * (number % 3)), text * 3 // 2) for number in range(count)]


def rectangles(places: list[Place | None], labels: list[Label]) -> Rectangles:
    placed = [(p, label) for p, label in zip(places, labels, strict=True) if p is not None]
    return np.array([(p.left, p.top, p.left + n.width, p.top + n.height) for p, n in placed], np.float64)


def shared(one: Rectangles, others: Rectangles) -> Rectangles:
    low, high = np.maximum(one[:, None, :2], others[None, :, :2]), np.minimum(one[:, None, 2:], others[None, :, 2:])
    area: Rectangles = (high - low).clip(0).prod(2)
    return area


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("count", "side", "least"), [(1, 0.3, 1), (5, 0.12, 5), (12, 0.06, 11), (60, 0.04, 15)])
def test_no_label_covers_another(name: str, count: int, side: float, least: int) -> None:
    width, height, text = SIZES[name]
    for seed in range(5):
        boxes = crowd(np.random.default_rng(seed), count, width, height, side)
        labels = labels_of(count, text)
        places = LabelPlacer(width, height, 3).place(boxes, labels, [(5, 5, width // 4, 5 + 2 * text)])
        drawn = rectangles(places, labels)
        assert len(drawn) >= least
        assert (drawn[:, :2] >= 0).all()
        assert (drawn[:, 2:] <= (width, height)).all()
        overlaps = shared(drawn, drawn)
        assert not overlaps[~np.eye(len(drawn), dtype=bool)].any()
        assert not shared(drawn, np.array([[5, 5, width // 4, 5 + 2 * text]], np.float64)).any()
        # No face is hidden by half, and of a few none is touched.
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert (shared(drawn, boxes) / areas).max() < (0.05 if count <= 5 else 0.5)


def test_two_neighbours_have_a_label_each() -> None:
    """Both would be above their box, where one would cover the other."""
    boxes = np.array([[100, 100, 160, 180], [170, 100, 230, 180]], np.float64)
    labels = [Label("a", 120, 30), Label("b", 120, 30)]
    first, second = LabelPlacer(640, 360, 2).place(boxes, labels)
    assert (first, second) == (Place(100, 68), Place(170, 182))


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((100, 100, 200, 200), (100, 78)),  # above
        ((580, 100, 640, 200), (560, 78)),  # above, ending with the box
        ((100, 5, 200, 105), (100, 107)),  # below, as there is no room above
        ((0, 0, 640, 360), (0, 0)),  # inside, as there is no other room
        ((-50, -60, 30, 40), (0, 42)),
    ],
)
def test_where_a_label_is_beside_its_box(box: tuple[float, ...], place: tuple[int, int]) -> None:
    (chosen,) = LabelPlacer(640, 360, 2).place(np.array([box], np.float64), [Label("Ada", 80, 20)])
    assert chosen is not None
    assert chosen[:2] == place
    assert chosen.line is None


def test_a_label_without_room_is_left_out() -> None:
    box = np.array([[10, 10, 50, 50]], np.float64)
    assert LabelPlacer(60, 60, 2).place(box, [Label("Ada", 80, 20)]) == [None]
    assert LabelPlacer(640, 360, 2).place(box, [Label("Ada", 80, 20)], [(0, 0, 640, 360)]) == [None]
    outside = np.array([[-90, 10, -50, 50]], np.float64)
    assert LabelPlacer(640, 360, 2).place(outside, [Label("Ada", 80, 20)]) == [None]


def test_a_label_further_away_is_joined_with_its_box() -> None:
    # All that is beside the box is taken.
    taken = [(40, 66, 360, 88), (40, 112, 360, 134), (40, 88, 188, 112), (212, 88, 360, 112)]
    (chosen,) = LabelPlacer(640, 360, 2).place(np.array([[190.0, 90, 210, 110]]), [Label("Ada", 60, 16)], taken)
    assert chosen is not None
    assert chosen.line is not None
    (x, y), (u, v) = chosen.line
    assert chosen.left <= x <= chosen.left + 60
    assert chosen.top <= y <= chosen.top + 16
    assert (190 <= u <= 210, 90 <= v <= 110) == (True, True)


@pytest.mark.parametrize("count", [2, 6, 20])
def test_labels_stay_where_they_are_while_faces_tremble(count: int) -> None:
    rng = np.random.default_rng(count)
    boxes = crowd(rng, count, 1920, 1080, 0.1)
    labels, placer = labels_of(count, 27), LabelPlacer(1920, 1080, 4)
    corners = []
    for _ in range(60):
        places = placer.place(boxes + rng.uniform(-1.5, 1.5, boxes.shape), labels)
        corners.append([place[:2] if place is not None else (-100, -100) for place in places])
    steps = np.abs(np.diff(np.array(corners), axis=0)).max(2)
    # A label moves with its box, by a few pixels.
    assert (steps <= 8).mean() > 0.99


def test_people_who_pass_each_other_keep_their_labels_apart() -> None:
    placer, labels = LabelPlacer(1280, 720, 3), [Label("a", 150, 30), Label("b", 150, 30)]
    sides = []
    for x in range(0, 900, 6):
        boxes = np.array([[100 + x, 300, 180 + x, 400], [1000 - x, 310, 1080 - x, 410]], np.float64)
        drawn = rectangles(placer.place(boxes, labels), labels)
        assert len(drawn) == 2
        assert not shared(drawn[:1], drawn[1:]).any()
        sides.append([bool(drawn[place, 1] < boxes[place, 1]) for place in range(2)])
    # Not more than there and back for one of the two.
    assert sum(one != other for one, other in itertools.pairwise(sides)) <= 4


def drawn_labels(frame: Pixels) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of what has the colour of the backing."""
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats((frame == BACKING).all(2).astype(np.uint8))
    return [tuple(int(side) for side in row[:4]) for row in stats[1:] if row[4] > 40]  # type: ignore[misc]


@pytest.mark.parametrize(("name", "tall"), [("240p", 18), ("1080p", 57), ("4K", 115), ("upright", 38)])
def test_text_is_as_large_as_it_has_to_be(name: str, tall: int) -> None:
    width, height, _ = SIZES[name]
    few = [Box(0.2 * width, 0.4 * height, 0.1 * height, 0.1 * height, "Ada", 0)]
    many = [
        Box((0.02 + 0.16 * (n % 6)) * width, (0.1 + 0.2 * (n // 6)) * height, 0.04 * height, 0.05 * height, "A", n)
        for n in range(24)
    ]
    for boxes, wanted in ((few, tall), (many, max(18, tall // 2))):
        frame = np.full((height, width, 3), 128, np.uint8)
        Overlay(width, height).draw(frame, boxes)
        tops = [(top, tall_) for _, top, _, tall_ in drawn_labels(frame)]
        assert tops
        assert max(each for _, each in tops) == pytest.approx(wanted, abs=2)  # rounded twice


def test_labels_and_caption_do_not_meet() -> None:
    frame = np.full((360, 640, 3), 128, np.uint8)
    boxes = [Box(10, 30, 60, 60, "Ada Lovelace", 0), Box(80, 30, 60, 60, "Grace Hopper", 1)]
    Overlay(640, 360).draw(frame, boxes, "DEBUG  frame 12  00:00:00.480")
    spare = np.full((360, 640, 3), 128, np.uint8)
    Overlay(640, 360).draw(spare, [], "DEBUG  frame 12  00:00:00.480")
    left, top, width, height = drawn_labels(spare)[0]
    rows, columns = slice(top, top + height), slice(left, left + width)
    assert np.array_equal(frame[rows, columns], spare[rows, columns])
    for colour in PALETTE[:2]:
        assert (frame[top + height :] == colour).all(2).sum() > 200
