"""H.264 and AAC, handed on while they are encoded.

x264 and FFmpeg's AAC encoder come in the wheel of PyAV; nothing is run as a program, and the only options are those of
``EncoderOptions``. Bytes leave after a few frames, and what is kept for later does not grow with the stretch.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any, BinaryIO, Final

from deployments.serving.streams import ByteGenerator
from vision.images import Pixels
from vision.media.audio import Sound
from vision.media.container import MediaFile
from vision.media.overlay import Overlay, timecode
from vision.media.plan import BoxTrack, ClipPlan
from vision.media.reader import VideoReader
from vision.media.sink import CHUNK_BYTES, Sink

TICKS: Final = 90_000
"""Of a second, in the time base of the output: that of MPEG-TS, fine enough for any frame rate."""
SOUND_AHEAD_S: Final = 0.2
"""The muxer waits for both streams, and the encoder of sound needs some before it gives any."""
PRIMING: Final = 1024
"""Samples that AAC gives before the first that it was given. They stand in place of the first 21 ms, as not every
container that is sent while it is written can say that they do not count."""
KEY_EVERY_S: Final = 2.0

# Without B-frames, with a short lookahead and both threads on one frame, the first packet comes after three frames.
X264: Final = {"bf": "0", "x264-params": "rc-lookahead=2:sync-lookahead=0"}
X264_THREADS: Final = 2

MUXERS: Final = {
    "clip": ("mpegts", {"flush_packets": "1"}),
    # A fragment each half second: no part of the file is written twice, so it can be played while it is made.
    "overlay": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}),
}
CONTENT_TYPES: Final = {"clip": "video/mp2t", "overlay": "video/mp4"}

Opener = Callable[[], BinaryIO]
"""Opens the file of a video once more."""


def encode(reader: VideoReader, reopen: Opener, plan: ClipPlan, boxes: BoxTrack | None = None) -> ByteGenerator:
    """The stretch of a ``clip`` or an ``overlay``, encoded anew; upright, times between frames kept.

    ``reader`` gives the pictures, ``reopen`` the same file once more for its sound. Frames that cannot be decoded are
    left out, sound that cannot is silence. Raises FrameOutOfRange, InvalidInput and InvalidMedia before any byte.
    """
    import av

    times = reader.times
    first, last = plan.frames(times)
    end = reader.end_of(last)
    # Whatever is wrong with the video shows here.
    picture = reader.picture(first)
    muxer, options = MUXERS[plan.action]
    sink = Sink()
    with ExitStack() as stack:
        output = stack.enter_context(av.open(sink, "w", format=muxer, options=options))
        video = _Video(output, reader, picture, plan, boxes)
        sound = _Sound.of(output, stack, reopen, reader, times[first], end) if plan.audio else None
        begun = False
        for number, frame in video.frames(first, last + 1):
            frame.pts = round((times[number] - times[first]) * TICKS)
            output.mux(video.encode(frame))
            for packets in sound.until(float(times[number] - times[first]) + SOUND_AHEAD_S) if sound else ():
                output.mux(packets)
                yield sink.take(CHUNK_BYTES)
            chunk = sink.take(CHUNK_BYTES if begun else 1)
            begun = begun or bool(chunk)
            yield chunk
        for packets in sound.until(end - float(times[first])) if sound else ():
            output.mux(packets)
            yield sink.take(CHUNK_BYTES)
        output.mux(video.encode(None))
        if sound:
            output.mux(sound.encode(None))
    yield sink.take()


class _Video:
    """The pictures of a stretch and their encoder."""

    def __init__(self, output: Any, reader: VideoReader, first: Any, plan: ClipPlan, boxes: BoxTrack | None) -> None:
        """``first``: a picture that says which colours the numbers stand for."""
        from av.video.reformatter import ColorRange

        self._reader, self._plan, self._boxes = reader, plan, boxes
        facts = reader.facts
        # 4:2:0 has colours for squares of four pixels only.
        self._width, self._height = facts.width // 2 * 2, facts.height // 2 * 2
        self._overlay = Overlay(facts.width, facts.height)
        self._stream = output.add_stream("libx264", rate=Fraction(max(facts.fps, 1.0)).limit_denominator(1001))
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = self._stream.time_base = Fraction(1, TICKS)
        context.thread_count, context.thread_type = X264_THREADS, "SLICE"
        context.sample_aspect_ratio = reader.pixel_aspect
        context.color_range = ColorRange.MPEG
        context.colorspace, context.color_primaries = first.colorspace, first.color_primaries
        context.color_trc = first.color_trc
        context.gop_size = max(1, round(facts.fps * KEY_EVERY_S))
        context.options = {"preset": plan.encoder.preset, "crf": str(plan.encoder.crf), **X264}

    def encode(self, frame: Any | None) -> Any:
        return self._stream.encode(frame)

    def frames(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """PyAV frames as they are encoded; those that need no change are never turned into RGB and back."""
        from av import VideoFrame
        from av.video.frame import PictureType
        from av.video.reformatter import ColorRange, VideoReformatter

        converter = VideoReformatter()
        drawn = bool(self._plan.caption or self._boxes) or self._reader.orientation.turns
        for number, picture in self._reader.pictures(start, stop):
            frame = picture
            if drawn:
                pixels = self._reader.pixels(picture)
                self._draw(pixels, number)
                frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = converter.reformat(
                frame,
                self._width,
                self._height,
                "yuv420p",
                dst_colorspace=picture.colorspace,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            # As a decoder told it, the type would be an order to the encoder.
            frame.pict_type, frame.time_base = PictureType.NONE, Fraction(1, TICKS)
            yield number, frame

    def _draw(self, pixels: Pixels, number: int) -> None:
        if self._boxes is not None:
            self._overlay.boxes(pixels, self._boxes.at(number))
        if self._plan.caption:
            clock = timecode(float(self._reader.times[number]))
            self._overlay.caption(pixels, f"{self._plan.caption}  frame {number}  {clock}")


class _Sound:
    """The sound of a stretch and its encoder."""

    def __init__(self, output: Any, sound: Sound) -> None:
        self._sound = sound
        self._stream = output.add_stream("aac", rate=sound.rate, layout="stereo")
        self._given = sound.take(PRIMING / sound.rate).shape[1]

    @classmethod
    def of(
        cls, output: Any, stack: ExitStack, reopen: Opener, reader: VideoReader, start: float, end: float
    ) -> "_Sound | None":
        """None when the file has no sound."""
        media = MediaFile(stack.enter_context(reopen()))
        stack.callback(media.close)
        stream = media.audio()
        if stream is None:
            return None
        origin = reader.index.origin
        return cls(output, Sound(media, stream, origin + start, origin + end))

    def until(self, seconds: float) -> Iterator[Any]:
        """Packets of the sound up to this time from the start, a second at a time: a picture may stand for hours."""
        from av import AudioFrame

        while (samples := self._sound.take(min(seconds, self._given / self._sound.rate + 1))).shape[1]:
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = self._sound.rate, self._given
            frame.time_base = Fraction(1, self._sound.rate)
            self._given += samples.shape[1]
            yield self.encode(frame)

    def encode(self, frame: Any | None) -> Any:
        return self._stream.encode(frame)
