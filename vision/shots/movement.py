"""Camera movement of a shot, classified from the motion between its consecutive frames.

The motion is split into a slow part, its mean over a second, and the remaining shake. The slow part is the intended
movement: its travel is how far it goes in one direction, in frame widths that the points of the frame are displaced on
average, which makes pans, tilts, zooms and rolls comparable; the longest one gives the shot its label. Names are those
of film (Thompson and Bowen, Grammar of the Shot) from the camera's point of view: it pans right when the image moves
left. A camera that wanders to and fro is handheld, as is one that only shakes.

Reliability of the labels: pan, tilt, zoom, roll and static follow from geometry. A pan may be a camera that travels
sideways past distant things, and a zoom one that dollies towards a flat wall: the images are the same. dolly_in and
dolly_out need visible parallax, so dollies are missed rather than invented; a wide lens that distorts makes parallax
where there is none. Tracking needs a subject with corners that stays in the middle of the frame before a moving
background.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Motions = NDArray[np.float32]
"""float32 (pairs, 8), a row for each pair of consecutive frames; the columns are those of ``Motion``."""

Label = Literal[
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "dolly_in",
    "dolly_out",
    "roll",
    "handheld",
    "tracking",
    "undetermined",
]
LABELS: Final[tuple[str, ...]] = get_args(Label)
Direction = Literal["cw", "ccw"]

SLOW_S: Final = 1.0
"""Shorter motion is shake."""
TRAVEL: Final = 0.012
"""Least travel of a movement in frame widths,"""
SPEED: Final = 0.004
"""and in frame widths a second, on average over the shot."""
WANDERING: Final = 0.008
"""Frame widths a second of motion to and fro from which a camera is handheld."""
STEADY: Final = 5.0
"""Least ratio of travel to shake."""
STRAIGHT: Final = 0.3
"""Least share of the travel in all slow motion; there and back is 0.5."""
ALSO: Final = 0.4
"""Share of the longest travel from which another movement is also reported."""
SHAKE: Final = 0.0015
"""Root mean square of the shake, in frame widths, from which a camera without travel is handheld."""
SUBJECT: Final = 0.08
"""Share of still points in the middle from which a pan or tilt counts as tracking."""
DEPTH: Final = (0.065, 1.9e-4)
"""Parallax from which a zoom is a dolly: relative to the mean displacement, and in frame widths per frame, below which
strong compression causes as much."""
MEASURED: Final = 0.2
"""Share of inliers from which a pair counts as measured."""
ENOUGH: Final = 0.3
"""Least share of measured pairs for a label."""
FEWEST: Final = 3
SHORTEST_S: Final = 0.2
"""With fewer pairs or in less time a movement cannot be distinguished from a jolt."""


class Motion(IntEnum):
    """Columns of ``Motions``. All motion is that of the image content, opposite to that of the camera.

    The first four are the global motion, that of the background, around the centre of the frame.
    """

    DX = 0
    """To the right, as a fraction of the frame's width."""
    DY = 1
    """Down, as a fraction of its height."""
    SCALE = 2
    """Natural logarithm of the magnification; above 0 the content grows."""
    ROTATION = 3
    """Radians, clockwise as seen."""
    INLIERS = 4
    """Share of the tracked points that follow the global motion, 0 to 1. All columns are 0 where nothing could be
    measured: in black frames, on plain walls, after a cut."""
    RESIDUAL = 5
    """Root mean square residual of all points, each clipped to a tenth of the diagonal, as a fraction of the frame's
    diagonal."""
    STILL = 6
    """Share of the points in the middle of the frame that stay in place while the background moves, 0 to 1."""
    PARALLAX = 7
    """How much more the points of the background deviate along the global motion than across it (difference of the mean
    absolute deviations, as a fraction of the diagonal): around 0 for a camera that turns or zooms, above it for one
    that travels past things at different depths. A single pair means little; the mean over a shot does."""


