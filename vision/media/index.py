"""Which frames a video has, and where decoding can start, from its packets alone."""

import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidMedia

MAX_PACKETS: Final = 5_000_000
"""A day at 60 frames a second."""
_MISSING: Final = -(2**63)
_JUMP_S: Final = 1.0

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IndexBudget:
    """How much of a file is read for its index: ``packets`` at most, for ``seconds`` at most."""

    packets: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class PacketIndex:
    """The shown frames of a video stream in order of presentation; times in ticks of ``time_base``.

    ``pts``: int64 (n,) ascending; ``keys``: PTS of the packets that decoding can start at, int64, ascending; ``end``:
    when the last frame ends; ``discarded``: packets that an edit list leaves out; ``open_gop``: some frames are
    decoded after a key frame and shown before it; ``complete``: no budget ended before the packets did.

    ``counted``: PTS are missing, repeated or guessed, so frames can only be counted from the first; then ``pts`` are
    made up from decoding times, and there are no ``keys``.
    """

    pts: Ticks
    keys: Ticks
    end: int
    time_base: Fraction
    discarded: int
    open_gop: bool
    counted: bool
    complete: bool = True

    @property
    def origin(self) -> float:
        """Time of the first frame in seconds of the container's clock."""
        return float(self.pts[0] * self.time_base)

    @property
    def end_time(self) -> float:
        """When the last frame ends, in seconds from the start of the first one."""
        return float(self._ticks * self.time_base)

    @property
    def fps(self) -> float:
        """Frames a second on average; 0 where all frames together last no time."""
        return float(len(self.pts) / (self._ticks * self.time_base)) if self._ticks > 0 else 0.0

    @property
    def times(self) -> NDArray[np.float64]:
        """Start of each frame in seconds from that of the first one, float64 (n,)."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base), np.float64)

    def number_of(self, pts: int | None) -> int | None:
        """Return the frame that has this PTS."""
        place = -1 if pts is None else int(np.searchsorted(self.pts, pts))
        return place if 0 <= place < len(self.pts) and self.pts[place] == pts else None

    def key_before(self, frame: int) -> int:
        """Return the place in ``keys`` of the last one that is not shown after this frame; -1 without one."""
        return int(np.searchsorted(self.keys, self.pts[frame], side="right")) - 1

    def starting_at(self, pts: int) -> "PacketIndex":
        """Return the index without the frames before this PTS, which cannot be decoded."""
        first = int(np.searchsorted(self.pts, pts))
        return replace(self, pts=self.pts[first:])

    def by_counting(self) -> "PacketIndex":
        """Return the same frames, to be found by counting only."""
        return replace(self, keys=np.zeros(0, np.int64), counted=True)

    @property
    def _ticks(self) -> int:
        return int(self.end - self.pts[0])


def read_index(
    packets: Iterable[Any], time_base: Fraction, container: str, budget: IndexBudget | None = None
) -> PacketIndex:
    """Return the index of PyAV packets in decoding order; ``container`` is FFmpeg's first name of theirs.

    Where a ``budget`` is spent the index ends, and is not ``complete``. Raises InvalidMedia when there are no packets,
    or more than ``MAX_PACKETS``.
    """
    edited = container == "mov"
    pts, dts, keys, discarded = array("q"), array("q"), array("b"), array("b")
    duration, complete = 0, True
    until = time.monotonic() + budget.seconds if budget else 0.0
    for packet in packets:
        if not packet.size:
            continue  # the mark of the end
        pts.append(_MISSING if packet.pts is None else packet.pts)
        dts.append(_MISSING if packet.dts is None else packet.dts)
        keys.append(packet.is_keyframe)
        # What an edit list puts before time 0 is not shown; in a fragmented file FFmpeg does not discard it.
        discarded.append(packet.is_discard or (edited and packet.pts is not None and packet.pts < 0))
        duration = packet.duration or duration
        if len(pts) > MAX_PACKETS:
            raise InvalidMedia(f"This video has more than {MAX_PACKETS} frames; cut it into parts.")
        if budget and (len(pts) >= budget.packets or time.monotonic() > until):
            complete = False
            break
    index = _index(
        np.array(pts, np.int64),
        np.array(dts, np.int64),
        np.array(keys, bool),
        np.array(discarded, bool),
        duration,
        time_base,
        guessed=container == "avi",
    )
    return index if complete else replace(index, complete=False)


def _index(
    pts: Ticks,
    dts: Ticks,
    key: NDArray[np.bool_],
    discard: NDArray[np.bool_],
    duration: int,
    time_base: Fraction,
    *,
    guessed: bool,
) -> PacketIndex:
    # Nothing before the first key packet can be decoded.
    first = int(key.argmax()) if key.any() else 0
    pts, dts, key, discard = pts[first:], dts[first:], key[first:], discard[first:]
    shown = pts[~discard]
    if not len(shown):
        raise InvalidMedia("This file holds no frames.")
    known = dts[dts != _MISSING]
    jumps = (np.diff(known) < -_JUMP_S / time_base).any()
    # AVI does not store when a frame is shown; where frames change places, FFmpeg guesses.
    doubtful = guessed and (np.diff(shown) < 0).any()
    if doubtful or jumps or (shown == _MISSING).any() or len(np.unique(shown)) < len(shown):
        stamps = np.where(dts == _MISSING, pts, dts)[~discard]
        return _counted(stamps, int(discard.sum()), duration, time_base)
    ordered = np.sort(shown)
    # AVI gives any frame a duration of one tick.
    step = max(duration, int(np.median(np.diff(ordered))) if len(ordered) > 1 else 0)
    latest_key = np.maximum.accumulate(np.where(key, pts, _MISSING))
    return PacketIndex(
        pts=ordered,
        keys=np.unique(pts[key & (pts != _MISSING)]),
        end=int(ordered[-1]) + step,
        time_base=time_base,
        discarded=int(discard.sum()),
        open_gop=bool((pts < latest_key)[~discard].any()),
        counted=False,
    )


def _counted(stamps: Ticks, discarded: int, duration: int, time_base: Fraction) -> PacketIndex:
    steps = np.diff(stamps)
    wrong = (steps <= 0) | (steps > 10 * _JUMP_S / time_base)
    # As above, AVI gives any frame a duration of one tick.
    usual = max(duration, int(np.median(steps[~wrong])) if (~wrong).any() else 0, 1)
    pts = np.concatenate([stamps[:1], stamps[0] + np.cumsum(np.where(wrong, usual, steps))]).astype(np.int64)
    return PacketIndex(
        pts=pts,
        keys=np.zeros(0, np.int64),
        end=int(pts[-1]) + usual,
        time_base=time_base,
        discarded=discarded,
        open_gop=False,
        counted=True,
    )
