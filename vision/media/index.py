"""Which frames a video has, and where decoding can start, from its packets alone."""

import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidMedia
from vision.media.stamps import JUMP_S, MISSING, Stamps, Ticks, mended

MAX_PACKETS: Final = 5_000_000
"""A day at 60 frames a second."""
SOUND_ON_S: Final = 0.5
"""Sound that goes on longer than the last frame keeps it on the screen; less than that is the rest of a block."""


@dataclass(frozen=True, slots=True)
class IndexBudget:
    """How much of a file is read for its index: ``packets`` at most, for ``seconds`` at most."""

    packets: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class PacketTable:
    """The packets of a video stream in decoding order, as the file has them; times in ticks of its time base.

    ``pts`` and ``dts``: int64 (n,), ``MISSING`` where there is none; ``key``: decoding can start there; ``discard``: an
    edit list leaves it out; ``duration``: int64 (n,), 0 where it is not stated; ``pos``: byte positions, -1 where they
    are not known; ``sound_end``: when the sound beside them ends, in seconds of the container's clock; ``bytes_read``:
    where the last packet ends, 0 if that is not known.
    """

    pts: Ticks
    dts: Ticks
    key: NDArray[np.bool_]
    discard: NDArray[np.bool_]
    duration: Ticks
    pos: Ticks
    sound_end: float = 0.0
    bytes_read: int = 0
    complete: bool = True

    def behind(self, first: int) -> "PacketTable":
        """Return the packets from this one on."""
        if not first:
            return self
        columns = {name: getattr(self, name)[first:] for name in ("pts", "dts", "key", "discard", "duration", "pos")}
        return replace(self, **columns)


