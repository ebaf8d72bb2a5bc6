"""Untrusted media in FFmpeg, and the only place that calls ``av.open``.

A file is read with listed demuxers and decoders, bounded time and memory, and access to nothing but its own bytes.
"""

import ctypes
import io
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from configs.settings import settings
from vision.deadlines import check_deadline, time_left
from vision.errors import DeadlineExceeded, InvalidMedia, StageError, StageUnavailable
from vision.media.claims import check_claims
from vision.media.sniff import spans
from vision.media.workload import is_excessive

TIMEOUT_S: Final = 20.0
OGG_HEADERS: Final = 256 * 1024
"""Bytes in which the first page with sound of an Ogg file is looked for."""
BUFFER_BYTES: Final = 256 * 1024
PROBE_BYTES: Final = 5_000_000
"""Bytes of packets in which FFmpeg looks for what the header of a file leaves out, and decodes some for that."""
PROBE_PACKETS: Final = 1000
"""Of a file of small packets it looks into no more than these."""
LEAST_PROBE_BYTES: Final = 2048
MAX_ALLOCATION: Final = 256 * 2**20  # bytes at once; an 8K frame of 4 bytes a pixel takes 133 MB

MP4_BEGINS: Final = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof"}
PLAIN: Final = {"wav", "w64", "aac", "mp3", "flac", "ogg"}
"""Demuxers of sounds: to open these nothing but a first block of sound is decoded."""
DEMUXERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,avi"

