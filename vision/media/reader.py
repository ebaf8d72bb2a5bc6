"""Exact frames of a video by PyAV.

Frame numbers count the shown frames from 0 in order of presentation; times are PTS in seconds from the first of them.
FFmpeg may seek past the key frame that was asked for (open GOP, MPEG-TS, fragmented MP4), so the frame that comes out
first is compared with the index of all packets, and if it is too late, decoding starts further back.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.deadlines import check_deadline
from vision.errors import InvalidMedia
from vision.images import Pixels
from vision.media import nvdec
from vision.media.container import CODECS, NO_CODECS, TIMEOUT_S, MediaFile, TimeLimit, broken
from vision.media.index import IndexBudget, PacketIndex, index_of, read_packets
from vision.media.nvdec import Decoder
from vision.media.plan import FrameOutOfRange
from vision.media.render import Deinterlacer, Renderer
from vision.media.sample_tables import table_of
from vision.media.workload import is_excessive

logger = logging.getLogger("ray.serve")

READ_ON: Final = 16
"""Frames ahead up to which decoding on is cheaper than a seek."""
HELD: Final = 6
HELD_BY_THREAD: Final = 3
"""Pictures that a decoder holds, and how many more with each thread behind the first: 15 to 34 MB of 1080p were
measured, of H.264 with one reference and with three B-frames, on one and on two threads."""
SOUND_TAIL_S: Final = 1.0
"""From how long before its stated end a file is read for the end of its sound."""
STILLS: Final = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}
"""Codecs of covers, by FFmpeg's names; not every file marks the stream of its cover as one."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Facts of a video stream.

    ``width`` and ``height``: pixels as shown; ``rotation``: degrees clockwise, 0, 90, 180 or 270, that a player turns
    decoded frames by, 0 where it only mirrors them; ``fps``: frames a second on average; ``duration``: seconds of the
    shown frames; ``has_audio``: there is an audio stream, whether or not it can be decoded.
    """

    width: int
    height: int
    rotation: int
    fps: float
    frame_count: int
    duration: float
    has_audio: bool
    codec: str
    pixel_format: str


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a reader has learned of a file, with which another reader of the same bytes is opened sooner.

    ``parameters`` and ``reorder``: what its decoder is set up with, and by how many frames that reorders;
    ``picture_bytes``: of one decoded picture.
    """

    stream: int
    parameters: tuple[Any, ...]
    reorder: int
    index: PacketIndex
    facts: StreamFacts
    interlaced: bool
    renderer: Renderer
    picture_bytes: int


