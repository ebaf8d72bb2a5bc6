"""Plan films of moving objects, with exact ground truth: where each is in every frame, and how much of it is seen.

Films of a kind differ by their seed: some have people who cross, some a wall that hides, some a camera that pans. All
objects of a film have one class, as what is told apart by its class alone is no test of a tracker.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.bench.scenes import Cutout, Material, background, paste
from vision.images import Pixels
from vision.objects.tracking import CameraPath

Array = NDArray[np.float64]

SIZE: Final = (1280, 720)
VISIBLE: Final = 0.3
"""Share of an object that must be in the picture and uncovered for it to count as visible."""
LARGER: Final = 1.3
"""How much higher objects are where they are rendered."""
GRID: Final = 12
"""Points of a box, across and down, by which its share is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class PlannedFilm:
    """A film of one or more shots.

    ``boxes`` float64[objects, frames, 4] as x, y, width, height in pixels of ``SIZE``, NaN where an object is not;
    those that come later are in front. ``walls`` float64[walls, frames, 4] hide whatever is there. ``cuts``: the first
    frames of all shots but the first. ``camera``: where the scene is, None where it stays.
    """

    fps: float
    labels: tuple[str, ...]
    boxes: Array
    walls: Array
    cuts: tuple[int, ...] = ()
    camera: CameraPath | None = None

    @property
    def times(self) -> Array:
        """Return the times of all frames in seconds."""
        return np.arange(self.boxes.shape[1]) / self.fps

    def shown(self) -> Array:
        """Return the boxes, cut at the edges of the picture."""
        ends = np.clip(self.boxes[..., :2] + self.boxes[..., 2:], 0, SIZE)
        starts = np.clip(self.boxes[..., :2], 0, SIZE)
        return np.concatenate([starts, ends - starts], axis=-1)

    def visibility(self) -> Array:
        """Return which share of each object is seen, float64[objects, frames] 0-1."""
        steps = (np.arange(GRID) + 0.5) / GRID
        points = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        objects = self.boxes.shape[0]
        seen = np.zeros(self.boxes.shape[:2])
        for number in range(objects):
            box = self.boxes[number]
            places = box[:, None, :2] + points * box[:, None, 2:]
            free = ((places >= 0) & (places < SIZE)).all(-1)
            for other in (*self.boxes[number + 1 :], *self.walls):
                with np.errstate(invalid="ignore"):
                    inside = ((places >= other[:, None, :2]) & (places < other[:, None, :2] + other[:, None, 2:])).all(
                        -1
                    )
                free &= ~inside
            seen[number] = np.where(np.isnan(box[:, 0]), 0, free.mean(1))
        return seen


