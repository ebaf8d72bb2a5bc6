"""H.264 and AAC, streamed while they are encoded.

x264 and FFmpeg's AAC encoder come in the wheel of PyAV; no program is run, and the only options are those of
``EncoderOptions``. The first bytes leave after a few frames, and memory does not grow with the length of the clip.
"""

import math
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any, BinaryIO, Final

import numpy as np

from vision.media.audio import Samples, Sound, rate_of
from vision.media.container import SOUND_CODECS, MediaFile, open_output
from vision.media.overlay import Overlay, Planes, timecode
from vision.media.plan import BoxTrack, ClipPlan, Part
from vision.media.reader import VideoReader
from vision.media.render import Colours, Orientation, matrix_of
from vision.media.segments import segment

CHUNK_BYTES: Final = 64 * 1024
TICKS: Final = 90_000
"""Ticks a second of the output's time base: that of MPEG-TS, fine enough for any frame rate."""
SOUND_AHEAD_S: Final = 0.2
"""The muxer waits for both streams, and the audio encoder needs some sound before it gives any."""
PACKET: Final = 1024
"""Samples of a packet of AAC, and those that its encoder adds before its input. They replace the first 21 ms, as not
every container that is sent while it is written can mark them as padding."""
WARM_UP: Final = 8
"""Packets that an AAC encoder makes before the first of a segment, so that it goes on as the one before would have."""
RUN_ON: Final = 3
"""Packets' worth of sound behind the last one of a segment, which an AAC encoder looks ahead to."""
KEY_EVERY_S: Final = 2.0

# Without B-frames and with a short lookahead the first packet comes after five frames. Each thread has a frame of its
# own: slices of one frame would leave a processor idle for a third of the time, and take more bytes.
X264: Final = {"bf": "0", "x264-params": "rc-lookahead=2:sync-lookahead=0"}
X264_THREADS: Final = 2
X264_SIDE: Final = 16384
"""Pixels of the longest side that x264 takes; what is longer is shrunk."""

FRAGMENTS: Final = "frag_keyframe+empty_moov+default_base_moof"
MUXERS: Final = {
    "clip": ("mpegts", {"flush_packets": "1"}),
    # A fragment each half second: no part of the file is written twice, so it can be played while it is written.
    "overlay": ("mp4", {"movflags": FRAGMENTS, "frag_duration": "500000"}),
    # Their clock goes on from segment to segment, and nothing follows the last fragment.
    "segment": (
        "mp4",
        {
            "movflags": f"{FRAGMENTS}+frag_discont+skip_trailer",
            "frag_duration": "500000",
            "avoid_negative_ts": "disabled",
        },
    ),
}
CONTENT_TYPES: Final = {"clip": "video/mp2t", "overlay": "video/mp4"}
SEGMENT_TYPE: Final = b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix"
"""The box that a media segment begins with, by ISO/IEC 23009-1."""
FRAGMENTS_OF_SEGMENT: Final = 100
"""More than a segment has, so that fragments of different segments have different numbers."""

EMPTY_PACKET: Final = bytes.fromhex("471fff10") + b"\xff" * 184
"""A packet of MPEG-TS that is only there to fill."""
LEAST_PACKETS: Final = 16
"""FFmpeg does not recognise every MPEG-TS of fewer packets."""

Opener = Callable[[], BinaryIO]
"""Opens the file of a video once more."""