@dataclass(frozen=True, slots=True)
class Movement:
    """The camera movement of a shot.

    ``label``: see ``Label``; "undetermined" where too little could be measured. ``intensity``: speed of the frame's
    points due to the camera, with shake, root mean square over the frame and mean over time, in frame widths a second.
    ``direction``: of a roll, clockwise or counter-clockwise as seen from behind the camera. ``also``: other movements
    that reach ``ALSO`` of the first one's travel, and "handheld" for a shaky camera.

    Net over the shot: ``pan`` frame widths, to the right above 0; ``tilt`` frame heights, up above 0; ``zoom`` natural
    logarithm of the magnification, in above 0; ``roll`` radians, clockwise above 0. ``shake``: root mean square
    distance of the frame from its slow path, in frame widths. ``still``: share of points in the middle that stay while
    the background moves. ``parallax``: relative to the mean displacement, 0 for a camera that only turns or zooms.
    ``measured``: share of the pairs that could be measured; ``duration``: seconds from the first frame to the last.
    """

    label: Label
    intensity: float
    direction: Direction | None
    also: tuple[Label, ...]
    pan: float
    tilt: float
    zoom: float
    roll: float
    shake: float
    still: float
    parallax: float
    measured: float
    duration: float


def classify(motions: Motions, times: NDArray[np.float64], aspect: float = 16 / 9) -> Movement:
    """Classify the movement in a shot of n frames.

    ``motions``: float32 (n - 1, 8), the pairs inside the shot, without the pair across a cut; ``times``: float64 (n,)
    of its frames in seconds; ``aspect``: width over height of the frame. Raises ValueError when the lengths differ.
    """
    if len(motions) != max(0, len(times) - 1):
        raise ValueError(f"{len(times)} frames have {max(0, len(times) - 1)} pairs, not {len(motions)}.")
    duration = float(times[-1] - times[0]) if len(times) else 0.0
    good = motions[:, Motion.INLIERS] >= MEASURED
    measured = float(good.mean()) if len(good) else 0.0
    if not good.any():
        return Movement("undetermined", 0.0, None, (), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, measured, duration)
    steps = np.diff(times)
    rates = _rates(motions, steps, good)
    common = rates * _to_widths(aspect)
    slow = _slow(common, times)
    shake = _shake(common - slow, times)
    path = np.cumsum(slow * steps[:, None], 0, dtype=np.float64)
    path = np.concatenate([np.zeros((1, 4)), path])
    # The longest rise and the longest fall of the path, whatever it does before and after.
    travels = np.stack([(path - np.minimum.accumulate(path, 0)).max(0), (np.maximum.accumulate(path, 0) - path).max(0)])
    way = np.abs(slow * steps[:, None]).sum(0)
    straight = travels.max(0) >= np.maximum(STRAIGHT * way, STEADY * shake)
    net = (rates * steps[:, None]).sum(0)
    still, (parallax, deep) = _subject(motions[good]), _depth(motions[good], aspect)
    intensity = float((np.sqrt((common**2).sum(1)) * steps).sum() / duration)
    wanders = bool((~straight & (travels.max(0) >= TRAVEL) & (way >= WANDERING * duration)).any())
    label: Label
    also: list[Label]
    if measured < ENOUGH:
        label, also = "undetermined", []
    elif good.sum() < FEWEST or duration < SHORTEST_S:
        label, also = ("undetermined" if travels.max() >= SPEED * duration else "static"), []
    else:
        named = _named(travels, straight, duration)
        label, *also = _refined(named, shaken=shake >= SHAKE, wanders=wanders, deep=deep, followed=still >= SUBJECT)
    direction: Direction | None = None
    if "roll" in (label, *also):
        direction = "cw" if travels[0, 3] >= travels[1, 3] else "ccw"
    pan, tilt, zoom, roll = net.tolist()
    return Movement(
        label, intensity, direction, tuple(also), pan, tilt, zoom, roll, shake, still, parallax, measured, duration
    )


def _to_widths(aspect: float) -> NDArray[np.float64]:
    """Return the root mean square displacement of the frame's points, in widths, by a pan, tilt, zoom and roll of 1."""
    radius = np.sqrt((1 + aspect**-2) / 12)
    return np.array([1.0, 1 / aspect, radius, radius])