class VideoReader:
    """Frames of one video file, by number or in order; use it on one thread at a time, and close it.

    A file object that is passed in has to be seekable, and stays open; a MediaFile is closed with the reader. Raises
    InvalidMedia when no frame can be decoded. No call hangs on damaged bytes: ``timeout_s`` is the longest time
    without a packet and without a frame. With a ``budget`` the reader has the frames of the part that was indexed;
    ``probed`` is that of MediaFile. With the ``decoder`` auto or nvdec the processor decodes the first frame, and the
    GPU of the process the others, if it makes the same of that one; else, and from an error on, the processor does.
    ``known`` is that of another reader of the same bytes; the processor decodes then.
    """

    facts: StreamFacts
    times: NDArray[np.float64]
    """Start of every frame in seconds from that of the first, float64 (n,), ascending."""
    index: PacketIndex
    container: str
    """FFmpeg's first name of the container: mov, matroska, mpegts or avi."""
    interlaced: bool
    """Whether a picture that consists of two fields has been decoded."""
    renderer: Renderer
    """Turns decoded pictures into pixels."""
    decoder: Literal["software", "nvdec"]
    """What decodes this file."""

    def __init__(
        self,
        source: Path | BinaryIO | MediaFile,
        *,
        threads: int = 2,
        timeout_s: float = TIMEOUT_S,
        budget: IndexBudget | None = None,
        probed: bool = False,
        decoder: Decoder = "software",
        known: Known | None = None,
    ) -> None:
        self.decoder = "software"
        self._threads = threads
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._current: tuple[int, Any] | None = None
        self._before: Any = None
        self._after: tuple[int, Any] | None = None
        self.interlaced = False
        self._deinterlacer = Deinterlacer()
        self._stream: Any = None
        self._target = 0
        self._media = (
            source
            if isinstance(source, MediaFile)
            else MediaFile(source, timeout_s, probed=probed, codecs=NO_CODECS if known else CODECS)
        )
        try:
            with self._media.errors():
                self.container = self._media.name
                if known is None:
                    self._choose(budget)
                    self.facts = self._describe()
                else:
                    self._recall(known)
                self.times = self.index.times
                if known is None and nvdec.is_wanted(decoder, self._codec, self.facts.pixel_format):
                    self._try_hardware()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder and its threads."""
        self._frames, self._current, self._before, self._after, self._stream = iter(()), None, None, None, None
        self._media.close()

    def frame(self, number: int) -> Pixels:
        """Return RGB, uint8 (H, W, 3), upright. Raises FrameOutOfRange, and InvalidMedia for a damaged frame."""
        return self.pixels(self.picture(number))

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, float, Pixels]]:
        """Yield number, time and RGB pixels of every ``step``-th frame from ``start`` to before ``stop``.

        ``size`` is (width, height) of the result. Frames that cannot be decoded are left out.
        """
        for number, picture in self.pictures(start, stop, step):
            yield number, float(self.times[number]), self.pixels(picture, size)

    def picture(self, number: int) -> Any:
        """Return ``frame`` as PyAV's VideoFrame: deinterlaced, not turned upright."""
        last = len(self.index.pts) - 1
        if not 0 <= number <= last:
            raise FrameOutOfRange.of(number, last)
        decoded = self._decode_to(number)
        if decoded is None or decoded[0] != number:
            raise InvalidMedia(f"Frame {number} of this video is damaged; frames before and after it may be whole.")
        return self._deinterlaced(decoded)

    def pictures(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[tuple[int, Any]]:
        """Yield number and PyAV's VideoFrame, as by ``picture``, of the same frames as ``frames``."""
        stop = len(self.index.pts) if stop is None else min(stop, len(self.index.pts))
        number = start
        while number < stop and (decoded := self._decode_to(number)) is not None:
            if decoded[0] == number:
                yield number, self._deinterlaced(decoded)
            number += step * max(1, -(-(decoded[0] - number) // step))

    def keyframe(self, seconds: float) -> Any:
        """Return the key frame at or before this time as PyAV's VideoFrame, deinterlaced.

        Where it is damaged this is the next frame that can be decoded, or the first one of the video; where frames can
        only be counted it is the frame that a seek leads to. Raises InvalidMedia.
        """
        if self.index.counted:
            with suppress(*broken()):
                self._media.container.seek(round((self.index.origin + seconds) * 1_000_000))
            self._begin(self._media.packets(self._stream), -1)
        else:
            shown = max(int(np.searchsorted(self.times, seconds, side="right")) - 1, 0)
            key = int(np.searchsorted(self.index.pts, self.index.keys[max(self.index.key_before(shown), 0)]))
            self._seek(key)
            self._go_on_to(key)
        # That the frame before it is not decoded hardly shows, and saves another seek.
        picture = None if self._current is None else self._joined(self._current[1])
        self._frames, self._current = iter(()), None
        return self.picture(0) if picture is None else picture

    @property
    def known(self) -> Known:
        """What it has learned of the file."""
        of_decoder = self._parameters, self._reorder
        return Known(
            self.stream, *of_decoder, self.index, self.facts, self.interlaced, self.renderer, self._picture_bytes
        )

    @property
    def memory(self) -> int:
        """Bytes that it takes while it is open, about."""
        held: int = HELD + 2 * self._reorder + HELD_BY_THREAD * (self._threads - 1)
        return held * self._picture_bytes

    @property
    def place(self) -> int:
        """Number of the frame that was decoded last; 0 where there is none."""
        return 0 if self._current is None else self._current[0]

    def seeks(self, number: int) -> bool:
        """Return whether it would decode this frame from a key frame, rather than on from its place."""
        return not self._ahead_of(number)

    def distance(self, number: int) -> int:
        """Return how many frames lie between the one where it would begin to decode, and this one."""
        return number - (self.between_keys(number)[0] if self.seeks(number) else self.place)

    def between_keys(self, number: int) -> tuple[int, int]:
        """Return the frames of the last key frame up to this frame, and of the first one behind it."""
        place = self.index.key_before(number)
        shown = np.searchsorted(self.index.pts, self.index.keys[max(place, 0) : place + 2]).tolist()
        first = shown.pop(0) if place >= 0 else 0
        return first, shown[0] if shown else len(self.index.pts)

    def end_of(self, number: int) -> float:
        """Return when a frame makes way for the next, in seconds."""
        return float(self.times[number + 1]) if number + 1 < len(self.times) else self.facts.duration

    def pixels(
        self, picture: Any, size: tuple[int, int] | None = None, interpolation: Literal["AREA", "BICUBIC"] = "AREA"
    ) -> Pixels:
        """Return RGB of a picture of this reader, as ``Renderer.pixels`` does."""
        return self.renderer.pixels(picture, size, interpolation)

    def luminance(self, picture: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return grey levels of a picture of this reader, as ``Renderer.luminance`` does."""
        return self.renderer.luminance(picture, size)

    @property
    def _codec(self) -> str:
        return str(self._stream.codec_context.name)

    @property
    def stream(self) -> int:
        """Number of the stream in its file."""
        assert self._media.chosen is not None
        return self._media.chosen

    def _choose(self, budget: IndexBudget | None) -> None:
        """Take the first stream that can be decoded; a single picture only where nothing moves.

        Raises InvalidMedia for what is wrong with the first one when there is none.
        """
        picture, failure = None, None
        for number in self._media.videos:
            try:
                with self._media.errors():
                    self._take(number, budget)
            except InvalidMedia as error:
                failure = failure or error
                if self._media.late:
                    break
            else:
                if len(self.index.pts) > 1 or self._stream.codec_context.name not in STILLS:
                    return
                picture = number if picture is None else picture
        if picture is None:
            raise failure or InvalidMedia(f"This {self._media.label} has no video stream that can be decoded.")
        if picture != self.stream:
            self._take(picture, budget)

    def _take(self, number: int, budget: IndexBudget | None) -> None:
        """Index a stream and decode its first frame."""
        if self._media.chosen is not None:
            self._media.reopen()
        self._media.chosen = number
        self._take_stream()
        sound = self._media.audio()
        table = table_of(self._media.source, self._stream, sound) if self.container == "mov" else None
        if table is None:
            table = read_packets(self._media.packets(self._stream), self._stream, budget)
            if sound is not None and table.complete:
                table = replace(table, sound_end=self._end_of(sound, int(table.pts.max(initial=0))))
        # For these FFmpeg numbers the packets of an AVI as they come.
        context = self._stream.codec_context
        reordered = context.name in ("h264", "hevc") and bool(context.has_b_frames)
        self.index = index_of(table, self._stream.time_base, self.container, reordered=reordered)
        first = self._decode_first()
        # The aspect of the container counts before that of the codec, as in players.
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        self.renderer = Renderer(first, aspect)

    def _take_stream(self) -> None:
        self._stream = self._media.video(self._threads)
        context = self._stream.codec_context
        self._parameters = (context.name, context.codec_tag, context.extradata, context.width, context.height)
        self._reorder = context.reorder_depth

    def _recall(self, known: Known) -> None:
        """Take what another reader has learned; nothing is decoded before it is asked for."""
        self._media.chosen = known.stream
        self._media.allow(CODECS)
        self._take_stream()
        if self._parameters == known.parameters:
            # FFmpeg would have found that by decoding.
            self._stream.codec_context.reorder_depth = known.reorder
        else:
            self._reopen()
        self._parameters, self._reorder = known.parameters, known.reorder
        self.index, self.facts, self.interlaced = known.index, known.facts, known.interlaced
        self.renderer, self._picture_bytes = known.renderer.twin(), known.picture_bytes

    def _end_of(self, sound: Any, last: int) -> float:
        """Return when sound ends, in seconds of the container's clock; ``last``: PTS of the last picture.

        It is read from near its end on, since there may be many times more packets of sound than of pictures.
        """
        container = self._media.container
        stated = (container.start_time or 0) / 1_000_000 + (self._media.stated_s or 0.0) - SOUND_TAIL_S
        with suppress(*broken()):
            container.seek(int(max(float(last * self._stream.time_base), stated) / sound.time_base), stream=sound)
        packets = (packet for packet in self._media.packets(sound) if packet.pts is not None)
        return max((float((p.pts + (p.duration or 0)) * p.time_base) for p in packets), default=0.0)

    def _decode_first(self) -> Any:
        """Decode the first frame and return its picture; what comes before it in the file is never shown.

        Raises InvalidMedia when there is none.
        """
        if not self.index.counted:
            self._seek(0)
            if self._current is None:  # the decoder gives other times than the packets do
                self.index = self.index.by_counting()
        if self.index.counted:
            self._rewind()
        if self._current is None:
            raise self._media.undecodable(self._stream.codec_context.name)
        number, picture = self._current
        if not self.index.counted:
            self.index = self.index.starting_at(number)
        self._current = (0, picture)
        self.interlaced = bool(picture.interlaced_frame)
        return picture

    def _try_hardware(self) -> None:
        """Decode on the GPU from here on, if it makes the same of the first frame as the processor did."""
        assert self._current is not None
        expected, reason = self.pixels(self._current[1]), "its first frame differs"
        try:
            self._use("nvdec")
            if self._current is not None and np.array_equal(self.pixels(self._current[1]), expected):
                return
        except _failures() as error:
            reason = str(error)
        logger.warning("a video (%s) is decoded by the processor, not by NVDEC: %s", self.facts.codec, reason)
        self._use("software")

    def _use(self, decoder: Literal["software", "nvdec"], first: int = 0) -> None:
        """Decode by this from frame ``first`` on."""
        self.decoder = decoder
        self._media.hardware = nvdec.accelerator() if decoder == "nvdec" else None
        if self.index.counted:
            self._rewind()
        else:
            self._reopen()
            self._seek(first)

    def _go_on_in_software(self, before: int | None) -> tuple[int, Any] | None:
        """Return the frame after ``before``, decoded by the processor, which decodes from there on."""
        logger.warning("a video (%s) is decoded by the processor: NVDEC failed in its middle", self.facts.codec)
        ahead = self._before
        first = int(np.searchsorted(self.index.pts, self._target)) if before is None else before + 1
        if first == len(self.index.pts):
            return None
        self._use("software", first)
        while self._current is not None and self._current[0] < first:
            self._current = next(self._frames, None)
        self._before = ahead
        return self._current

    def _reopen(self) -> None:
        """Start again at the first packet, with a new decoder."""
        self._media.reopen()
        self._stream = self._media.video(1 if self.decoder == "nvdec" else self._threads)

    def _rewind(self) -> None:
        """Start again at the first packet, and make current the first frame that comes out."""
        self._reopen()
        self._begin(self._media.packets(self._stream), -1)

    def _begin(self, packets: Iterator[Any], before: int | None) -> None:
        """Make current the first frame that is decoded from these packets; ``before``: the one ahead, if known."""
        self._frames = self._decode(packets, before)
        self._before = self._after = None
        self._current = next(self._frames, None)

    def _decode_to(self, number: int) -> tuple[int, Any] | None:
        """Return the first frame from this one on that can be decoded; None behind the last."""
        if self._current is not None and self._current[0] == number:
            return self._current
        lead = max(number - self.interlaced, 0)
        if not self._ahead_of(lead):
            self._seek(lead)
        self._target = int(self.index.pts[lead])
        self._go_on_to(number)
        return self._current

    def _go_on_to(self, number: int) -> None:
        """Make current the first frame from this one on."""
        while self._current is not None and self._current[0] < number:
            self._before = self._current[1]
            self._current, self._after = self._after or next(self._frames, None), None

    def _deinterlaced(self, decoded: tuple[int, Any]) -> Any:
        """Return the picture of the current frame; one of two fields is compared with those before and after it."""
        number, picture = decoded
        if not picture.interlaced_frame:
            return picture
        if not self.interlaced:  # so the frame before it may have been skipped
            self.interlaced, self._current = True, None
            self._decode_to(number)
        return self._joined(picture)

    def _joined(self, picture: Any) -> Any:
        """Return the current picture, its two fields joined where it has them."""
        if not picture.interlaced_frame:
            return picture
        if self._after is None:
            self._after = next(self._frames, None)
        return self._deinterlacer.joined(self._before, picture, None if self._after is None else self._after[1])

    def _ahead_of(self, number: int) -> bool:
        """Return whether decoding on leads to this frame sooner than a seek does."""
        if self._current is None or self._current[0] > number:
            return False
        here = self._current[0]
        key = self.index.key_before(number)
        return number - here <= READ_ON or key < 0 or self.index.keys[key] <= self.index.pts[here]

    def _seek(self, number: int) -> None:
        """Make current the first frame decoded from a key frame at or before this frame."""
        self._target = int(self.index.pts[number])
        key = self.index.key_before(number)
        for back in range(key, max(key - 2, -1), -1):
            with suppress(*broken()):
                self._media.container.seek(int(self.index.keys[back]), stream=self._stream)
            packets = self._media.packets(self._stream)
            first = next((packet for packet in packets if packet.is_keyframe), None)
            if first is None or first.pts is None or first.pts > self.index.keys[key]:
                continue
            self._begin(chain([first], packets), None)
            # Where pictures are refreshed bit by bit, the first whole one comes later, and is not quite the same.
            if self._current is not None and self._current[0] <= np.searchsorted(self.index.pts, first.pts):
                return
        self._rewind()

    def _decode(self, packets: Iterator[Any], before: int | None) -> Iterator[tuple[int, Any]]:
        """Yield number and picture of what comes out of the decoder; ``before``: the frame ahead of the first."""
        numbers = count()
        limit = TimeLimit(self._media.timeout_s, threads=self._stream.codec_context.thread_count)
        for packet in chain(packets, [None]):
            self._skip_unreferenced(packet)
            pictures: list[Any] = []
            try:
                pictures = [] if packet is not None and is_excessive(packet) else self._pictures_of(packet)
            except broken():
                # One damaged packet, and a later one may be whole; or it is the hardware that cannot decode it.
                if self.decoder == "nvdec":
                    going_on = self._go_on_in_software(before)
                    if going_on is not None:
                        yield going_on
                    return
            for picture in pictures:
                number = next(numbers) if self.index.counted else self.index.number_of(picture.pts, before)
                if number is not None:
                    before = number
                    yield number, picture
                    limit.restart()
            check_deadline()
            if limit.is_up:
                raise self._media.too_slow(starved=limit.starved)

    def _pictures_of(self, packet: Any | None) -> list[Any]:
        """Return what the decoder makes of a packet, in the layout of the processor's decoder."""
        pictures: list[Any] = self._stream.decode(packet)
        if self.decoder == "software":
            return pictures
        return [nvdec.planar(picture, self.facts.pixel_format) for picture in pictures]

    def _skip_unreferenced(self, packet: Any | None) -> None:
        """Have the decoder leave out frames that no frame from the target on is decoded from."""
        # Only H.264 marks them reliably; frames of HEVC's upper layers may refer to what it calls unreferenced.
        if self._stream.codec_context.name == "h264":
            early = packet is not None and packet.pts is not None and packet.pts < self._target
            self._stream.codec_context.skip_frame = "NONREF" if early and not self.index.counted else "DEFAULT"

    def _describe(self) -> StreamFacts:
        assert self._current is not None
        picture, index = self._current[1], self.index
        self._picture_bytes = sum(plane.buffer_size for plane in picture.planes)
        return StreamFacts(
            width=self.renderer.width,
            height=self.renderer.height,
            rotation=self.renderer.orientation.clockwise,
            fps=index.fps,
            frame_count=len(index.pts),
            duration=round(float(index.end_time), 6),
            has_audio=bool(self._media.container.streams.audio),
            codec=self._stream.codec_context.codec.canonical_name,
            pixel_format=picture.format.name,
        )


def _failures() -> tuple[type[Exception], ...]:
    """Return what a decoder raises on a file, whether or not it was turned into an error for clients."""
    return (InvalidMedia, *broken())
