"""Copies part of a video without encoding it anew: its packets, in a container that can be sent while it is written."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO, Final

import numpy as np

from vision.errors import InvalidInput, InvalidMedia
from vision.media.container import MediaFile, broken, open_output
from vision.media.encoder import CHUNK_BYTES, Opener, Sink
from vision.media.plan import LONG_S, ClipPlan, Part
from vision.media.reader import VideoReader
from vision.media.stamps import MISSING

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

TAGS: Final = {tag: tag for tag in ("avc1", "avc3", "hvc1", "hev1", "av01", "vp09")} | {
    "dva1": "avc1",
    "dvav": "avc3",
    "dvh1": "hvc1",
    "dvhe": "hev1",
}
"""How a copy in MP4 names a codec, by its name in the source: players take hvc1 for other than hev1. Dolby Vision is
named after the codec below it, as its own description does not come along."""


def copied_part(reader: VideoReader, plan: ClipPlan) -> Part:
    """Return the part that a copy holds, which begins at the key frame at or before the first frame asked for.

    Raises FrameOutOfRange, and InvalidInput for a video whose frames can only be counted.
    """
    index = reader.index
    part = plan.part(reader.times, reader.facts.duration)
    if index.counted:
        raise InvalidInput("This video does not store the times of its frames, so they have to be encoded anew.")
    place = index.key_before(part.first)
    first = int(index.pts.searchsorted(index.keys[place])) if place >= 0 else 0
    return part if first == part.first else part._replace(first=first, start=float(reader.times[first]))


def copied_type(reader: VideoReader, reopen: Opener, plan: ClipPlan) -> str:
    """Return the content type of a copy."""
    with reopen() as file, _opened(reader, file) as media:
        return CONTENT_TYPES[_muxer(reader, media, plan)]


def copy(reader: VideoReader, reopen: Opener, plan: ClipPlan) -> Generator[bytes, None, None]:
    """Yield the bytes of a copy of ``copied_part``; ``reopen`` opens the file of ``reader`` once more.

    Raises InvalidInput, FrameOutOfRange and InvalidMedia before any byte.
    """
    import av

    selection = _Selection(reader, plan)
    sink = Sink()
    with ExitStack() as stack:
        media = stack.enter_context(_opened(reader, stack.enter_context(reopen())))
        packets = selection.packets(media, audio=plan.audio)
        first = next(packets, None)
        if first is None:
            raise media.damaged()
        muxer = _muxer(reader, media, plan)
        output = stack.enter_context(open_output(sink, muxer, OPTIONS.get(muxer, {})))
        targets = {s.index: _target(output, s, muxer) for s in _streams(media, audio=plan.audio)}
        latest: dict[int, int] = {}
        try:
            for packet in chain([first], packets):
                number, shift = packet.stream_index, round(selection.start / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                if packet.dts is not None:
                    # A wrong stamp of the file would end the copy; no packet is decoded after it is shown.
                    packet.dts = max(packet.dts - shift, latest.get(number, MISSING) + 1)
                    packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                    latest[number] = packet.dts
                packet.stream = targets[number]
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
        part = copied_part(reader, plan)
        self._first, self._last = part.first, part.last
        begin, behind = int(index.pts[part.first]), int(np.append(index.pts, index.end)[part.last + 1])
        # Ticks where the part is not cut, as they are exact.
        cut = part.start > reader.times[part.first], part.end < reader.end_of(part.last)
        origin = Fraction(index.origin)
        self.start = origin + Fraction(part.start) if cut[0] else begin * index.time_base
        self.end = origin + Fraction(part.end) if cut[1] else behind * index.time_base

    def packets(self, media: MediaFile, *, audio: bool) -> Iterator[Any]:
        """Yield those of the pictures in decoding order, and of the sound beside them."""
        video = media.video(1).index
        remaining = self._last - self._first + 1
        for packet in self._from_key(media, audio=audio):
            time = _time(packet)
            if packet.stream_index == video and remaining:
                number = self._number(packet)
                remaining -= number is not None and self._first <= number <= self._last
                self._hold(packet, number)
                yield packet
            elif packet.stream_index != video and self.start <= time < self.end:
                yield packet
            elif not remaining and (not audio or time > self.end + SOUND_BEHIND_S):
                return

    def _number(self, packet: Any) -> int | None:
        """Return which frame a packet holds, and repair its stamp."""
        pts = self._index.pts_of(packet)
        if pts is not None and pts != packet.pts:
            packet.pts, packet.dts = pts, None if packet.dts is None else min(packet.dts, pts)
        return self._index.frame_at(pts)

    def _is_before(self, packet: Any, key: int) -> bool:
        pts = self._index.pts_of(packet)
        return pts is not None and pts < key

    def _hold(self, packet: Any, number: int | None) -> None:
        """Have the first frame begin, and the last one end, with the part."""
        if number == self._first and (late := round(self.start / packet.time_base) - packet.pts) > 0:
            packet.pts += late
            packet.dts = None if packet.dts is None else packet.dts + late
        if number == self._last and (lasts := self.end - packet.pts * packet.time_base) > LONG_S:
            packet.duration = round(lasts / packet.time_base)

    def _from_key(self, media: MediaFile, *, audio: bool) -> Iterator[Any]:
        """Return packets from the key packet that shows the first frame, wherever a seek lands."""
        place = self._index.key_before(self._first)
        keys = self._index.keys
        # Without one the stamp of the first packet is wrong, so that no seek leads to it.
        key = int(keys[place] if place >= 0 else self._index.pts[0])
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
            elif (pts := self._index.pts_of(packet)) == key:
                # Pictures that follow it and are shown before it cannot be decoded in the copy.
                later = (p for p in packets if p.stream_index != video or not self._is_before(p, key))
                return chain(beside, [packet], later)
            elif packet.is_keyframe and pts is not None and pts > key:
                return None
        return None


def _muxer(reader: VideoReader, media: MediaFile, plan: ClipPlan) -> str:
    """Return the container of a copy of this file, by FFmpeg's name.

    Raises InvalidInput where an edit list hides pictures that the container would show.
    """
    codecs = {stream.codec_context.codec.canonical_name for stream in _streams(media, audio=plan.audio)}
    muxer = PREFERRED[media.name]
    muxer = muxer if codecs <= HOLDS[muxer] else "matroska"
    index, first = reader.index, copied_part(reader, plan).first
    key = index.key_before(first)
    if muxer != "mp4" and media.name == "mov" and key >= 0 and index.keys[key] < index.pts[first]:
        raise InvalidInput(
            "The first pictures of this part are hidden by an edit list, which no container for its codecs has; "
            "ask for a clip, which is encoded anew."
        )
    return muxer


def _opened(reader: VideoReader, file: BinaryIO) -> MediaFile:
    """Return the file of a reader opened once more, for the packets of the same stream."""
    media = MediaFile(file, probed=True)
    media.chosen = reader.stream
    return media


def _target(output: Any, stream: Any, muxer: str) -> Any:
    try:
        target = output.add_stream_from_template(stream, opaque=True)
    except ValueError:  # the muxer does not accept it
        message = f"{stream.codec_context.name} cannot be copied; ask for a clip, which is encoded anew."
        raise InvalidInput(message) from None
    if muxer == "mp4" and (tag := TAGS.get(stream.codec_context.codec_tag)):
        target.codec_context.codec_tag = tag
    return target


def _streams(media: MediaFile, *, audio: bool) -> list[Any]:
    streams = [media.video(1), media.audio() if audio else None]
    return [stream for stream in streams if stream is not None]


def _time(packet: Any) -> Fraction:
    stamp = packet.dts if packet.pts is None else packet.pts
    return Fraction(0) if stamp is None else stamp * packet.time_base
