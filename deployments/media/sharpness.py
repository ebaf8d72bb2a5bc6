"""media/sharpness: how blurred a picture is, by FFmpeg's blurdetect.

The measure is the edge width of Marziliano et al. 2002 (A no-reference perceptual blur metric) on the edges that a
Canny detector finds: how many pixels an edge takes, on average over the blocks of the picture. It is taken in the
picture's own resolution, so it compares pictures of one kind and size; noise makes a picture seem sharper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from configs.settings import settings
from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.errors import InvalidInput, StageError
from vision.images import Pixels, decode

SMALLEST_SIDE: Final = 16
TAG: Final = "lavfi.blur"


@dataclass(frozen=True, slots=True)
class BlurScore:
    """``blur``: mean width of edges in pixels, lower is sharper; None where there is no edge, as on a plain wall."""

    blur: float | None


SHARPNESS: Final = StageRef[SharedImage | bytes, BlurScore]("media/sharpness")


class Sharpness(Stage[StageConfig, Pixels | bytes, Pixels, BlurScore]):
    """Image, uint8 (H, W, 3) RGB, or an encoded one → BlurScore."""

    key = SHARPNESS.key
    prepare_threads = 2

    def load(self) -> None:
        import av.filter  # noqa: F401 - paid here and not by the first caller

    def prepare(self, item: Pixels | bytes) -> Pixels:
        """Raises as ``decode``."""
        return decode(item, max_pixels=settings().max_image_pixels) if isinstance(item, bytes) else item

    def predict_batch(self, items: list[Pixels]) -> Sequence[BlurScore | StageError]:
        return [
            BlurScore(blur_of(item))
            if min(item.shape[:2]) >= SMALLEST_SIDE
            else InvalidInput(f"A picture of less than {SMALLEST_SIDE} pixels a side has no edges to measure.")
            for item in items
        ]

    def info(self) -> dict[str, Any]:
        return {
            "method": "FFmpeg blurdetect (Marziliano et al. 2002): mean width of edges",
            "range": "from 0, lower is sharper; in pixels of the picture",
        }


def blur_of(image: Pixels) -> float | None:
    """Return the mean width of the edges of an RGB picture in pixels; None without an edge."""
    import av
    import av.filter
    import numpy as np

    # A decoded image may be read-only memory that others read.
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="gray", threads=1)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=1)
    detector, sink = graph.add("blurdetect"), graph.add("buffersink")
    source.link_to(detector)
    detector.link_to(sink)
    graph.configure()
    frame.pts = 0
    source.push(frame)
    blur = float(sink.pull().metadata[TAG])
    return blur if math.isfinite(blur) and blur > 0 else None
