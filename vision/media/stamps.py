"""Repairs single wrong time stamps of packets, so that one of them does not cost the index of a video.

Decoders give frames in the order in which they are shown, whatever their stamps say. So it is enough to know when
frames are shown, and which stamps not to trust.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

MISSING: Final = -(2**63)
"""Stands for a stamp that a packet lacks."""
DEEPEST: Final = 16
"""Frames by which the order of decoding may differ from that of presentation, by H.264 and HEVC."""
JUMP_S: Final = 1.0
"""Steps back that are longer than this are no change of places."""
_FEW: Final = 0.1
"""Share of stamps up to which the others tell where a wrong one belongs."""
_NEIGHBOURS: Final = 8
_GAP: Final = 1.5
"""Steps between two frames from which on one is missing between them."""

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """PTS of packets in decoding order, int64 (n,), each one different.

    ``mended``: bool (n,), which of them are made up; ``suspects``: values of the file that tell no frame from another,
    ``MISSING`` among them, int64, ascending.
    """

    pts: Ticks
    mended: NDArray[np.bool_]
    suspects: Ticks


def mended(pts: Ticks, dts: Ticks, time_base: Fraction) -> Stamps | None:
    """Return stamps of packets in decoding order with wrong ones replaced; ``MISSING`` where there is none.

    Wrong are those that are missing, repeated, or far from their neighbours. None where there are too many of them, or
    the clock starts again in the middle.
    """
    jump = max(int(JUMP_S / time_base), 1)
    wrong = pts == MISSING
    known = np.flatnonzero(~wrong)
    if not len(known):
        return None
    step = _step(pts[known])
    far = max(jump, (DEEPEST + 1) * step)
    if (np.maximum.accumulate(pts[known]) - pts[known] > far).any():
        wrong[known[_strays(pts[known], far)]] = True
        known = np.flatnonzero(~wrong)
        if not len(known) or _starts_again(pts[known], dts[known], jump, far):
            return None
    values, counts = np.unique(pts[known], return_counts=True)
    repeated = values[counts > 1]
    if len(repeated):
        if counts.sum() - len(values) > _FEW * len(pts) + 1:
            return None
        wrong[_surplus(pts, known, values, repeated, step)] = True
    if not wrong.any():
        return Stamps(pts, wrong, np.zeros(0, np.int64))
    if wrong.sum() > _FEW * len(pts) + 1:
        return None
    filled = _filled(pts, wrong, step)
    return None if filled is None else Stamps(filled, wrong, np.union1d(pts[wrong], repeated))


def _step(pts: Ticks) -> int:
    steps = np.diff(np.sort(pts))
    steps = steps[steps > 0]
    return max(int(np.percentile(steps, 50, method="lower")), 1) if len(steps) else 1


def _displaced(pts: Ticks) -> Ticks:
    """Return by how many places each packet is shown earlier or later than it is decoded."""
    rank = np.empty(len(pts), np.int64)
    rank[np.argsort(pts, kind="stable")] = np.arange(len(pts))
    moved: Ticks = np.abs(rank - np.arange(len(pts)))
    return moved


def _usual(displaced: Ticks) -> int:
    return int(np.percentile(displaced, 97, method="lower"))


def _strays(pts: Ticks, far: int) -> Ticks:
    """Return the places of stamps that lie far from those around them, and out of order."""
    displaced = _displaced(pts)
    # Each stray moves the others by a place.
    largest = np.sort(displaced)[::-1]
    few = np.flatnonzero(largest <= _usual(displaced) + np.arange(len(largest)))
    strays = np.flatnonzero(displaced > _usual(displaced) + int(few[0])) if len(few) else np.zeros(0, np.int64)
    if len(strays) > _FEW * len(pts) + 1:
        return np.zeros(0, np.int64)
    distances = [abs(int(pts[i]) - _middle(pts, i)) for i in strays.tolist()]
    return strays[np.array(distances, np.int64) > far]


def _middle(pts: Ticks, place: int) -> int:
    """Return the median of the stamps around one."""
    return int(np.median(np.append(pts[max(place - _NEIGHBOURS, 0) : place], pts[place + 1 : place + 1 + _NEIGHBOURS])))


def _starts_again(pts: Ticks, dts: Ticks, jump: int, far: int) -> bool:
    """Return whether the clock goes back for good, as where two recordings follow each other."""
    if (_displaced(pts) > DEEPEST).any():
        return True
    behind = np.maximum.accumulate(pts) - pts > far
    back = (np.diff(dts) < -jump) & (dts[1:] != MISSING) & (dts[:-1] != MISSING)
    return bool((behind[1:] & back).any())


def _surplus(pts: Ticks, known: Ticks, values: Ticks, repeated: Ticks, step: int) -> list[int]:
    """Return the packets whose stamp is that of another: those that leave a gap where they should be."""
    surplus: list[int] = []
    displaced = np.zeros(len(pts), np.int64)
    displaced[known] = _displaced(pts[known])
    in_order = not np.median(displaced[known])
    by_stamp = known[np.argsort(pts[known], kind="stable")]
    begins = np.searchsorted(pts[by_stamp], repeated)
    ends = np.searchsorted(pts[by_stamp], repeated, side="right")
    places = np.searchsorted(values, repeated)
    for value, place, begin, end in np.stack([repeated, places, begins, ends], 1).tolist():
        before = value - int(values[place - 1]) if place else 0
        behind = int(values[place + 1]) - value if place + 1 < len(values) else 0
        same = by_stamp[begin:end].tolist()
        if in_order and max(before, behind) < _GAP * step:  # the gap is elsewhere
            same.remove(min(same, key=displaced.__getitem__))
            surplus += same
        else:
            surplus += same[:-1] if before > behind or (not place and behind < _GAP * step) else same[1:]
    return surplus


def _filled(pts: Ticks, wrong: NDArray[np.bool_], step: int) -> Ticks | None:
    """Return the stamps with wrong ones spread over the gaps that they leave; None where a gap has no room."""
    right = np.sort(pts[~wrong])
    depth = _usual(_displaced(pts[~wrong]))
    filled = pts.copy()
    places = np.cumsum(~wrong)
    gaps: dict[int, list[int]] = {}
    for packet in np.flatnonzero(wrong).tolist():
        gaps.setdefault(_gap(right, int(places[packet]), depth, step), []).append(packet)
    for gap, packets in gaps.items():
        low = int(right[gap - 1]) if gap else int(right[0]) - step * (len(packets) + 1)
        high = int(right[gap]) if gap < len(right) else low + step * (len(packets) + 1)
        if high - low <= len(packets):
            return None
        for number, packet in enumerate(packets, 1):
            filled[packet] = low + (high - low) * number // (len(packets) + 1)
    return filled


def _gap(right: Ticks, place: int, depth: int, step: int) -> int:
    """Return before which of the right stamps one belongs whose packet has so many of them before it."""
    first, last = max(place - depth, 1), min(place + depth, len(right) - 1)
    if depth and first <= last:
        widths = np.diff(right[first - 1 : last + 1])
        if widths.max() >= _GAP * step:
            return first + int(widths.argmax())
    return place
