"""The sound of a file: how long it lasts, and its samples, whatever gaps, overlaps and changes the file has."""

import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidMedia
from vision.media.container import MediaFile, broken
from vision.media.index import IndexBudget
from vision.media.sniff import HEAD
from vision.media.workload import is_excessive

RATES: Final = (48_000, 44_100)
"""A source's own rate is kept if it is one of these."""
EARLY_S: Final = 1.0
"""An audio decoder needs some packets before the first that counts."""
ROUNDING_S: Final = 0.01
"""Containers round times, to milliseconds for instance: a block this near to the end of the last one follows it."""
MAX_TRIES: Final = 300
"""Audio packets without a sound that can be decoded."""
TAIL_S: Final = 1.0
"""Seconds at the end of a sound that are read to learn where it ends."""
UNTIMED: Final = frozenset({"mp3", "aac"})
"""Formats without times, by FFmpeg's name: what it makes up is wrong after a seek, and once the rate changes."""
TABLE_SLACK: Final = 2048
"""Bytes by which the count in the table of an MP3 may differ from the file: that of a frame, and of a tag behind it."""

UNMIXED: Final = re.compile(r"ambisonic|9 channels|\d\d+ channels")
"""Layouts, by FFmpeg's name, that it does not know how to mix."""
ADTS_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Samples a second by their place in the header of an AAC frame."""

Samples = NDArray[np.float32]


class Sound:
    """The first audio stream of a file from ``start`` to ``end``, in seconds of the container's clock.

    ``take`` returns float32 (2, n), left and right, or (1, n) when ``mono``, -1 to 1, at ``rate`` samples a second: the
    requested one, else the source's own. Channels are mixed so that none can clip: a tone is as loud from two equal
    channels as from one. Where the file has no sound there is silence, so the result is always as long as requested.
    The links of a chained Ogg file follow each other.

    ``decoded`` and ``damaged``: packets so far that gave sound, and that could not be decoded. ``lost_s``: seconds so
    far that are missing, or that could not be decoded. ``reached``: the end of what was decoded so far, in samples from
    ``start``. ``stop``: once it is set, the file appears to end.
    """

    def __init__(
        self,
        media: MediaFile,
        stream: Any,
        start: float,
        end: float,
        *,
        rate: int | None = None,
        mono: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        self.rate: int = rate or rate_of(stream)
        self._layout, self._channels = ("mono", 1) if mono else ("stereo", 2)
        self._remaining = round((end - start) * self.rate)
        self._taken = 0
        self._stop = stop or threading.Event()
        self.decoded = self.damaged = self.reached = 0
        self.lost_s = 0.0
        self._behind = 0  # the end of the last block
        self._blocks = self._decode(media, stream, start)
        self._next: tuple[int, Samples] | None = next(self._blocks, None)

    @property
    def ended(self) -> bool:
        """Whether nothing that can be decoded follows what was taken."""
        return self._next is None

    def take(self, until: float) -> Samples:
        """Return the samples up to ``until``, in seconds from ``start``, that were not taken yet."""
        count = min(round(until * self.rate) - self._taken, self._remaining)
        out = np.zeros((self._channels, max(count, 0)), np.float32)
        end = self._taken + out.shape[1]
        while self._next is not None and self._next[0] < end:
            at, block = self._next
            # Of two blocks for one time the later one counts, as far as it was not taken already.
            block = block[:, max(self._taken - at, 0) :]
            at = max(at, self._taken)
            part = block[:, : end - at]
            out[:, at - self._taken : at - self._taken + part.shape[1]] = part
            rest = block[:, part.shape[1] :]
            self._next = (end, rest) if rest.shape[1] else next(self._blocks, None)
        self._taken = end
        self._remaining -= out.shape[1]
        # Files of floats hold anything.
        np.nan_to_num(out, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
        return out.clip(-1.0, 1.0, out=out)

    def _decode(self, media: MediaFile, stream: Any, start: float) -> Iterator[tuple[int, Samples]]:
        """Yield blocks and where they begin, in samples from the start."""
        early = start - EARLY_S
        if early > media.start_of(stream):
            with suppress(*broken()):
                media.container.seek(int(early / stream.time_base), stream=stream)
        yield from self._decode_link(media, stream, start)
        while not self._stop.is_set() and media.next_link():
            stream = media.audio()
            if stream is not None:
                self._behind = self.reached
                yield from self._decode_link(media, stream, media.start_of(stream) - self.reached / self.rate)

    def _decode_link(self, media: MediaFile, stream: Any, origin: float) -> Iterator[tuple[int, Samples]]:
        """Yield blocks of one link; ``origin``: time of the first sample of the whole on its clock, in seconds."""
        mixer = _Mixer(self._layout, self.rate)
        timed = media.name not in UNTIMED
        # In this container the duration of a packet cuts off what the encoder padded.
        cut = media.name == "mov"
        tick = float(stream.time_base)
        last, begun, first_byte, sound_bytes = 0.0, self.reached, -1, 0
        for packet in media.packets(stream):
            if self._stop.is_set():
                return
            if first_byte < 0:
                first_byte = packet.pos or 0
            blocks: list[Any] = []
            try:
                frames = [] if is_excessive(packet) else packet.decode()
                blocks = [block for frame in frames for block in mixer.mix(frame)]
                sound_bytes += packet.size
            except broken():  # one damaged packet; a later one may be whole
                self.damaged += 1
            self.decoded += bool(blocks)
            end = None
            if timed and packet.duration and packet.pts is not None:
                end = (packet.pts + packet.duration) * tick - origin
                last = max(last, end)
            yield from self._placed(blocks, origin if timed else None, end if cut else None)
        blocks = []
        with suppress(*broken()):  # what the decoder and the resampler still hold back
            frames = stream.codec_context.decode(None)
            blocks = [block for frame in (*frames, None) for block in mixer.mix(frame)]
        yield from self._placed(blocks, origin if timed else None)
        if timed:
            self.lost_s += max(last - self.reached / self.rate, 0.0)
        elif sound_bytes:  # such a file is nothing but frames
            lost_bytes = max(media.size - first_byte - sound_bytes, 0)
            self.lost_s += lost_bytes / sound_bytes * (self.reached - begun) / self.rate

    def _placed(
        self, blocks: list[Any], origin: float | None, end: float | None = None
    ) -> Iterator[tuple[int, Samples]]:
        """Yield blocks with their places, cut off at ``end``, in seconds from the start."""
        for block in blocks:
            at = self._behind  # without a time it follows the last one
            if origin is not None and block.pts is not None:
                stamp = round((block.pts * float(block.time_base) - origin) * self.rate)
                at = at if abs(stamp - at) < ROUNDING_S * self.rate else stamp
            samples = block.to_ndarray()
            if end is not None and at + samples.shape[1] > (end + ROUNDING_S) * self.rate:
                samples = samples[:, : max(round(end * self.rate) - at, 0)]
            self.lost_s += max(at - self.reached, 0) / self.rate
            self._behind = at + samples.shape[1]
            self.reached = max(self.reached, self._behind)
            yield at, samples


def rate_of(stream: Any) -> int:
    """Return the samples a second of a sound whose stream this is, where none are asked for."""
    own: int = stream.codec_context.rate
    return own if own in RATES else RATES[0]


class _Mixer:
    """Converts decoded sound to float32 of one layout and rate, however it changes from frame to frame."""

    def __init__(self, layout: str, rate: int) -> None:
        self._layout, self._rate = layout, rate
        self._source: tuple[str, str, int] | None = None
        self._resampler: Any = None

    def mix(self, frame: Any | None) -> list[Any]:
        """Return what is ready once this frame is known; without a frame, all that is left."""
        blocks: list[Any] = []
        if frame is not None:
            frame = _averaged(frame) if UNMIXED.match(frame.layout.name) else frame
            source = (frame.format.name, frame.layout.name, frame.sample_rate)
            if source != self._source:
                blocks = self.mix(None)
                self._resampler, self._source = self._resampler_for(frame.layout.nb_channels), source
        return blocks + self._resampler.resample(frame) if self._resampler else blocks

    def _resampler_for(self, channels: int) -> Any:
        import av

        # Else FFmpeg mixes two equal channels of floats to one that is louder, and one channel to two quieter ones.
        volume = 2**0.5 if channels == 1 and self._layout == "stereo" else 1.0
        options = {"rematrix_maxval": "1", "rematrix_volume": str(volume)}
        return av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate, options=options)


def _averaged(frame: Any) -> Any:
    """Return a frame with the mean of all channels; of a sound field, with the one that hears all sides."""
    import av

    (packed,) = av.AudioResampler(format="flt").resample(frame)
    channels = packed.to_ndarray().reshape(-1, frame.layout.nb_channels)
    mono = channels[:, 0] if frame.layout.name.startswith("ambisonic") else channels.mean(1)
    result = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="fltp", layout="mono")
    result.sample_rate, result.pts, result.time_base = frame.sample_rate, frame.pts, frame.time_base
    return result


def sound_duration(media: MediaFile, budget: IndexBudget) -> float | None:
    """Return the seconds from the first sample to the end of the last one, from packets; None where none has a time.

    Where the times of a container can be relied on the middle is stepped over. A spent ``budget``, of which only the
    seconds on the processor count, leaves what the container states, or what the part that was read makes likely. Of a
    chained Ogg file it is that of all links together. Raises InvalidMedia if the first packets give no sound; later
    damage is tolerated.
    """
    until = time.thread_time() + budget.seconds
    total = _link_duration(media, budget.packets, until)
    while time.thread_time() < until and media.next_link():
        if media.audio() is not None:
            with suppress(InvalidMedia):  # of a link that is damaged nothing is heard
                total += _link_duration(media, budget.packets, until)
    return round(total, 6) or None


def _link_duration(media: MediaFile, most: int, until: float) -> float:
    stream = media.audio()
    assert stream is not None
    span = _Span(media, stream)
    packets = media.packets(stream)
    decoded = _first_sound(stream, packets, span)
    if not decoded:
        raise media.undecodable(stream.codec_context.name)
    stated = media.stated_s
    if stated and media.name == "mp3" and _table_is_whole(media):
        return stated
    if stated and media.name not in UNTIMED:
        tail = _Span(media, stream)
        with suppress(*broken()):
            target = max(stated - TAIL_S, span.start or 0.0)
            media.container.seek(int(target / stream.time_base), stream=stream)
            tail.add_all(media.packets(stream), most, until)
        if tail.end is not None:
            # The last page of an Ogg file cuts off what the encoder padded, which its packets do not tell after a seek.
            end = min(tail.end, span.origin + stated) if media.name == "ogg" else tail.end
            span.end = max(span.end or 0.0, end)
            return span.seconds
        media.reopen()
        stream = media.audio()
        if stream is None:
            raise media.damaged()
        packets, span = media.packets(stream), _Span(media, stream)
    if span.add_all(packets, most, until):
        return span.seconds
    return stated if stated and media.name not in UNTIMED else span.seconds * media.size / span.size


def _first_sound(stream: Any, packets: Iterator[Any], span: "_Span") -> bool:
    """Return whether one of the first packets, or what they leave in the decoder, gives a sound."""
    for packet in islice(packets, MAX_TRIES):
        span.add(packet)
        with suppress(*broken()):
            if not is_excessive(packet) and packet.decode():
                return True
    with suppress(*broken()):  # a damaged end keeps the demuxer from flushing what the decoder holds back
        return bool(stream.decode(None))
    return False


class _Span:
    """From where to where packets give sound, in seconds."""

    start: float | None = None
    end: float | None = None
    origin = 0.0
    """Time of the first packet, with what the encoder put before the first sample."""
    size = 0
    """Bytes of the packets."""

    def __init__(self, media: MediaFile, stream: Any) -> None:
        self._adts = media.name == "aac"
        self._tick = float(stream.time_base)  # fractions are slow

    @property
    def seconds(self) -> float:
        return max((self.end or 0.0) - (self.start or 0.0), 0.0)

    def add_all(self, packets: Iterable[Any], most: int, until: float) -> bool:
        """Add packets; return False where there are too many, or the time is up, before they end."""
        for count, packet in enumerate(packets, 1):
            self.add(packet)
            if count >= most or time.thread_time() > until:
                return False
        return True

    def add(self, packet: Any) -> None:
        self.size += packet.size
        seconds = (packet.duration or 0) * self._tick
        begin = self.end or 0.0
        if self._adts and packet.size > 6:  # FFmpeg keeps to the rate of the first frame
            header = memoryview(packet)
            rate, blocks = header[2] >> 2 & 15, 1 + (header[6] & 3)
            seconds = 1024 * blocks / ADTS_RATES[rate] if rate < len(ADTS_RATES) else seconds
        elif packet.pts is not None:
            begin = packet.pts * self._tick
        self.end = max(self.end or begin, begin + seconds)
        if self.start is None:
            self.start = self.origin = begin
            rate = packet.stream.codec_context.rate
            if rate and packet.has_sidedata("skip_samples"):  # what the encoder put before the first sample
                skipped = int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")
                self.start += skipped / rate


def _table_is_whole(media: MediaFile) -> bool:
    """Return whether an MP3 begins with a table (Xing, Info) that counts the bytes that the file has."""
    table = re.search(rb"(?:Xing|Info)\0{3}[\x03\x07\x0b\x0f].{4}(.{4})", media.peek(HEAD), re.DOTALL)
    return table is not None and abs(int.from_bytes(table[1], "big") - media.size) <= TABLE_SLACK