# The decoders worth trusting with a stranger's bytes, out of FFmpeg's five hundred.
SOUND_CODECS: Final = (
    "aac,alac,mp3,mp3float,mp2,mp2float,ac3,eac3,opus,libopus,vorbis,libvorbis,"
    "flac,amrnb,amrwb,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)
CODECS: Final = (
    "h264,hevc,av1,libdav1d,vp8,vp9,mpeg4,msmpeg4,msmpeg4v2,mpeg1video,mpeg2video,h263,mjpeg,prores,dnxhd,"
    f"rawvideo,dvvideo,ffv1,huffyuv,cinepak,{SOUND_CODECS}"
)
NO_CODECS: Final = "none"


class MediaFile:
    """One file, opened by FFmpeg; ``container`` is PyAV's InputContainer. Close it, or use it as a context manager.

    FFmpeg may read for ``timeout_s`` seconds to open the file, and again for each packet, but for no more than
    ``total_s`` in all; after that the file appears to end, so that whatever FFmpeg is doing ends too. ``demuxer`` is
    the only one that may read the file, by FFmpeg's name; without it any of ``DEMUXERS`` may. ``max_pixels`` bounds
    one frame; the default is the setting ``max_image_pixels``. ``label`` names the file in error messages. ``probed``
    says that this file was opened before, so that opening it takes no more than it should. ``codecs`` are those that
    may be decoded: FFmpeg decodes the first pictures of a film to open it, which ``SOUND_CODECS`` spare who wants only
    its sound, and ``NO_CODECS``, before ``allow``, who knows the film. A file object that is passed in stays open at
    ``close``.

    Raises InvalidMedia, and StageUnavailable where the time was up though the file took little of it to process.
    """

    container: Any = None
    chosen: int | None = None
    """Number of the stream whose frames count, after ``VideoReader`` has tried them."""
    hardware: Any = None
    """What decodes from the next ``reopen`` on, by PyAV's HWAccel; None for the processor."""

    def __init__(
        self,
        source: Path | BinaryIO,
        timeout_s: float = TIMEOUT_S,
        *,
        demuxer: str = "",
        max_pixels: int | None = None,
        total_s: float = math.inf,
        label: str = "video",
        probed: bool = False,
        codecs: str = CODECS,
    ) -> None:
        self.timeout_s = timeout_s
        self.label = label
        self._demuxer = demuxer
        self._decoder_options = {
            "codec_whitelist": codecs,
            "max_pixels": str(max_pixels or settings().max_image_pixels),
        }
        self._owned = source.open("rb") if isinstance(source, Path) else None
        file: BinaryIO = self._owned or source  # type: ignore[assignment]
        self._probed = probed
        self._probe_bytes = PROBE_BYTES
        life = TimeLimit(total_s)
        try:
            self._source, *links = (_Source(file, *span, timeout_s, life) for span in spans(file, demuxer))
            self._links = iter(links)
            self.reopen()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "MediaFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reopen(self) -> None:
        """Start again at the first byte, with new decoders."""
        self._close_container()
        _cap_allocations()
        with self.errors():
            if not self._source.checked and not self._probed:
                self._check()
            self._source.checked = True
            self.container = self._opened(self._decoder_options)

    def allow(self, codecs: str) -> None:
        """Let decoders that are not opened yet decode these codecs."""
        self._decoder_options["codec_whitelist"] = codecs

    def _opened(self, decoder_options: dict[str, str]) -> Any:
        import av

        options = {
            "format_whitelist": self._demuxer or DEMUXERS,
            "protocol_whitelist": "none",
            "probesize": str(self._probe_bytes),
            "analyzeduration": "5000000",  # microseconds
            "max_streams": "64",
            **decoder_options,
        }
        self._source.seek(0)
        self._source.arm()
        return av.open(
            self._source,
            "r",
            format=self._demuxer or None,
            options=options,
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
            timeout=self.timeout_s,
            io_open=_refuse,
            hwaccel=self.hardware,
        )

    def _check(self) -> None:
        """Raise InvalidMedia where FFmpeg would take too much time or memory to open the file.

        FFmpeg decodes packets while it opens a file, so here it is opened without any decoder first.
        """
        if self.peek(8)[4:] in MP4_BEGINS:
            check_claims(self.source, self.size)
        if self._demuxer in PLAIN:
            return
        with self._opened({"codec_whitelist": "none"}) as container:
            read = 0
            for packet in islice(container.demux(), PROBE_PACKETS):
                if is_excessive(packet):
                    raise self.excessive()
                read += packet.size
                if read > PROBE_BYTES:
                    return
            else:
                self._probe_bytes = max(read, LEAST_PROBE_BYTES)

    def next_link(self) -> bool:
        """Go on to the next link of a chained Ogg file that can be opened; return False behind the last one.

        Each is a file of its own, with its own streams and times.
        """
        for link in self._links:
            self._source = link
            with suppress(InvalidMedia):
                self.reopen()
                return True
        return False

    @property
    def kind(self) -> Literal["video", "audio"] | None:
        """What can be decoded of the file: moving pictures, else sound, else nothing. Cover art is no video."""
        if self.videos:
            return "video"
        return "audio" if self._first_audio() is not None else None

    @property
    def videos(self) -> list[int]:
        """Numbers of the streams of pictures whose codec is known, but for those that are marked as covers."""
        from av.stream import Disposition

        covers = int(Disposition.attached_pic | Disposition.timed_thumbnails)
        streams = self.container.streams.video
        return [s.index for s in streams if s.codec_context and not int(s.disposition) & covers]

    def video(self, threads: int) -> Any:
        """Return the stream ``chosen``, else the first of ``videos``, its decoder limited and not opened yet.

        Raises InvalidMedia when there is none.
        """
        number = next(iter(self.videos), None) if self.chosen is None else self.chosen
        if number is None:
            raise InvalidMedia(f"This {self.label} has no video stream that can be decoded.")
        return self._limited(self.container.streams[number], threads)

    def audio(self) -> Any | None:
        """Return the first audio stream that can be decoded, its decoder limited."""
        stream = self._first_audio()
        return None if stream is None else self._limited(stream, 1)

    @property
    def name(self) -> str:
        """FFmpeg's first name of the container, such as mov, matroska, mpegts or avi."""
        return str(self.container.format.name).split(",")[0]

    @property
    def stated_s(self) -> float | None:
        """The duration that the container states, or that FFmpeg estimates, in seconds."""
        seconds = (self.container.duration or 0) / 1_000_000
        return seconds if seconds > 0 else None

    @property
    def size(self) -> int:
        """Bytes that FFmpeg reads: without tags in front of a sound, and of one link of a chained Ogg file."""
        return self._source.end - self._source.begin

    @property
    def source(self) -> BinaryIO:
        """The bytes that FFmpeg reads; leave their position as it is."""
        return self._source  # type: ignore[return-value]

    def peek(self, count: int) -> bytes:
        """Return the first of these bytes."""
        return self._source.peek(count)

    def start_of(self, stream: Any) -> float:
        """Return the time of the first packet of a stream, in seconds of the container's clock."""
        late = self._late_flac(stream)[1] if self._demuxer == "ogg" else 0
        return float(((stream.start_time or 0) + late) * stream.time_base)

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Yield packets of these streams from the current position to the end, or to where the file is damaged.

        Raises as ``too_slow`` when no packet arrives in time.
        """
        packets = self.container.demux(*streams)
        page, late = self._late_flac(streams[0]) if self._demuxer == "ogg" and streams else (-1, 0)
        big_endian = self._demuxer == "wav" and self.peek(4) == b"RIFX"
        try:
            self._source.arm()
            for packet in packets:
                check_deadline()
                if packet.pos == page and packet.pts is not None:
                    packet.pts += late
                if packet.size:  # without bytes it only marks the end
                    yield _little_endian(packet) if big_endian else packet
                self._source.arm()
        except broken() as error:
            self._source.stopped(error)
        if self._source.late:
            raise self.too_slow(starved=self._source.starved)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what FFmpeg raises on damaged files into InvalidMedia, and on slow ones into that of ``too_slow``."""
        try:
            yield
        except broken() as error:
            self._source.stopped(error)
            late, starved = self._source.late, self._source.starved
            raise (self.too_slow(starved=starved) if late else self.damaged()) from error

    def damaged(self) -> InvalidMedia:
        """Return the error for a file that cannot be read."""
        return InvalidMedia(
            f"This {self.label} is damaged, cut short or of another format; upload the original file again."
        )

    def excessive(self) -> InvalidMedia:
        """Return the error for a packet that ``is_excessive``."""
        return InvalidMedia(
            f"A picture or sound of this {self.label} takes far more work than any that people make; export it again."
        )

    def undecodable(self, codec: str) -> InvalidMedia:
        """Return the error for a file of which no frame can be decoded."""
        export = "H.264 and AAC" if self.kind == "video" else "AAC, MP3, FLAC or PCM"
        return InvalidMedia(f"Nothing in this {self.label} can be decoded (codec {codec}); export it as {export}.")

    @property
    def late(self) -> bool:
        """Whether the file appeared to end because the time was up."""
        return self._source.late

    def too_slow(self, *, starved: bool) -> StageError:
        """Return the error for a time that is up: StageUnavailable where it was hardly spent on the file.

        That is DeadlineExceeded where it was the request's own.
        """
        if time_left() == 0:
            return DeadlineExceeded(f"The time of this request ended while its {self.label} was read; ask for less.")
        if starved:
            return StageUnavailable(f"The server is too busy to read this {self.label} in time; try again soon.")
        return InvalidMedia(
            f"This {self.label} takes too long to read; it may be damaged. Export it again and upload the new file."
        )

    def close(self) -> None:
        """Close FFmpeg's side, and the file if it was opened here."""
        self._close_container()
        if self._owned is not None:
            self._owned.close()

    def _late_flac(self, stream: Any) -> tuple[int, int]:
        """Return the place of the first page of FLAC in Ogg with sound, and how many samples it begins behind 0.

        FFmpeg takes it to begin at 0, also in a recording of a stream, where it does not.
        """
        sizes = (stream.codec_context.extradata or b"")[:4]
        block = int.from_bytes(sizes[:2], "big")
        if stream.codec_context.name != "flac" or sizes[:2] != sizes[2:] or not block:
            return -1, 0
        pages, place = self.peek(OGG_HEADERS), 0
        while pages.startswith(b"OggS", place) and place + 27 <= len(pages):
            lengths = pages[place + 27 : place + 27 + pages[place + 26]]
            end = int.from_bytes(pages[place + 6 : place + 14], "little", signed=True)
            if end > 0:  # that of the last packet that ends on this page; headers have 0
                return place, max(end - block * sum(length < 255 for length in lengths), 0)
            place += 27 + len(lengths) + sum(lengths)
        return -1, 0

    def _first_audio(self) -> Any | None:
        known = [stream for stream in self.container.streams.audio if stream.codec_context]
        trusted = (stream for stream in known if stream.codec_context.name in CODECS.split(","))
        return next(trusted, next(iter(known), None))

    def _limited(self, stream: Any, threads: int) -> Any:
        # PyAV opens a decoder apart from the container, so without its options.
        stream.codec_context.options = dict(self._decoder_options)
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        return stream

    def _close_container(self) -> None:
        if self.container is not None:
            self.container.close()
            self.container = None  # its decoders end with the last reference


def _little_endian(packet: Any) -> Any:
    """Return a packet of big-endian samples as its decoder expects it: FFmpeg takes any WAV for little-endian."""
    import av

    codec = re.fullmatch(r"pcm_[sf](16|24|32|64)le", packet.stream.codec_context.name)
    width = int(codec[1]) // 8 if codec else 1
    samples = memoryview(bytes(packet))[: packet.size // width * width]
    turned = bytearray(len(samples))
    for place in range(width):
        turned[place::width] = samples[width - 1 - place :: width]
    result = av.Packet(turned)
    result.stream, result.time_base = packet.stream, packet.time_base
    result.pts, result.dts, result.duration = packet.pts, packet.dts, packet.duration
    return result


def open_output(target: Any, muxer: str, options: dict[str, str]) -> Any:
    """Return PyAV's OutputContainer that writes to a file object; ``muxer`` is FFmpeg's name. Close it."""
    import av

    return av.open(target, "w", format=muxer, options=options)


@cache
def broken() -> tuple[type[Exception], ...]:
    """Return what PyAV, and Python code that it calls, raises on damaged files."""
    import av

    return (av.FFmpegError, _Forbidden, ValueError, LookupError, ArithmeticError, RuntimeError, AttributeError)


class _Forbidden(Exception):
    """A media file names another file to open."""


class TimeLimit:
    """Seconds that something may take, and how much of the processor this thread had meanwhile.

    Decoders of several threads work outside of it, so for those the time of the whole process counts.
    """

    def __init__(self, seconds: float, *, threads: int = 1) -> None:
        self._seconds, self._threads = seconds, threads
        self.restart()

    def restart(self) -> None:
        """Start again at 0."""
        self._owner = threading.get_ident()
        self._wall, self._thread, self._process = time.monotonic(), time.thread_time(), time.process_time()

    @property
    def is_up(self) -> bool:
        """Whether the time is over, by the clock."""
        return time.monotonic() - self._wall >= self._seconds

    @property
    def starved(self) -> bool:
        """Whether less than half of it was spent on the processor: others had that, or storage was slow."""
        alone = self._threads == 1 and self._owner == threading.get_ident()
        spent = time.thread_time() - self._thread if alone else time.process_time() - self._process
        return spent < self._seconds / 2


class _Source:
    """Bytes of a file from ``begin`` to before ``end``, for FFmpeg.

    They appear to end when FFmpeg has waited for ``seconds``, or when ``life``, which the sources of a file share, is
    up. ``late`` then stays True, and ``starved`` is that of the limit that was reached.
    """

    def __init__(self, file: BinaryIO, begin: int, end: int, seconds: float, life: TimeLimit) -> None:
        self.late = self.starved = self.checked = False
        self._file = file
        self.begin, self.end = begin, end
        self._wait, self._life = TimeLimit(seconds), life

    def arm(self) -> None:
        """Allow reading for as long again."""
        self._wait.restart()

    def stopped(self, error: Exception) -> None:
        """Count it as late where FFmpeg gave up by its own clock."""
        from av.error import ExitError

        if isinstance(error, ExitError) and not self.late:
            self.late, self.starved = True, self._wait.starved

    def read(self, size: int) -> bytes:
        if not self.late:
            reached = next((limit for limit in (self._wait, self._life) if limit.is_up), None)
            reached = self._life if time_left() == 0 else reached
            if reached is None:
                return self._file.read(max(min(size, self.end - self._file.tell()), 0))
            self.late, self.starved = True, reached.starved
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: self.begin, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self.end}
        place = bases[whence] + offset
        try:
            return self._file.seek(place) - self.begin if place >= self.begin else -1
        except (OSError, ValueError):  # damaged files point to impossible places
            return -1

    def peek(self, count: int) -> bytes:
        place = self._file.tell()
        self._file.seek(self.begin)
        data = self._file.read(min(count, self.end - self.begin))
        self._file.seek(place)
        return data

    def tell(self) -> int:
        return self._file.tell() - self.begin


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise _Forbidden(url)


@cache
def _cap_allocations() -> None:
    """Set FFmpeg's ``-max_alloc``, which PyAV does not expose, for this process.

    A WAV of 100 bytes can state an INFO text of 2 GB, and FFmpeg zeroes that much memory before it reads.
    """
    with suppress(OSError, AttributeError):
        for library in set(re.findall(r"/\S*libavutil\S*", Path("/proc/self/maps").read_text())):
            max_alloc = ctypes.CDLL(library).av_max_alloc
            max_alloc.argtypes, max_alloc.restype = [ctypes.c_size_t], None
            max_alloc(MAX_ALLOCATION)
