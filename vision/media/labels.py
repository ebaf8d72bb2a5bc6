"""Where labels of boxes go in a frame: beside their boxes, over no other label, over no face if that can be."""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rectangles = NDArray[np.float64]
"""(n, 4): left, top, right, bottom in pixels."""

COVERS: Final = 10.0
"""Cost of a label that covers all of a box, be it its own."""
LATER: Final = 0.05
"""By how much each place costs more than the one before it, in the order of preference."""
AWAY: Final = 1.0
"""Cost of a place that needs a line to its box, and of each height of a label that it is away."""
CHANGE: Final = 0.5
"""Cost of another place than that of the frame before: labels do not flicker."""
WORST: Final = 5.0
"""Cost from which on a label is left out: it would cover half of a face."""
REACH: Final = (2, 3)
"""How far a label may be from its box, in halves of its width and in its heights."""


class Label(NamedTuple):
    """A label to place: that of a box, by its ``name``, ``width`` and ``height`` in pixels."""

    name: Hashable
    width: int
    height: int


class Place(NamedTuple):
    """Left and top corner of a label, in pixels. ``line``: from where to where it is joined with its box, if it is."""

    left: int
    top: int
    line: tuple[tuple[int, int], tuple[int, int]] | None = None


class LabelPlacer:
    """Places the labels of one frame after the other; a label keeps its place beside its box while that is good."""

    def __init__(self, width: int, height: int, gap: int) -> None:
        """Take the size of the frames, and how many pixels a label keeps from its box."""
        self._size = np.array([width, height], np.float64)
        self._gap = gap
        self._last: dict[Hashable, int] = {}

    def place(
        self, boxes: Rectangles, labels: Sequence[Label], taken: Sequence[tuple[int, int, int, int]] = ()
    ) -> list[Place | None]:
        """Return a place inside the frame for the label of each box; None where there is no room that is free.

        ``taken``: rectangles that are not free. The first labels choose first.
        """
        boxes = np.clip(boxes, 0, np.tile(self._size, 2))
        edges: list[list[float]] = boxes.tolist()
        free_of: list[Sequence[float]] = list(taken)
        places: list[Place | None] = []
        last, self._last = self._last, {}
        for number, label in enumerate(labels):
            chosen, before = None, last.get(label.name)
            left, top, right, bottom = edges[number]
            if left < right and top < bottom and label.width <= self._size[0] and label.height <= self._size[1]:
                chosen = self._good_as_ever(edges, number, label, free_of, before)
                chosen = chosen or self._choose(boxes, number, label, free_of, before)
            places.append(None)
            if chosen is not None:
                way, rectangle = chosen
                self._last[label.name] = way
                free_of.append(rectangle)
                line = _line(np.array(rectangle), boxes[number]) if way >= BESIDE else None
                places[-1] = Place(round(rectangle[0]), round(rectangle[1]), line)
        return places

    def _good_as_ever(
        self,
        edges: list[list[float]],
        number: int,
        label: Label,
        free_of: list[Sequence[float]],
        last: int | None,
    ) -> tuple[int, Sequence[float]] | None:
        """Return what ``_choose`` would, where that is as in the last frame and touches nothing: most often it is."""
        way = last or 0
        if way >= BESIDE:
            return None
        left, top = (round(side) for side in self._beside(edges[number], label)[way])
        right, bottom = left + label.width, top + label.height
        if left < 0 or top < 0 or right > self._size[0] or bottom > self._size[1]:
            return None
        margin = label.height / 4 if last is None else 0.0
        if any(right > a and left < c and bottom > b and top < d for a, b, c, d in edges) or any(
            right + margin > a and left - margin < c and bottom + margin > b and top - margin < d
            for a, b, c, d in free_of
        ):
            return None
        return way, (left, top, right, bottom)

    def _choose(
        self, boxes: Rectangles, number: int, label: Label, free_of: list[Sequence[float]], last: int | None
    ) -> tuple[int, Sequence[float]] | None:
        """Return the number of the best way and the rectangle of the label there."""
        taken = np.array(free_of, np.float64).reshape(-1, 4)
        box = boxes[number]
        best: tuple[float, int, Sequence[float]] | None = None
        for first, ways_of in ((0, self._beside), (BESIDE, self._around)):
            size = np.array([label.width, label.height])
            corners = np.clip(np.rint(np.array(ways_of(box.tolist(), label))), 0, self._size - size)
            rectangles = np.concatenate([corners, corners + size], 1)
            ways = np.arange(first, first + len(rectangles))
            # One that was free in the last frame only has to be free; a new one needs some room around it.
            margin = np.where(ways == last, 0.0, label.height / 4)[:, None] * (-1, -1, 1, 1)
            free = ~(_overlaps(rectangles + margin, taken) > 0).any(1)
            cost = COVERS * _covered(rectangles, boxes)
            cost += CHANGE * (ways != last)
            cost += LATER * ways if first == 0 else AWAY * (1 + _distance(rectangles, box) / label.height)
            cost[~free] = np.inf
            place = int(np.argmin(cost))
            if cost[place] < (WORST if best is None else best[0]):
                best = float(cost[place]), first + place, rectangles[place].tolist()
            if best is not None and (last is None or last < BESIDE) and best[0] < AWAY:
                break
        return None if best is None else best[1:]

    def _beside(self, box: Sequence[float], label: Label) -> Sequence[tuple[float, float]]:
        """Return the corners of the ``BESIDE`` ways that need no line, the best first."""
        left, top, right, bottom = box
        width, height, gap = label.width, label.height, self._gap
        above, below = top - height - gap, bottom + gap
        before, behind = left - width - gap, right + gap
        return (
            *((left, above), (right - width, above), (left, below), (right - width, below)),
            *((behind, top), (before, top), (behind, bottom - height), (before, bottom - height)),
            *((left + gap, top + gap), (left + gap, bottom - height - gap)),
        )

    @staticmethod
    def _around(box: Sequence[float], label: Label) -> Rectangles:
        """Return the corners of the ways further away: (m, 2), always in the same order."""
        left, top, right, bottom = box
        across, down = REACH
        middle = (left + right - label.width) / 2, (top + bottom - label.height) / 2
        steps = np.mgrid[-across : across + 1, -down : down + 1].reshape(2, -1).T
        # From the edges of the box on, so that what is around a large face is not inside of it.
        outwards = np.sign(steps) * (np.array([right - left, bottom - top]) / 2)
        return middle + steps * (label.width / 2, label.height) + outwards