@dataclass(frozen=True, slots=True, eq=False)
class PacketIndex:
    """The shown frames of a video stream in order of presentation; times in ticks of ``time_base``.

    ``pts``: int64 (n,) ascending; ``keys``: PTS of the packets that decoding can start at, int64, ascending; ``end``:
    when the last frame ends, ``held`` on the screen for some of the time by sound that goes on; ``discarded``: packets
    that an edit list leaves out; ``open_gop``: some frames are decoded after a key frame and shown before it;
    ``complete``: no budget ended before the packets did; ``bytes_read``: up to where in the file they were read, 0 if
    that is not known.

    Single stamps that are missing or wrong are made up: ``suspects`` are the values in the file that tell no frame from
    another, and ``mends`` the PTS of packets by their positions in the file.

    ``counted``: too many PTS are missing, repeated or guessed, so frames can only be counted from the first; then
    ``pts`` are made up from decoding times, and there are no ``keys``.
    """

    pts: Ticks
    keys: Ticks
    end: int
    time_base: Fraction
    discarded: int
    open_gop: bool
    counted: bool
    complete: bool = True
    bytes_read: int = 0
    held: int = 0
    suspects: frozenset[int] = frozenset()
    mends: dict[int, int] = field(default_factory=dict)

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
        """Frames a second on average, while there are new ones; 0 where all frames together last no time."""
        ticks = self._ticks - self.held
        return float(len(self.pts) / (ticks * self.time_base)) if ticks > 0 else 0.0

    @property
    def times(self) -> NDArray[np.float64]:
        """Start of each frame in seconds from that of the first one, float64 (n,)."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base), np.float64)

    def number_of(self, pts: int | None, previous: int | None = None) -> int | None:
        """Return the frame that has this PTS.

        Where that cannot be trusted this is the one behind the ``previous`` one to come out of the decoder, if given.
        """
        if self.suspects and (MISSING if pts is None else pts) in self.suspects:
            return None if previous is None or previous + 1 >= len(self.pts) else previous + 1
        return self.frame_at(pts)

    def frame_at(self, pts: int | None) -> int | None:
        """Return the frame that begins at this PTS, which is right or was made up."""
        place = -1 if pts is None else int(np.searchsorted(self.pts, pts))
        return place if 0 <= place < len(self.pts) and self.pts[place] == pts else None

    def pts_of(self, packet: Any) -> int | None:
        """Return the PTS of a PyAV packet, made up where that of the file is wrong."""
        stamp: int | None = self.mends.get(packet.pos, packet.pts) if self.mends else packet.pts
        return stamp

    def key_before(self, frame: int) -> int:
        """Return the place in ``keys`` of the last one that is not shown after this frame; -1 without one."""
        return int(np.searchsorted(self.keys, self.pts[frame], side="right")) - 1

    def starting_at(self, frame: int) -> "PacketIndex":
        """Return the index without the frames before this one, which cannot be decoded."""
        return replace(self, pts=self.pts[frame:])

    def by_counting(self) -> "PacketIndex":
        """Return the same frames, to be found by counting only."""
        return replace(self, keys=np.zeros(0, np.int64), counted=True)

    @property
    def _ticks(self) -> int:
        return int(self.end - self.pts[0])


def read_packets(packets: Iterable[Any], video: Any, budget: IndexBudget | None = None) -> PacketTable:
    """Return the table of the PyAV packets of a ``video`` stream, without the end of the sound beside them.

    Where a ``budget`` is spent the table ends, and is not ``complete``. Raises InvalidMedia when there are more than
    ``MAX_PACKETS``.
    """
    pts, dts, key, discard, duration, pos = (array(code) for code in "qqbbqq")
    end, complete = 0, True
    # VP8 has frames that are there only to decode others by, with stamps of their own.
    hidden = video.codec_context.name == "vp8"
    until = time.monotonic() + budget.seconds if budget else 0.0
    for packet in packets:
        if not packet.size:
            continue  # the mark of the end
        pts.append(MISSING if packet.pts is None else packet.pts)
        dts.append(MISSING if packet.dts is None else packet.dts)
        key.append(packet.is_keyframe)
        discard.append(packet.is_discard or (hidden and not memoryview(packet)[0] & 0x10))
        duration.append(packet.duration or 0)
        pos.append(-1 if packet.pos is None else packet.pos)
        end = pos[-1] + packet.size
        if len(pts) > MAX_PACKETS:
            raise InvalidMedia(f"This video has more than {MAX_PACKETS} frames; cut it into parts.")
        if budget and (len(pts) >= budget.packets or time.monotonic() > until):
            complete = False
            break
    return PacketTable(
        np.array(pts, np.int64),
        np.array(dts, np.int64),
        np.array(key, bool),
        np.array(discard, bool),
        np.array(duration, np.int64),
        np.array(pos, np.int64),
        bytes_read=max(end, 0) if pos and pos[-1] >= 0 else 0,
        complete=complete,
    )


def index_of(table: PacketTable, time_base: Fraction, container: str, *, reordered: bool = False) -> PacketIndex:
    """Return the index of packets; ``container`` is FFmpeg's first name of theirs.

    ``reordered``: the decoder gives frames in another order than that of their packets. Raises InvalidMedia when there
    are none to show.
    """
    # Nothing before the first key packet can be decoded.
    table = table.behind(int(table.key.argmax()) if table.key.any() else 0)
    if table.discard.all():
        raise InvalidMedia("This file holds no frames.")
    shown = np.flatnonzero(~table.discard)
    stamps = mended(table.pts[shown], table.dts[shown], time_base)
    # AVI does not store when a frame is shown; where frames change places, FFmpeg guesses.
    given = table.pts[shown]
    guessed = container == "avi" and (reordered or (given == MISSING).any() or (np.diff(given) < 0).any())
    index = _counted(table, time_base) if stamps is None or guessed else _stored(table, shown, stamps, container)
    index = index if len(index.keys) else index.by_counting()
    held = int(table.sound_end / time_base) - index.end if table.complete else 0
    held = held if held > SOUND_ON_S / time_base else 0
    return replace(
        index,
        end=index.end + held,
        held=held,
        time_base=time_base,
        complete=table.complete,
        bytes_read=table.bytes_read,
    )


def _stored(table: PacketTable, shown: Ticks, stamps: Stamps, container: str) -> PacketIndex:
    pts, discard = table.pts.copy(), table.discard.copy()
    pts[shown] = stamps.pts
    if container == "mov":
        # What an edit list puts before time 0 is not shown; in a fragmented file FFmpeg does not discard it.
        discard |= (pts < 0) & (table.pts < 0) & (table.pts != MISSING)
        if discard.all():
            raise InvalidMedia("This file holds no frames.")
    shown_now = np.flatnonzero(~discard)
    if not table.complete:
        # Between the last of these there are frames that were not read.
        whole = shown_now[pts[shown_now] <= max(int(table.dts[-1]), int(pts[shown_now].min()))]
        shown_now = whole if table.dts[-1] != MISSING else shown_now
    order = shown_now[np.argsort(pts[shown_now], kind="stable")]
    ordered = pts[order]
    # AVI gives any frame a duration of one tick, and Matroska none unless all are equally long.
    stated, usual = int(table.duration[order[-1]]), int(np.median(np.diff(ordered))) if len(ordered) > 1 else 0
    step = stated if stated and container == "mov" else max(stated, usual)
    latest_key = np.maximum.accumulate(np.where(table.key, pts, MISSING))
    places = shown[stamps.mended]
    return PacketIndex(
        pts=ordered,
        keys=np.setdiff1d(table.pts[table.key], np.append(stamps.suspects, MISSING)),
        end=int(ordered[-1]) + step,
        time_base=Fraction(1),
        discarded=int(discard.sum()),
        open_gop=bool((pts < latest_key)[~discard].any()),
        counted=False,
        suspects=frozenset(stamps.suspects.tolist()),
        mends={int(table.pos[place]): int(pts[place]) for place in places if table.pos[place] >= 0},
    )


def _counted(table: PacketTable, time_base: Fraction) -> PacketIndex:
    stamps = np.where(table.dts == MISSING, table.pts, table.dts)[~table.discard]
    steps = np.diff(stamps)
    wrong = (steps <= 0) | (steps > 10 * JUMP_S / time_base)
    # As above, AVI gives any frame a duration of one tick.
    stated = int(table.duration[~table.discard][-1])
    usual = max(stated, int(np.median(steps[~wrong])) if (~wrong).any() else 0, 1)
    pts = np.concatenate([stamps[:1], stamps[0] + np.cumsum(np.where(wrong, usual, steps))]).astype(np.int64)
    return PacketIndex(
        pts=pts,
        keys=np.zeros(0, np.int64),
        end=int(pts[-1]) + usual,
        time_base=time_base,
        discarded=int(table.discard.sum()),
        open_gop=False,
        counted=True,
    )