def cast(
    film: PlannedFilm, parts: Material, random: np.random.Generator, *, mixed: bool = False
) -> tuple[PlannedFilm, list[Cutout]]:
    """Return a film whose objects can be composed, as wide as their cut-outs, and these.

    All are of one class, or where they are ``mixed`` each is of any.
    """
    chosen = [str(label) for label in random.choice(parts.classes, len(film.labels) if mixed else 1)]
    labels = chosen * (len(film.labels) // len(chosen))
    cutouts = []
    for label in labels:
        them = [each for each in parts.cutouts if each.label == label]
        cutouts.append(them[int(random.integers(len(them)))])
    boxes = film.boxes.copy()
    for box, cutout in zip(boxes, cutouts, strict=True):
        height, width = cutout.alpha.shape
        # Somewhat larger than planned: a small detector finds nothing small.
        grown = LARGER * np.stack([box[:, 3] * width / height, box[:, 3]], -1)
        box[:, :2] += (box[:, 2:] - grown) / 2
        box[:, 2:] = grown
    return replace(film, labels=tuple(labels), boxes=boxes), cutouts


def rendered(
    film: PlannedFilm, cutouts: Sequence[Cutout], parts: Material, frames: Iterable[int], seed: int
) -> Iterator[Pixels]:
    """Yield some frames of a film, uint8 (720, 1280, 3); each shot has a background of its own."""
    import cv2

    random = np.random.default_rng((seed, 5))
    grounds = [background(random, parts, SIZE) for _ in range(len(film.cuts) + 1)]
    brick = background(random, parts, SIZE)
    for frame in frames:
        canvas = grounds[int(np.searchsorted(film.cuts, frame, "right"))]
        scale, shift = (
            (1.0, np.zeros(2)) if film.camera is None else (film.camera.scales[frame], film.camera.shifts[frame])
        )
        move = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        canvas = cv2.warpAffine(canvas, move, SIZE, borderMode=cv2.BORDER_REFLECT)
        for box, cutout in zip(film.boxes[:, frame], cutouts, strict=True):
            if not np.isnan(box[0]):
                paste(canvas, cutout, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
        for wall in film.walls[:, frame]:
            left, right = round(max(0.0, wall[0])), round(min(wall[0] + wall[2], SIZE[0]))
            canvas[:, left:right] = brick[:, left:right] // 2
        yield canvas


def _moved(centres: Array, sizes: Array) -> Array:
    """Return boxes [frames, 4] from their centres and sizes, [frames, 2] or [2]."""
    sizes = np.broadcast_to(sizes, centres.shape)
    return np.concatenate([centres - sizes / 2, sizes], axis=-1)


def _person(random: np.random.Generator, height: float | None = None) -> Array:
    tall = random.uniform(160, 320) if height is None else height
    return np.array([tall * random.uniform(0.38, 0.5), tall])


def _film(
    fps: float, boxes: list[Array], walls: list[Array] | None = None, cuts: tuple[int, ...] = (), label: str = "person"
) -> PlannedFilm:
    frames = boxes[0].shape[0]
    return PlannedFilm(fps, (label,) * len(boxes), np.stack(boxes), np.array(walls or []).reshape(-1, frames, 4), cuts)


def _walk(times: Array, start: Array, velocity: Array) -> Array:
    return start + times[:, None] * velocity


def crossing(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Two to four walk through each other, each hidden by those in front while they meet."""
    seconds = 6.0
    times = np.arange(round(seconds * fps)) / fps
    boxes = []
    for number in range(int(random.integers(2, 5))):
        size, speed = _person(random), random.uniform(60, 260) * (-1) ** number
        meeting = np.array([random.uniform(500, 780), random.uniform(320, 420)])
        boxes.append(_moved(_walk(times - random.uniform(2, 4), meeting, np.array([speed, 0])), size))
    return _film(fps, boxes)


def hidden(random: np.random.Generator, fps: float, gap: tuple[float, float] = (0.3, 0.9)) -> PlannedFilm:
    """Two walk behind a wall, one after the other, and are not seen at all for a moment."""
    seconds = 7.0
    times = np.arange(round(seconds * fps)) / fps
    boxes = []
    longest = 0.0
    for _ in range(2):
        size, speed = _person(random), random.uniform(90, 220) * random.choice([-1, 1])
        boxes.append(_moved(_walk(times - random.uniform(2.5, 4.5), np.array([640, 360]), np.array([speed, 0])), size))
        longest = max(longest, size[0] + random.uniform(*gap) * abs(speed))
    wall = np.tile([640 - longest / 2, 0, longest, 720], (len(times), 1))
    return _film(fps, boxes, [wall])


def hidden_long(random: np.random.Generator, fps: float) -> PlannedFilm:
    """As ``hidden``, for one to two and a half seconds."""
    return hidden(random, fps, (1.0, 2.5))


def returning(random: np.random.Generator, fps: float) -> PlannedFilm:
    """One leaves through an edge and comes back there after half a second to three; another stays."""
    seconds = 8.0
    times = np.arange(round(seconds * fps)) / fps
    size, speed = _person(random), random.uniform(120, 260)
    away = random.uniform(0.5, 3)
    turn = 2 + (size[0] + 200) / speed
    out = np.where(times < turn, times, np.maximum(turn, times - away))
    distance = np.where(out < turn, out - turn, turn - out) * speed
    boxes = [_moved(np.stack([1280 + size[0] / 2 + distance, np.full_like(times, 380)], -1), size)]
    stays = _person(random)
    boxes.append(_moved(_walk(times, np.array([random.uniform(200, 600), 380]), np.array([0, 0])), stays))
    return _film(fps, boxes)


def pan(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Three to five stand or walk slowly while the camera pans to and fro, and shakes."""
    seconds = 6.0
    times = np.arange(round(seconds * fps)) / fps
    swing, period = random.uniform(150, 500), random.uniform(3, 6)
    camera = np.stack([swing * np.sin(2 * np.pi * times / period), 12 * np.sin(times * 9)], -1)
    boxes = []
    for place in np.linspace(150, 1130, int(random.integers(3, 6))):
        start = np.array([place, random.uniform(330, 430)])
        boxes.append(_moved(_walk(times, start, np.array([random.uniform(-30, 30), 0])) - camera, _person(random)))
    return replace(_film(fps, boxes), camera=CameraPath(np.ones(len(times)), -camera, SIZE))


def zoom(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Two come nearer, or the camera does: they grow to three times their size within four seconds."""
    seconds = 5.0
    times = np.arange(round(seconds * fps)) / fps
    growth = 3 ** np.clip(times / random.uniform(3, 4.5), 0, 1)
    if random.random() < 0.5:
        growth = growth[::-1]
    boxes = []
    for side in (-1, 1):
        centre = np.array([640, 360]) + growth[:, None] * np.array(
            [side * random.uniform(60, 130), random.uniform(-10, 10)]
        )
        boxes.append(_moved(centre, _person(random, 150) * growth[:, None]))
    middle = np.array([640, 360])
    return replace(_film(fps, boxes), camera=CameraPath(growth, (1 - growth)[:, None] * middle, SIZE))


def cuts(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Shots of one to two seconds; at each cut others stand where somebody stood."""
    boxes: list[Array] = []
    firsts = []
    lengths = [round(random.uniform(1, 2) * fps) for _ in range(5)]
    total = sum(lengths)
    start = 0
    for length in lengths:
        firsts.append(start)
        times = np.arange(length) / fps
        for place in (400, 850):
            whole = np.full((total, 4), np.nan)
            centre = np.array([place + random.uniform(-60, 60), 380])
            velocity = np.array([random.uniform(-60, 60), 0])
            whole[start : start + length] = _moved(_walk(times, centre, velocity), _person(random))
            boxes.append(whole)
        start += length
    return _film(fps, boxes, cuts=tuple(firsts[1:]))


def crowd(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Eight to twelve walk every way on a square, and often hide each other."""
    seconds = 8.0
    times = np.arange(round(seconds * fps)) / fps
    boxes = []
    for depth in np.sort(random.uniform(0, 1, int(random.integers(8, 13)))):
        size = _person(random, 150 + 150 * depth)
        start = np.array([random.uniform(100, 1180), 280 + 200 * depth])
        sway = random.uniform(30, 120) * np.sin(times * random.uniform(0.3, 1.0) + random.uniform(0, 6))
        path = _walk(times, start, np.array([random.uniform(-90, 90), 0])) + sway[:, None] * (1, 0)
        boxes.append(_moved(path, size))
    return _film(fps, boxes)


def herd(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Five cows go side by side, a little more than their width apart, and stop and go together."""
    seconds = 6.0
    times = np.arange(round(seconds * fps)) / fps
    gait = np.cumsum(np.clip(np.sin(times * random.uniform(0.8, 2)) + 0.5, 0, 1.5)) / fps * random.uniform(80, 200)
    size = np.array([random.uniform(140, 200), 120])
    boxes = []
    for number in range(5):
        start = np.array([-300 + number * size[0] * random.uniform(1.05, 1.2), random.uniform(350, 400)])
        boxes.append(_moved(start + gait[:, None] * (1, 0), size * random.uniform(0.95, 1.05)))
    return _film(fps, boxes, label="cow")


def fast(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Cars and balls that move one to three of their widths within a sampling step, one after the other."""
    seconds = 5.0
    times = np.arange(round(seconds * fps)) / fps
    boxes = []
    size = np.array([random.uniform(90, 160), 80])
    speed = random.uniform(1, 3) * size[0] * 3
    for number in range(4):
        lane = 150 + 140 * number
        way = (-1) ** number
        entry = random.uniform(0, 2.5)
        start = np.array([-size[0] if way > 0 else 1280 + size[0], lane])
        boxes.append(_moved(_walk(times - entry, start, np.array([way * speed, 0])), size))
    return _film(fps, boxes, label="car")


def bouncing(random: np.random.Generator, fps: float) -> PlannedFilm:
    """Two balls bounce off the edges and turn at once."""
    seconds = 6.0
    times = np.arange(round(seconds * fps)) / fps
    boxes = []
    for _ in range(2):
        side = random.uniform(90, 150)
        span = np.array([1280 - side, 720 - side])
        way = random.uniform(0, 1, 2) * span + times[:, None] * random.uniform(120, 380, 2)
        folded = np.abs((way + span) % (2 * span) - span)
        boxes.append(_moved(folded + side / 2, np.array([side, side])))
    return _film(fps, boxes, label="sports ball")


KINDS: Final[Mapping[str, Callable[[np.random.Generator, float], PlannedFilm]]] = {
    "crossing": crossing,
    "hidden up to 0.9 s": hidden,
    "hidden 1 to 2.5 s": hidden_long,
    "leaving and coming back": returning,
    "camera pans": pan,
    "zoom": zoom,
    "cuts": cuts,
    "crowd": crowd,
    "herd": herd,
    "fast": fast,
    "bouncing": bouncing,
}
