"""A stretch of a video without encoding it anew: its packets, in a container that can be sent while it is written."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from typing import Any, Final

from deployments.serving.streams import ByteGenerator
from vision.errors import InvalidInput, InvalidMedia
from vision.media.container import DAMAGED, MediaFile, broken
from vision.media.encoder import Opener
from vision.media.plan import ClipPlan
from vision.media.reader import VideoReader
from vision.media.sink import CHUNK_BYTES, Sink

CONTENT_TYPES: Final = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "matroska": "video/x-matroska",
    "mpegts": "video/mp2t",
}
# The moov box waits for the first fragment: its edit list leaves out what is there only to decode the first frame by.
FRAGMENTS: Final = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "2000000",
    "avoid_negative_ts": "disabled",
}
OPTIONS: Final = {"mp4": FRAGMENTS}
SOUND_BEHIND_S: Final = 1
"""How far sound may lie behind the pictures that it belongs to."""

# What players expect in each container, of all that its muxer would take.
HOLDS: Final = {
    "mp4": {"h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    "webm": {"vp8", "vp9", "av1", "opus", "vorbis"},
    "mpegts": {"h264", "hevc", "mpeg1video", "mpeg2video", "aac", "mp2", "mp3", "ac3", "eac3"},
}
PREFERRED: Final = {"mov": "mp4", "matroska": "webm", "mpegts": "mpegts", "avi": "mp4"}
"""By FFmpeg's name of the source; Matroska takes everything."""


def copied_frames(reader: VideoReader, plan: ClipPlan) -> tuple[int, int]:
    """First and last frame that a copy holds: it begins at the key frame at or before the first one asked for."""
    index = reader.index
    first, last = plan.frames(reader.times)
    if index.counted:
        raise InvalidInput("This video does not tell the times of its frames, so they have to be encoded anew.")
    key = max(index.key_before(first), 0)
    return int(index.pts.searchsorted(index.keys[key])), last


def copied_type(reopen: Opener, plan: ClipPlan) -> str:
    """The content type of a copy."""
    with reopen() as file:
        media = MediaFile(file)
        try:
            return CONTENT_TYPES[_muxer(media, audio=plan.audio)]
        finally:
            media.close()


def copy(reader: VideoReader, reopen: Opener, plan: ClipPlan) -> ByteGenerator:
    """The packets of a stretch; see ``copied_frames``. ``reopen`` opens the file of ``reader`` once more.

    Raises InvalidInput, FrameOutOfRange and InvalidMedia before any byte.
    """
    import av

    stretch = _Stretch(reader, plan)
    sink = Sink()
    with ExitStack() as stack:
        media = MediaFile(stack.enter_context(reopen()))
        stack.callback(media.close)
        packets = stretch.packets(media, audio=plan.audio)
        first = next(packets, None)
        if first is None:
            raise InvalidMedia(DAMAGED)
        muxer = _muxer(media, audio=plan.audio)
        output = stack.enter_context(av.open(sink, "w", format=muxer, options=OPTIONS.get(muxer, {})))
        targets = {s.index: _target(output, s) for s in _streams(media, audio=plan.audio)}
        try:
            for packet in chain([first], packets):
                shift = round(stretch.start / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = targets[packet.stream_index]
                output.mux(packet)
                yield sink.take(CHUNK_BYTES)
        except av.FFmpegError as error:
            raise InvalidMedia(
                "The packets of this video fit into no container as they are; encode it anew."
            ) from error
    yield sink.take()


class _Stretch:
    """Which packets a copy takes; ``start`` and ``end`` in seconds of the container's clock."""

    def __init__(self, reader: VideoReader, plan: ClipPlan) -> None:
        self._index = index = reader.index
        self._first, self._last = copied_frames(reader, plan)
        self.start = int(index.pts[self._first]) * index.time_base
        behind = index.end if self._last + 1 == len(index.pts) else int(index.pts[self._last + 1])
        self.end = behind * index.time_base

    def packets(self, media: MediaFile, *, audio: bool) -> Iterator[Any]:
        """Those of the pictures in decoding order, and of the sound beside them."""
        video = media.video(1).index
        left = self._last - self._first + 1
        for packet in self._from_key(media, audio=audio):
            time = _time(packet)
            if packet.stream_index == video and left:
                number = self._index.number_of(packet.pts)
                left -= number is not None and self._first <= number <= self._last
                yield packet
            elif packet.stream_index != video and self.start <= time < self.end:
                yield packet
            elif not left and (not audio or time > self.end + SOUND_BEHIND_S):
                return

    def _from_key(self, media: MediaFile, *, audio: bool) -> Iterator[Any]:
        """Packets from the key packet that shows the first frame, wherever a seek lands."""
        place = self._index.key_before(self._first)
        key, keys = int(self._index.keys[max(place, 0)]), self._index.keys
        for back in (place, place - 1):
            if back >= 0:
                with suppress(*broken()):
                    media.container.seek(int(keys[back]), stream=media.video(1))
                if (packets := self._found(media, key, audio=audio)) is not None:
                    return packets
        media.reopen()
        return self._found(media, key, audio=audio) or iter(())

    def _found(self, media: MediaFile, key: int, *, audio: bool) -> Iterator[Any] | None:
        video = media.video(1).index
        beside: list[Any] = []
        packets = media.packets(*_streams(media, audio=audio))
        for packet in packets:
            if packet.stream_index != video:
                beside += [packet] if _time(packet) >= self.start else []
            elif packet.pts == key:
                # Pictures that follow it and are shown before it cannot be decoded here.
                later = (p for p in packets if p.stream_index != video or p.pts is None or p.pts >= key)
                return chain(beside, [packet], later)
            elif packet.is_keyframe and packet.pts is not None and packet.pts > key:
                return None
        return None


def _muxer(media: MediaFile, *, audio: bool) -> str:
    """The container, by FFmpeg's name, that a copy of this file comes in."""
    codecs = {stream.codec_context.codec.canonical_name for stream in _streams(media, audio=audio)}
    muxer = PREFERRED[media.name]
    return muxer if codecs <= HOLDS[muxer] else "matroska"


def _target(output: Any, stream: Any) -> Any:
    try:
        return output.add_stream_from_template(stream, opaque=True)
    except ValueError:  # the muxer does not take it
        message = f"{stream.codec_context.name} cannot be copied; it has to be encoded anew."
        raise InvalidInput(message) from None


def _streams(media: MediaFile, *, audio: bool) -> list[Any]:
    found = [media.video(1), media.audio() if audio else None]
    return [stream for stream in found if stream is not None]


def _time(packet: Any) -> Fraction:
    stamp = packet.dts if packet.pts is None else packet.pts
    return Fraction(0) if stamp is None else stamp * packet.time_base
