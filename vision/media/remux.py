"""Copies part of a video without encoding it anew: its packets, in a container that can be sent while it is written."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from typing import Any, Final

from vision.errors import InvalidInput, InvalidMedia
from vision.media.container import MediaFile, broken, open_output
from vision.media.encoder import CHUNK_BYTES, Opener, Sink
from vision.media.plan import ClipPlan
from vision.media.reader import VideoReader

CONTENT_TYPES: Final = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "matroska": "video/x-matroska",
    "mpegts": "video/mp2t",
}
# The moov box waits for the first fragment: its edit list hides what is there only to decode the first frame.
FRAGMENTS: Final = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "2000000",
    "avoid_negative_ts": "disabled",
}
# Matroska's random numbers would make every copy of the same part other bytes, and ranges of two fit no player.
REPEATABLE: Final = {"fflags": "+bitexact"}
OPTIONS: Final = {"mp4": FRAGMENTS, "webm": REPEATABLE, "matroska": REPEATABLE}
SOUND_BEHIND_S: Final = 1
"""How far sound may come behind its pictures in the file, in seconds."""

# The codecs that players expect in each container, out of all that its muxer accepts.
HOLDS: Final = {
    "mp4": {"h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    "webm": {"vp8", "vp9", "av1", "opus", "vorbis"},
    "mpegts": {"h264", "hevc", "mpeg1video", "mpeg2video", "aac", "mp2", "mp3", "ac3", "eac3"},
}
PREFERRED: Final = {"mov": "mp4", "matroska": "webm", "mpegts": "mpegts", "avi": "mp4"}
"""The container of a copy, by FFmpeg's name of the source; Matroska takes every other codec."""


def copied_frames(reader: VideoReader, plan: ClipPlan) -> tuple[int, int]:
    """Return first and last frame of a copy, which begins at the key frame at or before the first one asked for.

    Raises FrameOutOfRange, and InvalidInput for a video whose frames can only be counted.
    """
    index = reader.index
    first, last = plan.frames(reader.times)
    if index.counted:
        raise InvalidInput("This video does not store the times of its frames, so they have to be encoded anew.")
    key = max(index.key_before(first), 0)
    return int(index.pts.searchsorted(index.keys[key])), last


def copied_type(reopen: Opener, plan: ClipPlan) -> str:
    """Return the content type of a copy."""
    with reopen() as file, MediaFile(file) as media:
        return CONTENT_TYPES[_muxer(media, audio=plan.audio)]


def copy(reader: VideoReader, reopen: Opener, plan: ClipPlan) -> Generator[bytes, None, None]:
    """Yield the bytes of a copy of ``copied_frames``; ``reopen`` opens the file of ``reader`` once more.

    Raises InvalidInput, FrameOutOfRange and InvalidMedia before any byte.
    """
    import av

    selection = _Selection(reader, plan)
    sink = Sink()
    with ExitStack() as stack:
        media = stack.enter_context(MediaFile(stack.enter_context(reopen())))
        packets = selection.packets(media, audio=plan.audio)
        first = next(packets, None)
        if first is None:
            raise media.damaged()
        muxer = _muxer(media, audio=plan.audio)
        output = stack.enter_context(open_output(sink, muxer, OPTIONS.get(muxer, {})))
        targets = {s.index: _target(output, s) for s in _streams(media, audio=plan.audio)}
        try:
            for packet in chain([first], packets):
                shift = round(selection.start / packet.time_base)
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


class _Selection:
    """The packets of a copy; ``start`` and ``end`` in seconds of the container's clock."""

    def __init__(self, reader: VideoReader, plan: ClipPlan) -> None:
        self._index = index = reader.index
        self._first, self._last = copied_frames(reader, plan)
        self.start = int(index.pts[self._first]) * index.time_base
        behind = index.end if self._last + 1 == len(index.pts) else int(index.pts[self._last + 1])
        self.end = behind * index.time_base

    def packets(self, media: MediaFile, *, audio: bool) -> Iterator[Any]:
        """Yield those of the pictures in decoding order, and of the sound beside them."""
        video = media.video(1).index
        remaining = self._last - self._first + 1
        for packet in self._from_key(media, audio=audio):
            time = _time(packet)
            if packet.stream_index == video and remaining:
                number = self._index.number_of(packet.pts)
                remaining -= number is not None and self._first <= number <= self._last
                yield packet
            elif packet.stream_index != video and self.start <= time < self.end:
                yield packet
            elif not remaining and (not audio or time > self.end + SOUND_BEHIND_S):
                return

    def _from_key(self, media: MediaFile, *, audio: bool) -> Iterator[Any]:
        """Return packets from the key packet that shows the first frame, wherever a seek lands."""
        place = self._index.key_before(self._first)
        key, keys = int(self._index.keys[max(place, 0)]), self._index.keys
        for back in (place, place - 1):
            if back >= 0:
                with suppress(*broken()):
                    media.container.seek(int(keys[back]), stream=media.video(1))
                if (packets := self._find_key(media, key, audio=audio)) is not None:
                    return packets
        media.reopen()
        return self._find_key(media, key, audio=audio) or iter(())

    def _find_key(self, media: MediaFile, key: int, *, audio: bool) -> Iterator[Any] | None:
        """Return packets from the key packet with this PTS; None when the current position is behind it."""
        video = media.video(1).index
        beside: list[Any] = []
        packets = media.packets(*_streams(media, audio=audio))
        for packet in packets:
            if packet.stream_index != video:
                beside += [packet] if _time(packet) >= self.start else []
            elif packet.pts == key:
                # Pictures that follow it and are shown before it cannot be decoded in the copy.
                later = (p for p in packets if p.stream_index != video or p.pts is None or p.pts >= key)
                return chain(beside, [packet], later)
            elif packet.is_keyframe and packet.pts is not None and packet.pts > key:
                return None
        return None


def _muxer(media: MediaFile, *, audio: bool) -> str:
    """Return the container of a copy of this file, by FFmpeg's name."""
    codecs = {stream.codec_context.codec.canonical_name for stream in _streams(media, audio=audio)}
    muxer = PREFERRED[media.name]
    return muxer if codecs <= HOLDS[muxer] else "matroska"


def _target(output: Any, stream: Any) -> Any:
    try:
        return output.add_stream_from_template(stream, opaque=True)
    except ValueError:  # the muxer does not accept it
        message = f"{stream.codec_context.name} cannot be copied; ask for a clip, which is encoded anew."
        raise InvalidInput(message) from None


def _streams(media: MediaFile, *, audio: bool) -> list[Any]:
    streams = [media.video(1), media.audio() if audio else None]
    return [stream for stream in streams if stream is not None]


def _time(packet: Any) -> Fraction:
    stamp = packet.dts if packet.pts is None else packet.pts
    return Fraction(0) if stamp is None else stamp * packet.time_base
