"""A stranger's video or audio in FFmpeg: one file, one demuxer, listed decoders, bounded time and memory."""

import ctypes
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import av

from vision.errors import InvalidMedia
from vision.media.sniff import Guess

TIMEOUT_S: Final = 20.0
MAX_ALLOCATION: Final = 256 * 2**20  # bytes at once; an 8K frame of 4 bytes a pixel takes 133 MB

# What PyAV, and Python code that it calls, raises on damaged files.
BROKEN: Final = (
    *(av.FFmpegError, PermissionError),
    *(ValueError, LookupError, ArithmeticError, RuntimeError, AttributeError),
)

# The decoders worth trusting with a stranger's bytes, out of FFmpeg's five hundred.
CODECS: Final = (
    "h264,hevc,av1,libdav1d,vp8,vp9,mpeg4,msmpeg4,msmpeg4v2,mpeg1video,mpeg2video,h263,mjpeg,prores,dnxhd,"
    "rawvideo,dvvideo,ffv1,huffyuv,cinepak,aac,alac,mp3,mp3float,mp2,mp2float,ac3,eac3,opus,libopus,vorbis,libvorbis,"
    "flac,amrnb,amrwb,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)


@contextmanager
def opened_media(path: Path, guess: Guess, max_pixels: int) -> Iterator[Any]:
    """PyAV's InputContainer of a file that ``sniff`` took for a container; closed on exit.

    ``max_pixels`` bounds one frame; decode by ``armed`` streams only. Whatever FFmpeg raises in the body
    becomes ``InvalidMedia``; an ``OSError`` means that the file itself cannot be read.
    """
    _cap_allocations()
    options = {
        "format_whitelist": guess.demuxer,
        "protocol_whitelist": "none",
        "probesize": "5000000",  # bytes
        "analyzeduration": "5000000",  # microseconds
        "max_streams": "64",
        **_decoder_options(max_pixels),
    }
    with path.open("rb") as file:
        try:
            with av.open(
                _Source(file, TIMEOUT_S),
                "r",
                format=guess.demuxer,
                options=options,
                metadata_errors="replace",
                timeout=TIMEOUT_S,
                io_open=_refuse,
            ) as container:
                yield container
        except BROKEN as error:
            raise InvalidMedia(
                f"This {guess.name} is damaged, cut short or only named like one; upload the original file."
            ) from error


def armed(stream: Any, max_pixels: int) -> Any:
    """The stream with its decoder limited: PyAV opens it apart from the container, so without its options."""
    stream.codec_context.thread_count = 1
    stream.codec_context.options = _decoder_options(max_pixels)
    return stream


def _decoder_options(max_pixels: int) -> dict[str, str]:
    return {"codec_whitelist": CODECS, "max_pixels": str(max_pixels)}


class _Source:
    """A file for FFmpeg that ends when the time is up: whatever FFmpeg is doing then stops by itself."""

    def __init__(self, file: BinaryIO, seconds: float) -> None:
        self._file = file
        self._until = time.monotonic() + seconds

    def read(self, size: int) -> bytes:
        return self._file.read(size) if time.monotonic() < self._until else b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # damaged files point to impossible places
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise PermissionError("an upload may not open other files")


@cache
def _cap_allocations() -> None:
    """FFmpeg's ``-max_alloc``, which PyAV does not expose, for this process.

    A WAV of 100 bytes can state an INFO text of 2 GB, and FFmpeg zeroes that much memory before it reads.
    """
    with suppress(OSError, AttributeError):
        for library in set(re.findall(r"/\S*libavutil\S*", Path("/proc/self/maps").read_text())):
            max_alloc = ctypes.CDLL(library).av_max_alloc
            max_alloc.argtypes, max_alloc.restype = [ctypes.c_size_t], None
            max_alloc(MAX_ALLOCATION)