class Sink:
    """A write-only file without positions that keeps what a muxer writes until it is taken."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.written = 0

    def write(self, data: bytes) -> int:
        self._bytes += data
        self.written += len(data)
        return len(data)

    def take(self, at_least: int = 1) -> bytes:
        """Return all bytes since the last call, or none while there are fewer than ``at_least``."""
        if len(self._bytes) < at_least:
            return b""
        data = bytes(self._bytes)
        self._bytes.clear()
        return data


def encode(
    reader: VideoReader, reopen: Opener, plan: ClipPlan, boxes: BoxTrack | None = None
) -> Generator[bytes, None, None]:
    """Yield the bytes of a ``clip``, an ``overlay``, or of a segment, encoded anew; upright, times between frames kept.

    ``reader`` gives the pictures, ``reopen`` the same file once more for its sound. Frames that cannot be decoded are
    left out, sound that cannot is silence. Raises FrameOutOfRange, InvalidInput, InvalidMedia and SegmentNotFound
    before any byte.
    """
    times = reader.times
    whole = plan.part(times, reader.facts.duration)
    part = whole if plan.segment is None else segment(times, whole, plan.segment)
    # Raise what is wrong with the video before any byte is sent. Segments have the colours that their header names.
    renderer = reader.renderer
    colours = renderer.colours if plan.segmented else renderer.converted_colours(reader.picture(part.first))
    muxer, options = MUXERS["segment" if plan.segmented else plan.action]
    if plan.segment is not None:
        options = options | {"fragment_index": str(plan.segment * FRAGMENTS_OF_SEGMENT + 1)}
    sink = Sink()
    with ExitStack() as stack:
        output = stack.enter_context(open_output(sink, muxer, options))
        video = _Video(output, reader, colours, plan, boxes)
        sound = _Sound.of(output, stack, reopen, reader, whole, part) if plan.audio else None
        if plan.segmented:
            output.start_encoding()
            header = sink.take()
            if plan.segment is None:
                yield header
                return
            sink.write(SEGMENT_TYPE)
        begun = False
        for number, frame in video.frames(part):
            at = max(float(times[number]), part.start) - whole.start
            frame.pts = round(at * TICKS)
            frame.duration = round((min(reader.end_of(number), part.end) - whole.start) * TICKS) - frame.pts
            output.mux(video.encode(frame))
            for packets in sound.until(at + SOUND_AHEAD_S) if sound else ():
                output.mux(packets)
                yield sink.take(CHUNK_BYTES)
            chunk = sink.take(CHUNK_BYTES if begun else 1)
            begun = begun or bool(chunk)
            yield chunk
        for packets in sound.until(whole.end - whole.start) if sound else ():
            output.mux(packets)
            yield sink.take(CHUNK_BYTES)
        output.mux(video.encode(None))
        if sound:
            output.mux(sound.encode(None))
    missing = LEAST_PACKETS - sink.written // len(EMPTY_PACKET) if muxer == "mpegts" else 0
    yield sink.take() + EMPTY_PACKET * max(missing, 0)


class _Video:
    """The pictures of a clip and their encoder."""

    def __init__(
        self, output: Any, reader: VideoReader, colours: Colours, plan: ClipPlan, boxes: BoxTrack | None
    ) -> None:
        """Set up the encoder; ``colours`` are those of the output."""
        from av.codec.context import Flags
        from av.video.reformatter import ColorRange, VideoReformatter

        self._reader, self._renderer, self._plan, self._boxes = reader, reader.renderer, plan, boxes
        self._reformatter = VideoReformatter()
        facts = reader.facts
        # 4:2:0 stores colours for squares of four pixels only.
        shrink = max(1.0, max(facts.width, facts.height) / X264_SIDE)
        self._width, self._height = (max(2, int(side / shrink) // 2 * 2) for side in (facts.width, facts.height))
        self._stream = output.add_stream("libx264", rate=Fraction(max(facts.fps, 1.0)).limit_denominator(1001))
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = self._stream.time_base = Fraction(1, TICKS)
        context.thread_count, context.thread_type = X264_THREADS, "FRAME"
        context.flags |= Flags.frame_duration
        self._matrix, context.color_primaries, context.color_trc = colours
        self._overlay = Overlay(self._width, self._height, self._matrix)
        context.color_range, context.colorspace = ColorRange.MPEG, self._matrix
        context.gop_size = max(1, round(facts.fps * KEY_EVERY_S))
        context.options = {"preset": plan.encoder.preset, "crf": str(plan.encoder.crf), **X264}

    def encode(self, frame: Any | None) -> Any:
        return self._stream.encode(frame)

    def frames(self, part: Part) -> Iterator[tuple[int, Any]]:
        """Yield number and PyAV frame to encode; only those whose colours change are ever converted to RGB."""
        from av.video.frame import PictureType

        draws = bool(self._plan.caption or self._boxes)
        for number, picture in self._pictures(part):
            frame = self._converted(picture)
            if draws:
                # What needs no conversion is the picture itself, which the decoder predicts later ones from.
                frame = _turned(frame, Orientation()) if frame is picture else frame
                self._draw(planes_of(frame), number)
            # A type that a decoder has set would be an order to the encoder.
            frame.pict_type, frame.time_base = PictureType.NONE, Fraction(1, TICKS)
            yield number, frame

    def _pictures(self, part: Part) -> Iterator[tuple[int, Any]]:
        """Yield number and picture of those that can be decoded; of a segment there is one in any case."""
        number = None
        for number, picture in self._reader.pictures(part.first, part.last + 1):
            yield number, picture
        if number is None and self._plan.segment is not None:
            yield part.first, self._reader.keyframe(part.start)

    def _converted(self, picture: Any) -> Any:
        """Return a picture as the encoder takes it: upright, YUV 4:2:0, in the size and colours of the output."""
        from av import VideoFrame
        from av.video.reformatter import ColorRange

        renderer, frame, matrix = self._renderer, picture, matrix_of(picture)
        orientation = renderer.orientation
        if renderer.changes_colours(picture):
            frame, matrix = VideoFrame.from_ndarray(renderer.pixels(picture), format="rgb24"), self._matrix
            orientation = Orientation()
        frame = self._reformatter.reformat(
            frame,
            *orientation.size(self._width, self._height),
            "yuv420p",
            src_colorspace=matrix,
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation="BICUBIC" if renderer.resizes(picture) else "BILINEAR",
            threads=1,
        )
        return _turned(frame, orientation) if orientation.turns else frame

    def _draw(self, planes: Planes, number: int) -> None:
        across, down = self._width / self._reader.facts.width, self._height / self._reader.facts.height
        boxes = () if self._boxes is None else self._boxes.at(number)
        caption = ""
        if self._plan.caption:
            caption = f"{self._plan.caption}  frame {number}  {timecode(float(self._reader.times[number]))}"
        self._overlay.draw(planes, (box.scaled(across, down) for box in boxes), caption)


def planes_of(frame: Any) -> Planes:
    """Return Y, U and V of a PyAV VideoFrame in yuv420p, to be written to."""
    rows = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes)
    y, u, v = (samples[: plane.height, : plane.width] for samples, plane in zip(rows, frame.planes, strict=True))
    return y, u, v


def _turned(frame: Any, orientation: Orientation) -> Any:
    """Return a frame in yuv420p turned upright; the result shares no memory with it."""
    from av import VideoFrame

    turned = VideoFrame(*orientation.size(frame.width, frame.height), "yuv420p")
    for target, source in zip(planes_of(turned), planes_of(frame), strict=True):
        target[:] = orientation.upright(source) if orientation.turns else source
    return turned


class _Sound:
    """The sound of a clip and its encoder. What it takes and gives is counted from the start of the whole clip.

    A segment has those packets of the whole that begin within it. Some more are made before and behind them, which
    the encoder needs to make these as if it had made all of them.
    """

    def __init__(self, output: Any, sound: Sound, packets: range, skipped: int) -> None:
        """Set up the encoder; ``packets`` are those to keep, ``skipped`` those that are not even made."""
        self._sound, self._packets = sound, packets
        self._stream = output.add_stream("aac", rate=sound.rate, layout="stereo")
        self._start = skipped * PACKET
        self._encoded = self._start + sound.take(PACKET / sound.rate).shape[1]

    @classmethod
    def of(
        cls, output: Any, stack: ExitStack, reopen: Opener, reader: VideoReader, whole: Part, part: Part
    ) -> "_Sound | None":
        """Return the sound of a ``part`` of the ``whole``; None when the file has none."""
        media = stack.enter_context(MediaFile(stack.enter_context(reopen()), probed=True, codecs=SOUND_CODECS))
        stream = media.audio()
        if stream is None:
            return None
        origin, a_second = reader.index.origin + whole.start, rate_of(stream) / PACKET
        first = math.ceil((part.start - whole.start) * a_second)
        is_last = part.end >= whole.end
        behind = sys.maxsize if is_last else math.ceil((part.end - whole.start) * a_second)
        skipped = max(first - WARM_UP, 0)
        end = math.inf if is_last else origin + (behind + RUN_ON) / a_second
        sound = Sound(media, stream, origin + skipped / a_second, min(end, reader.index.origin + whole.end))
        return cls(output, sound, range(first, behind), skipped)

    def until(self, seconds: float) -> Iterator[Any]:
        """Yield packets up to this time from the start, a second at a time, as one picture may be shown for hours."""
        from av import AudioFrame

        rate = self._sound.rate
        while (samples := self._take(min(seconds, self._encoded / rate + 1))).shape[1]:
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, self._encoded
            frame.time_base = Fraction(1, rate)
            self._encoded += samples.shape[1]
            yield self.encode(frame)

    def encode(self, frame: Any | None) -> list[Any]:
        return [packet for packet in self._stream.encode(frame) if packet.pts // PACKET in self._packets]

    def _take(self, until: float) -> Samples:
        return self._sound.take(until - self._start / self._sound.rate)