BESIDE: Final = 10
"""How many ways need no line."""


def _overlaps(rectangles: Rectangles, others: Rectangles) -> NDArray[np.float64]:
    """Return the pixels that each rectangle shares with each other one: (n, m)."""
    low = np.maximum(rectangles[:, None, :2], others[None, :, :2])
    high = np.minimum(rectangles[:, None, 2:], others[None, :, 2:])
    return np.asarray((high - low).clip(0).prod(2), np.float64)


def _covered(rectangles: Rectangles, boxes: Rectangles) -> NDArray[np.float64]:
    """Return which share of boxes each rectangle covers, summed over them: (n,)."""
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(1).prod(1)
    return np.asarray((_overlaps(rectangles, boxes) / areas).sum(1), np.float64)


def _distance(rectangles: Rectangles, box: Rectangles) -> NDArray[np.float64]:
    """Return how far each rectangle is from a box, in pixels: (n,)."""
    apart = np.maximum(box[:2] - rectangles[:, 2:], rectangles[:, :2] - box[2:]).clip(0)
    return np.asarray(np.hypot(apart[:, 0], apart[:, 1]), np.float64)


def _line(rectangle: Rectangles, box: Rectangles) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the line from a label to the nearest point of its box; None where they touch."""
    middle = (rectangle[:2] + rectangle[2:]) / 2
    end = np.clip(middle, box[:2], box[2:])
    start = np.clip(end, rectangle[:2], rectangle[2:])
    if (start == end).all():
        return None
    return (round(float(start[0])), round(float(start[1]))), (round(float(end[0])), round(float(end[1])))
