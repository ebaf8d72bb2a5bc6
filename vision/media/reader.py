"""Exact frames of a video by PyAV.

Frame numbers count the shown frames from 0 in order of presentation; times are PTS in seconds from the first of them.
A seek of FFmpeg may land past the key frame that was asked for (open GOP, MPEG-TS, fragmented MP4), so the frame that
comes out first is compared with the index of all packets, and if it is too late, decoding starts further back.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidMedia
from vision.images import Pixels
from vision.media.container import DAMAGED, TIMEOUT_S, TOO_SLOW, MediaFile, broken, ffmpeg_errors
from vision.media.index import PacketIndex, read_index
from vision.media.orientation import Orientation
from vision.media.plan import FrameOutOfRange

READ_ON: Final = 16
"""Frames ahead up to which decoding on is cheaper than a seek."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Of the video stream. ``width`` and ``height``: pixels as shown; ``rotation``: degrees clockwise that a player
    turns decoded frames by; ``fps``: frames a second on average; ``duration``: seconds of the shown frames."""

    width: int
    height: int
    rotation: int
    fps: float
    frame_count: int
    duration: float
    has_audio: bool
    codec: str
    pixel_format: str


class VideoReader:
    """Frames of one video file, by number or in a row; use it on one thread at a time, and close it.

    A file that is passed in has to be seekable, and stays open. Raises InvalidMedia when no frame can be decoded;
    no call hangs on damaged bytes: ``timeout_s`` is the longest time without a packet and without a frame.
    """

    facts: StreamFacts
    times: NDArray[np.float64]
    """Seconds of every frame, ascending."""
    index: PacketIndex
    container: str
    """FFmpeg's first name of it: mov, matroska, mpegts or avi."""
    orientation: Orientation
    """What turns decoded pictures upright."""
    pixel_aspect: Fraction
    """Width of an upright pixel over its height, as a player shows it; the pictures are not stretched by it."""

    def __init__(self, source: Path | BinaryIO, *, threads: int = 2, timeout_s: float = TIMEOUT_S) -> None:
        from av.video.reformatter import VideoReformatter

        self._threads = threads
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._held: tuple[int, Any] | None = None
        self._stream: Any = None
        self._goal = 0
        self._converter = VideoReformatter()
        self._media = MediaFile(source, timeout_s)
        try:
            with ffmpeg_errors():
                self._stream = self._media.video(threads)
                self.container = self._media.name
                packets = self._media.packets(self._stream)
                self.index = read_index(packets, self._stream.time_base, self.container)
                self.orientation = self._look()
                aspect = Fraction(self._stream.sample_aspect_ratio or 1)
                self.pixel_aspect = 1 / aspect if self.orientation.swapped else aspect
                self.times = self.index.times
                self.facts = self._describe()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder and its threads."""
        self._frames, self._held, self._stream = iter(()), None, None
        self._media.close()

    def frame(self, number: int) -> Pixels:
        """RGB, uint8 (H, W, 3), upright. Raises FrameOutOfRange, and InvalidMedia for a damaged frame."""
        return self.pixels(self.picture(number))

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, float, Pixels]]:
        """Number, time and RGB pixels of every ``step``-th frame from ``start`` to before ``stop``.

        ``size`` is (width, height) of the result. Frames that cannot be decoded are left out.
        """
        for number, picture in self.pictures(start, stop, step):
            yield number, float(self.times[number]), self.pixels(picture, size)

    def picture(self, number: int) -> Any:
        """``frame`` as PyAV's VideoFrame, as decoded: not turned upright."""
        last = len(self.index.pts) - 1
        if not 0 <= number <= last:
            raise FrameOutOfRange.of(number, last)
        found = self._reach(number)
        if found is None or found[0] != number:
            raise InvalidMedia(f"Frame {number} of this video is damaged; frames before and after it may be whole.")
        return found[1]

    def pictures(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[tuple[int, Any]]:
        """``frames`` as PyAV's VideoFrames, as decoded."""
        stop = len(self.index.pts) if stop is None else min(stop, len(self.index.pts))
        number = start
        while number < stop and (found := self._reach(number)) is not None:
            if found[0] == number:
                yield found
            number += step * max(1, -(-(found[0] - number) // step))

    def end_of(self, number: int) -> float:
        """When a frame makes way for the next, in seconds."""
        return float(self.times[number + 1]) if number + 1 < len(self.times) else self.facts.duration

    def pixels(
        self, picture: Any, size: tuple[int, int] | None = None, interpolation: Literal["AREA", "BICUBIC"] = "AREA"
    ) -> Pixels:
        """RGB of a picture of this reader, uint8 (H, W, 3), upright; ``size`` is (width, height) of the result.

        ``interpolation`` is how it is brought to that size; BICUBIC is FFmpeg's default, and takes twice as long.
        """
        width, height = self.orientation.size(*size) if size else (picture.width, picture.height)
        rgb = self._converter.reformat(
            picture, width, height, "rgb24", interpolation=interpolation if size else "BILINEAR", threads=1
        )
        return self.orientation.upright(np.asarray(rgb.to_ndarray(), np.uint8))

    def luminance(self, picture: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Grey levels of a picture of this reader, uint8 (H, W), upright; ``size`` is (width, height) of the result."""
        grey = self._converter.reformat(picture, *self.orientation.size(*size), "gray", interpolation="AREA", threads=1)
        return self.orientation.upright(np.asarray(grey.to_ndarray(), np.uint8))

    def _look(self) -> Orientation:
        """Decode the first frame: without one there is no video, and what comes before it is never shown."""
        if not self.index.counted:
            self._position(0)
            if self._held is None:  # the decoder tells other times than the packets do
                self.index = self.index.by_counting()
        if self.index.counted:
            self._held = self._start()
        if self._held is None:
            raise InvalidMedia(DAMAGED)
        picture = self._held[1]
        if not self.index.counted:
            self.index = self.index.starting_at(picture.pts)
        self._held = (0, picture)
        return Orientation.of(picture)

    def _start(self) -> tuple[int, Any] | None:
        """Start again at the first packet; the first frame that comes out."""
        self._media.reopen()
        self._stream = self._media.video(self._threads)
        self._frames = self._decode(self._media.packets(self._stream))
        return next(self._frames, None)

    def _reach(self, number: int) -> tuple[int, Any] | None:
        """The first frame from this one on that can be decoded; None behind the last."""
        if not self._leads_to(number):
            self._position(number)
        self._goal = int(self.index.pts[number])
        while self._held is not None and self._held[0] < number:
            self._held = next(self._frames, None)
        return self._held

    def _leads_to(self, number: int) -> bool:
        if self._held is None or self._held[0] > number:
            return False
        here = self._held[0]
        key = self.index.key_before(number)
        return number - here <= READ_ON or key < 0 or self.index.keys[key] <= self.index.pts[here]

    def _position(self, number: int) -> None:
        """Hold the first frame decoded from a key frame at or before this frame."""
        self._goal = int(self.index.pts[number])
        key = self.index.key_before(number)
        for back in range(key, max(key - 2, -1), -1):
            with suppress(*broken()):
                self._media.container.seek(int(self.index.keys[back]), stream=self._stream)
            packets = self._media.packets(self._stream)
            first = next((packet for packet in packets if packet.is_keyframe), None)
            if first is None or first.pts is None or first.pts > self.index.keys[key]:
                continue
            self._frames = self._decode(chain([first], packets))
            self._held = next(self._frames, None)
            # Where pictures are refreshed bit by bit, the first whole one comes later, and is not quite the same.
            if self._held is not None and self._held[0] <= np.searchsorted(self.index.pts, first.pts):
                return
        self._held = self._start()

    def _decode(self, packets: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        """Number and picture of what comes out of the decoder."""
        numbers = count()
        since = time.monotonic()
        for packet in chain(packets, [None]):
            self._spare(packet)
            pictures: list[Any] = []
            with suppress(*broken()):  # one damaged packet; a later one may be whole
                pictures = self._stream.decode(packet)
            for picture in pictures:
                number = next(numbers) if self.index.counted else self.index.number_of(picture.pts)
                if number is not None:
                    yield number, picture
                    since = time.monotonic()
            if time.monotonic() - since > self._media.timeout_s:
                raise InvalidMedia(TOO_SLOW)

    def _spare(self, packet: Any | None) -> None:
        """Have the decoder leave out what no frame from the goal on is decoded from."""
        # Only H.264 says it so that it holds; frames of HEVC's upper layers may refer to what it calls unreferenced.
        if self._stream.codec_context.name == "h264":
            early = packet is not None and packet.pts is not None and packet.pts < self._goal
            self._stream.codec_context.skip_frame = "NONREF" if early and not self.index.counted else "DEFAULT"

    def _describe(self) -> StreamFacts:
        assert self._held is not None
        picture, index = self._held[1], self.index
        seconds = index.end_time
        width, height = self.orientation.size(picture.width, picture.height)
        return StreamFacts(
            width=width,
            height=height,
            rotation=self.orientation.clockwise,
            fps=len(index.pts) / seconds if seconds > 0 else 0.0,
            frame_count=len(index.pts),
            duration=seconds,
            has_audio=self._media.audio() is not None,
            codec=self._stream.codec_context.codec.canonical_name,
            pixel_format=picture.format.name,
        )
