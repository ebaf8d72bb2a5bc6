"""The sound of a part of a file, sample by sample, whatever gaps and overlaps the file has."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.media.container import MediaFile, broken

RATES: Final = (48_000, 44_100)
"""A source's own rate is kept if it is one of these."""
EARLY_S: Final = 1.0
"""An audio decoder needs some packets before the first that counts."""

Samples = NDArray[np.float32]


class Sound:
    """The first audio stream of a file from ``start`` to ``end``, in seconds of the container's clock.

    ``take`` returns float32 (2, n), left and right, or (1, n) when ``mono``, -1 to 1, at ``rate`` samples a second: the
    requested one, else the source's own. Where the file has no sound there is silence, so the result is always as long
    as requested.

    ``decoded`` and ``damaged``: packets so far that gave sound, and that could not be decoded. ``reached``: the end of
    what was decoded so far, in samples from ``start``. ``stop``: once it is set, the file appears to end.
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
        own = stream.codec_context.rate
        self.rate: int = rate or (own if own in RATES else RATES[0])
        self._layout, self._channels = ("mono", 1) if mono else ("stereo", 2)
        self._start = start
        self._remaining = round((end - start) * self.rate)
        self._taken = 0
        self._stop = stop or threading.Event()
        self.decoded = self.damaged = self.reached = 0
        self._blocks = self._decode(media, stream)
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
        return out

    def _decode(self, media: MediaFile, stream: Any) -> Iterator[tuple[int, Samples]]:
        """Yield blocks and where they begin, in samples from the start."""
        import av

        resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self.rate)
        early = int(max(self._start - EARLY_S, 0) / stream.time_base)
        with suppress(*broken()):
            media.container.seek(early, stream=stream)
        for packet in media.packets(stream):
            if self._stop.is_set():
                return
            blocks: list[Any] = []
            try:
                blocks = [block for frame in packet.decode() for block in resampler.resample(frame)]
            except broken():  # one damaged packet; a later one may be whole
                self.damaged += 1
            self.decoded += bool(blocks)
            yield from self._placed(blocks)
        with suppress(*broken()):  # what the decoder and the resampler still hold back
            frames = stream.codec_context.decode(None)
            yield from self._placed([block for frame in (*frames, None) for block in resampler.resample(frame)])

    def _placed(self, blocks: list[Any]) -> Iterator[tuple[int, Samples]]:
        for block in blocks:
            at = self.reached  # without a time it follows the last one
            if block.pts is not None:
                at = round((float(block.pts * block.time_base) - self._start) * self.rate)
            samples = block.to_ndarray()
            self.reached = max(self.reached, at + samples.shape[1])
            yield at, samples
