"""media/frames: one exact frame of a stored video as JPEG.

Frames count from 0 in order of presentation (see ``vision.media.reader``); the picture is upright, cropped to ``crop``
and then resized to ``size``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Final

from pydantic import Field, PositiveFloat, PositiveInt

from deployments.serving.stage import Stage, StageConfig, StageRef
from deployments.serving.stored import ReaderPool, StoredVideos
from vision.errors import InvalidInput, StageError
from vision.images import Pixels
from vision.media.nvdec import Decoder, is_available
from vision.media.reader import VideoReader

LARGEST_SIDE = 8192
JPEG_SIDE: Final = 65_500
"""Pixels of the longest side that a JPEG may have."""
TICK_S = 10.0


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """A frame of the video with this key in the object store.

    ``crop``: x, y, width, height in pixels of the upright frame; ``size``: width, height of the result in pixels;
    ``quality``: of the JPEG, 1 to 95.
    """

    key: str
    frame: int
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None
    quality: int = 90


@dataclass(frozen=True, slots=True)
class FramePicture:
    """A frame as JPEG; ``width`` and ``height`` in pixels; ``time``: seconds from the first frame."""

    jpeg: bytes
    width: int
    height: int
    time: float


class Config(StageConfig):
    """``user_config`` of media/frames; all but ``idle_s`` is read at load."""

    max_batch_size: PositiveInt = 8
    decoders: PositiveInt = Field(default=2, description="batches at a time, each with its own decoder")
    decoder: Decoder = Field(
        default="software",
        description="auto or nvdec: on the GPU of the process, where an open video takes 100 to 500 MB",
    )
    decoder_threads: PositiveInt = Field(default=2, description="of the processor")
    idle_readers: PositiveInt = Field(default=24, description="open decoders that are kept for the next request")
    idle_bytes: PositiveInt = Field(default=512 * 2**20, description="memory that they may take together")
    idle_s: PositiveFloat = Field(default=60.0, description="how long they are kept")


FRAMES: Final = StageRef[FrameRequest, FramePicture]("media/frames")


class FrameExtractor(Stage[Config, FrameRequest, FrameRequest, FramePicture]):
    """FrameRequest → FramePicture."""

    key = FRAMES.key
    stores = ("objects",)
    config_class = Config
    libraries = ("av", "cv2")
    tick_s = TICK_S

    _readers: ReaderPool

    def load(self) -> None:
        super().load()
        config = self.config
        self._readers = ReaderPool(
            StoredVideos().open,
            threads=config.decoder_threads,
            most_idle=config.idle_readers,
            most_bytes=config.idle_bytes,
            decoder=config.decoder,
        )

    def batches_at_once(self) -> int:
        return self.config.decoders

    def predict_batch(self, items: list[FrameRequest]) -> Sequence[FramePicture | StageError]:
        results: dict[int, FramePicture | StageError] = {}
        # In the order of the video, so that decoding goes on from one frame to the next.
        for place in sorted(range(len(items)), key=lambda place: (items[place].key, items[place].frame)):
            item = items[place]
            try:
                with self._readers.borrowed(item.key, partial(_number, item)) as reader:
                    results[place] = _picture(reader, item)
            except StageError as error:
                results[place] = error
        return [results[place] for place in range(len(items))]

    def tick(self) -> None:
        self._readers.close_idle(self.config.idle_s)

    def close(self) -> None:
        self._readers.close_idle()

    def info(self) -> dict[str, Any]:
        return {
            "method": "PyAV: frames by presentation time, checked against the index of all packets",
            "decoder": "nvdec" if self.config.decoder != "software" and is_available() else "software",
        }


def _number(request: FrameRequest, _: VideoReader) -> int:
    return request.frame


def _picture(reader: VideoReader, request: FrameRequest) -> FramePicture:
    from PIL import Image

    if not 1 <= request.quality <= 95:
        raise InvalidInput(f"The quality of a JPEG is 1 to 95, not {request.quality}.")
    pixels = _sized(_cropped(reader.frame(request.frame), request.crop), request.size)
    height, width = pixels.shape[:2]
    if max(height, width) > JPEG_SIDE:
        raise InvalidInput(f"No JPEG holds a frame of {width} x {height} pixels; ask for a size or a part of it.")
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=request.quality)
    return FramePicture(file.getvalue(), width, height, float(reader.times[request.frame]))


def _cropped(pixels: Pixels, crop: tuple[int, int, int, int] | None) -> Pixels:
    if crop is None:
        return pixels
    x, y, width, height = crop
    whole_height, whole_width = pixels.shape[:2]
    if min(x, y) < 0 or min(width, height) < 1 or x + width > whole_width or y + height > whole_height:
        raise InvalidInput(
            f"The crop of {width} x {height} at ({x}, {y}) is not inside the frame of {whole_width} x {whole_height}."
        )
    return pixels[y : y + height, x : x + width]


def _sized(pixels: Pixels, size: tuple[int, int] | None) -> Pixels:
    import cv2

    if size is None:
        return pixels
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise InvalidInput(f"Each side of a picture must have 1 to {LARGEST_SIDE} pixels, not {size[0]} x {size[1]}.")
    shrinks = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
    resized: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized
