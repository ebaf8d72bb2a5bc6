"""Pictures as software writes them, by other encoders than the one that reads them."""

import struct
import zlib
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.images import Pixels, decode

Chunk = tuple[bytes, bytes]


def gradient(width: int = 64, height: int = 48) -> Pixels:
    """A picture of all levels in each channel, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    parts = (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2))
    return np.stack(parts, -1).astype(np.uint8)


def saved(picture: NDArray[Any] | Image.Image, format: str, **options: Any) -> bytes:
    """The picture in a format of Pillow's."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def by_opencv(picture: NDArray[Any], suffix: str, *options: int) -> bytes:
    """RGB, RGBA or grey of any depth, by OpenCV."""
    if picture.ndim == 3:
        picture = picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    written, data = cv2.imencode(suffix, picture, options)
    assert written
    return data.tobytes()


def by_ffmpeg(picture: NDArray[np.uint16], codec: str, layout: str) -> bytes:
    """RGB of 16 bits in another layout, by FFmpeg."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = layout, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb48le").reformat(format=layout)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def chunks(png: bytes) -> list[Chunk]:
    """The chunks of a PNG."""
    at, found = 8, []
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def written(parts: list[Chunk], damaged: bytes = b"") -> bytes:
    """A PNG of these chunks; those of the name ``damaged`` have a wrong checksum."""
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in parts:
        checksum = zlib.crc32(name + body) ^ (name == damaged)
        data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)
    return data


def with_chunks(png: bytes, *extra: Chunk, damaged: bytes = b"") -> bytes:
    """A PNG with more chunks behind its header."""
    header, *rest = chunks(png)
    return written([header, *extra, *rest], damaged)


def difference(data: bytes, expected: NDArray[Any], **options: Any) -> int:
    """Largest difference of a decoded picture from the expected one, in levels; shapes have to agree."""
    pixels = decode(data, max_pixels=1_000_000, **options)
    assert pixels.shape == expected.shape
    return int(np.abs(pixels.astype(int) - expected).max())


def tall(grey: NDArray[Any]) -> NDArray[Any]:
    """Grey (H, W) as RGB."""
    return grey[..., None].repeat(3, 2)