def _rates(motions: Motions, steps: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return float64 (pairs, 4), the camera's pan right, tilt up, zoom in and roll clockwise a second.

    Pairs that could not be measured are interpolated from their neighbours.
    """
    rows = np.flatnonzero(good)
    columns = ((Motion.DX, -1), (Motion.DY, 1), (Motion.SCALE, 1), (Motion.ROTATION, -1))
    known = [sign * motions[rows, column].astype(np.float64) / steps[rows] for column, sign in columns]
    return np.stack([np.interp(np.arange(len(motions)), rows, each) for each in known], 1)


def _slow(rates: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the rates over the second around each pair; shorter shots have one mean."""
    path = np.concatenate([np.zeros((1, rates.shape[1])), np.cumsum(rates * np.diff(times)[:, None], 0)])
    middles = (times[:-1] + times[1:]) / 2
    # Near the ends of a shot the window is moved inside it.
    length = min(SLOW_S, float(times[-1] - times[0]))
    start = np.clip(middles - length / 2, times[0], times[-1] - length)
    gone = [np.interp(start + length, times, each) - np.interp(start, times, each) for each in path.T]
    return np.stack(gone, 1) / length


def _shake(rates: NDArray[np.float64], times: NDArray[np.float64]) -> float:
    """Return the root mean square offset of the frame, in widths, by pan, tilt and roll less their slow part."""
    # The mean over a second rounds off where a pan starts and stops: the slow part of that difference is no shake.
    quick = (rates - _slow(rates, times)) * np.diff(times)[:, None]
    away = np.cumsum(quick[:, [0, 1, 3]], 0)
    away -= away.mean(0)
    return float(np.sqrt((away**2).sum(1).mean()))


def _named(travels: NDArray[np.float64], straight: NDArray[np.bool_], duration: float) -> list[Label]:
    """Return the movements that are long, fast and straight enough, longest first."""
    names: tuple[tuple[Label, Label], ...] = (
        ("pan_right", "pan_left"),
        ("tilt_up", "tilt_down"),
        ("zoom_in", "zoom_out"),
        ("roll", "roll"),
    )
    longest, side = travels.max(0), travels.argmax(0)
    enough = straight & (longest >= max(TRAVEL, SPEED * duration))
    enough &= longest >= ALSO * float(longest[enough].max(initial=0.0))
    return [names[kind][side[kind]] for kind in np.argsort(-longest) if enough[kind]]


def _refined(named: list[Label], *, shaken: bool, wanders: bool, deep: bool, followed: bool) -> list[Label]:
    """Return all labels of a shot: the movements, refined by parallax, subject and shake."""
    if not named:
        return ["handheld" if shaken or wanders else "static"]
    first, *others = named
    dollies: dict[Label, Label] = {"zoom_in": "dolly_in", "zoom_out": "dolly_out"}
    if deep:
        first = dollies.get(first, first)
    hand: list[Label] = ["handheld"] if shaken else []
    if followed and first.startswith(("pan", "tilt")):
        return ["tracking", first, *others, *hand]
    return [first, *others, *hand]


def _subject(motions: Motions) -> float:
    """Return the share of still points over the faster half of the pairs; slow pairs cannot show it."""
    speed = np.hypot(motions[:, Motion.DX], motions[:, Motion.DY])
    return float(motions[speed >= np.median(speed), Motion.STILL].mean())


def _depth(motions: Motions, aspect: float) -> tuple[float, bool]:
    """Return the mean parallax over the mean displacement of the points, from 0, and whether it shows depth."""
    moved = float(np.sqrt(((motions[:, :4] * _to_widths(aspect)) ** 2).sum(1)).mean())
    widths = float(motions[:, Motion.PARALLAX].mean()) * float(np.hypot(1, 1 / aspect))
    if moved == 0 or widths <= 0:
        return 0.0, False
    return widths / moved, widths / moved >= DEPTH[0] and widths >= DEPTH[1]
