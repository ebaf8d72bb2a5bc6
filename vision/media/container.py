"""A stored video in FFmpeg: listed demuxers and decoders, bounded time and memory, nothing but its own bytes."""

import ctypes
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from configs.settings import settings
from vision.errors import InvalidMedia

TIMEOUT_S: Final = 20.0
BUFFER_BYTES: Final = 256 * 1024
MAX_ALLOCATION: Final = 256 * 2**20  # bytes at once; an 8K frame of 4 bytes a pixel takes 133 MB

DEMUXERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,avi"

# The decoders worth trusting with a stranger's bytes, out of FFmpeg's five hundred.
CODECS: Final = (
    "h264,hevc,av1,libdav1d,vp8,vp9,mpeg4,msmpeg4,msmpeg4v2,mpeg1video,mpeg2video,h263,mjpeg,prores,dnxhd,"
    "rawvideo,dvvideo,ffv1,huffyuv,cinepak,aac,alac,mp3,mp3float,mp2,mp2float,ac3,eac3,opus,libopus,vorbis,libvorbis,"
    "flac,amrnb,amrwb,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)
TOO_SLOW: Final = "This video takes too long to read; it may be damaged. Export it again and upload the new file."
DAMAGED: Final = "This video is damaged, cut short or of another format; upload the original file again."


class MediaFile:
    """One file, opened by FFmpeg; ``container`` is PyAV's InputContainer.

    FFmpeg may read for ``timeout_s`` seconds to open the file, and again for each packet; then the file seems to end,
    so that whatever FFmpeg is doing ends too. A file that is passed in stays open at ``close``. ``demuxers`` are those
    that may read it, by FFmpeg's names. Raises InvalidMedia.
    """

    container: Any = None

    def __init__(self, source: Path | BinaryIO, timeout_s: float = TIMEOUT_S, *, demuxers: str = DEMUXERS) -> None:
        self.timeout_s = timeout_s
        self._demuxers = demuxers
        self._owned = source.open("rb") if isinstance(source, Path) else None
        self._source = _Source(self._owned or source)  # type: ignore[arg-type]
        try:
            self.reopen()
        except BaseException:
            self.close()
            raise

    def reopen(self) -> None:
        """Start again at the first byte, with new decoders."""
        import av

        self._close_container()
        _cap_allocations()
        options = {
            "format_whitelist": self._demuxers,
            "protocol_whitelist": "none",
            "probesize": "5000000",  # bytes
            "analyzeduration": "5000000",  # microseconds
            "max_streams": "64",
            **_decoder_options(),
        }
        self._source.seek(0)
        self._arm()
        with ffmpeg_errors():
            self.container = av.open(
                self._source,
                "r",
                options=options,
                metadata_errors="replace",
                buffer_size=BUFFER_BYTES,
                timeout=self.timeout_s,
                io_open=_refuse,
            )

    def video(self, threads: int) -> Any:
        """The first stream of moving pictures, its decoder limited and not opened yet. Raises InvalidMedia."""
        from av.stream import Disposition

        covers = int(Disposition.attached_pic | Disposition.timed_thumbnails)
        for stream in self.container.streams.video:
            if not int(stream.disposition) & covers and stream.codec_context:
                return self._armed(stream, threads)
        raise InvalidMedia("This file holds no moving pictures that can be decoded.")

    def audio(self) -> Any | None:
        """The first stream of sound that can be decoded."""
        decodable = (stream for stream in self.container.streams.audio if stream.codec_context)
        return next((self._armed(stream, 1) for stream in decodable), None)

    @property
    def name(self) -> str:
        """FFmpeg's first name of the container: mov, matroska, mpegts or avi."""
        return str(self.container.format.name).split(",")[0]

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Packets of these streams from the present place to the end, or to where the file is damaged.

        Raises InvalidMedia when nothing comes for ``timeout_s``.
        """
        packets = self.container.demux(*streams)
        with suppress(*broken()):
            self._arm()
            for packet in packets:
                if packet.size:  # without bytes it only marks the end
                    yield packet
                self._arm()
        if self._source.ended_early:
            raise InvalidMedia(TOO_SLOW)

    def _arm(self) -> None:
        self._source.until = time.monotonic() + self.timeout_s

    def close(self) -> None:
        """Close FFmpeg's side, and the file if it was opened here."""
        self._close_container()
        if self._owned is not None:
            self._owned.close()

    def _armed(self, stream: Any, threads: int) -> Any:
        # PyAV opens a decoder apart from the container, so without its options.
        stream.codec_context.options = _decoder_options()
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        return stream

    def _close_container(self) -> None:
        if self.container is not None:
            self.container.close()
            self.container = None  # its decoders end with the last reference


@contextmanager
def ffmpeg_errors() -> Iterator[None]:
    """Turns what FFmpeg raises on damaged files into InvalidMedia."""
    try:
        yield
    except broken() as error:
        raise InvalidMedia(DAMAGED) from error


@cache
def broken() -> tuple[type[Exception], ...]:
    """What PyAV, and Python code that it calls, raises on damaged files."""
    import av

    known = (PermissionError, ValueError, LookupError, ArithmeticError, RuntimeError, AttributeError)
    return (av.FFmpegError, *known)


class _Source:
    """A file for FFmpeg that ends when the time is up."""

    def __init__(self, file: BinaryIO) -> None:
        self.until = 0.0
        self.ended_early = False
        self._file = file

    def read(self, size: int) -> bytes:
        if time.monotonic() < self.until:
            return self._file.read(size)
        self.ended_early = True
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # damaged files point to impossible places
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _decoder_options() -> dict[str, str]:
    return {"codec_whitelist": CODECS, "max_pixels": str(settings().max_image_pixels)}


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise PermissionError("a video may not open other files")


@cache
def _cap_allocations() -> None:
    """FFmpeg's ``-max_alloc``, which PyAV does not expose, for this process."""
    with suppress(OSError, AttributeError):
        for library in set(re.findall(r"/\S*libavutil\S*", Path("/proc/self/maps").read_text())):
            max_alloc = ctypes.CDLL(library).av_max_alloc
            max_alloc.argtypes, max_alloc.restype = [ctypes.c_size_t], None
            max_alloc(MAX_ALLOCATION)
