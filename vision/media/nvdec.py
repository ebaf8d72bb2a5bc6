"""Decoding of video by the decoder of an NVIDIA GPU, through FFmpeg's ``cuda``.

H.264, HEVC and VP9 say bit for bit what a decoder has to give, so the pictures are those of the processor; the reader
compares the first of every file. PyAV takes a decoder for AV1 that has no hardware behind it, so AV1 stays on the
processor.
"""

from functools import cache
from typing import Any, Final, Literal

from vision.media.container import broken

Decoder = Literal["auto", "software", "nvdec"]
"""Auto is nvdec where the process has a GPU, for the files that it can decode."""

CODECS: Final = {"h264", "hevc", "vp9"}
LAYOUTS: Final = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
"""What the hardware makes of FFmpeg's formats."""
_ANY_MATRIX: Final = 5
"""Of a conversion that keeps it, as there are some that FFmpeg's scaler refuses."""


def accelerator() -> Any:
    """Return what ``av.open`` takes to decode on the GPU; it shares the context of torch, if there is one."""
    from av.codec.hwaccel import HWAccel

    return HWAccel("cuda", allow_software_fallback=False, options={"primary_ctx": "1"})


@cache
def is_available() -> bool:
    """Return whether this process has a GPU that FFmpeg can use."""
    from av import CodecContext

    try:
        CodecContext.create("h264", "r", hwaccel=accelerator())
    except broken():
        return False
    return True


def is_wanted(decoder: Decoder, codec: str, layout: str) -> bool:
    """Return whether to try the hardware on a stream; ``codec`` and ``layout`` are FFmpeg's names of what it is and
    of the pictures that the processor decodes it to."""
    return decoder != "software" and codec in CODECS and layout in LAYOUTS and is_available()


def planar(picture: Any, layout: str) -> Any:
    """Return a picture of the hardware in the layout that the processor decodes to, with the same numbers."""
    from av.video.reformatter import VideoReformatter

    if picture.format.name != LAYOUTS.get(layout):
        return picture
    converted = VideoReformatter().reformat(
        picture, format=layout, src_colorspace=_ANY_MATRIX, dst_colorspace=_ANY_MATRIX, threads=1
    )
    converted.colorspace = picture.colorspace
    return converted
