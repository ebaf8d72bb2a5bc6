"""Which frames a video has, and where decoding can start, from its packets alone."""

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
_NEVER: Final = -(2**63)
_JUMP_S: Final = 1.0

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PacketIndex:
    """The shown frames of a video stream in order of presentation; times in ticks of ``time_base``.

    ``pts``: int64 (n,) ascending; ``keys``: PTS of the packets that decoding can start at, int64, ascending; ``end``:
    when the last frame ends; ``discarded``: packets that an edit list leaves out; ``open_gop``: some frames are
    decoded after a key frame and shown before it.

    ``counted``: PTS are missing, repeated or guessed, so a frame is known only by counting from the first; then
    ``pts`` are made up from decoding times, and there are no ``keys``.
    """

    pts: Ticks
    keys: Ticks
    end: int
    time_base: Fraction
    discarded: int
    open_gop: bool
    counted: bool

    @property
    def origin(self) -> float:
        """Time of the first frame in seconds as the container tells it."""
        return float(self.pts[0] * self.time_base)

    @property
    def end_time(self) -> float:
        """When the last frame ends, in seconds from the first one."""
        return float((self.end - self.pts[0]) * self.time_base)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds of each frame from the first one."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base), np.float64)

    def number_of(self, pts: int | None) -> int | None:
        """The frame that has this PTS."""
        place = -1 if pts is None else int(np.searchsorted(self.pts, pts))
        return place if 0 <= place < len(self.pts) and self.pts[place] == pts else None

    def key_before(self, frame: int) -> int:
        """Place in ``keys`` of the last one that is not shown after this frame; -1 when there is none."""
        return int(np.searchsorted(self.keys, self.pts[frame], side="right")) - 1

    def starting_at(self, pts: int) -> "PacketIndex":
        """Without the frames before this one, which nothing is there to decode by."""
        first = int(np.searchsorted(self.pts, pts))
        return replace(self, pts=self.pts[first:])

    def by_counting(self) -> "PacketIndex":
        """The same frames, known by counting only."""
        return replace(self, keys=np.zeros(0, np.int64), counted=True)


def read_index(packets: Iterable[Any], time_base: Fraction, container: str) -> PacketIndex:
    """Index of PyAV packets in decoding order; ``container`` is FFmpeg's first name of theirs.

    Raises InvalidMedia when there are none, or too many.
    """
    edited = container == "mov"
    pts, dts, keys, discarded = array("q"), array("q"), array("b"), array("b")
    duration = 0
    for packet in packets:
        if not packet.size:
            continue  # the mark of the end
        pts.append(_NEVER if packet.pts is None else packet.pts)
        dts.append(_NEVER if packet.dts is None else packet.dts)
        keys.append(packet.is_keyframe)
        # What an edit list puts before time 0 is not shown; in a fragmented file FFmpeg does not discard it.
        discarded.append(packet.is_discard or (edited and packet.pts is not None and packet.pts < 0))
        duration = packet.duration or duration
        if len(pts) > MAX_PACKETS:
            raise InvalidMedia(f"This video has more than {MAX_PACKETS} frames; cut it into parts.")
    return _index(
        np.array(pts, np.int64),
        np.array(dts, np.int64),
        np.array(keys, bool),
        np.array(discarded, bool),
        duration,
        time_base,
        guessed=container == "avi",
    )


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
    told = dts[dts != _NEVER]
    jumps = (np.diff(told) < -_JUMP_S / time_base).any()
    # AVI does not tell when a frame is shown; where frames change places, FFmpeg guesses.
    doubtful = guessed and (np.diff(shown) < 0).any()
    if doubtful or jumps or (shown == _NEVER).any() or len(np.unique(shown)) < len(shown):
        stamps = np.where(dts == _NEVER, pts, dts)[~discard]
        return _counted(stamps, int(discard.sum()), duration, time_base)
    ordered = np.sort(shown)
    # AVI says one tick for any frame.
    step = max(duration, int(np.median(np.diff(ordered))) if len(ordered) > 1 else 0)
    latest_key = np.maximum.accumulate(np.where(key, pts, _NEVER))
    return PacketIndex(
        pts=ordered,
        keys=np.unique(pts[key & (pts != _NEVER)]),
        end=int(ordered[-1]) + step,
        time_base=time_base,
        discarded=int(discard.sum()),
        open_gop=bool((pts < latest_key)[~discard].any()),
        counted=False,
    )


def _counted(stamps: Ticks, discarded: int, duration: int, time_base: Fraction) -> PacketIndex:
    steps = np.diff(stamps)
    wrong = (steps <= 0) | (steps > 10 * _JUMP_S / time_base)
    usual = duration or (int(np.median(steps[~wrong])) if (~wrong).any() else 1)
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
