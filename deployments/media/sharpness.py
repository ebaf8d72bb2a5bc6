"""media/sharpness: how blurred a picture is, by FFmpeg's blurdetect.

The measure is the edge width of Marziliano et al. 2002 (A no-reference perceptual blur metric) on the edges that a
Canny detector finds: how many pixels an edge takes, on average over the blocks of the picture. It is taken in the
picture's own resolution, so it compares pictures of one kind and size; noise makes a picture seem sharper.
"""

from dataclasses import dataclass
from typing import Any, Final

from configs.settings import settings
from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.errors import InvalidInput
from vision.images import Pixels, decode
from vision.quality.blur import edge_width

SMALLEST_SIDE: Final = 16


@dataclass(frozen=True, slots=True)
class BlurScore:
    """``blur``: mean width of edges in pixels, lower is sharper; None where there is no edge, as on a plain wall."""

    blur: float | None


SHARPNESS: Final = StageRef[SharedImage | bytes, BlurScore]("media/sharpness")


class SharpnessMeter(Stage[StageConfig, Pixels | bytes, Pixels, BlurScore]):
    """Image, uint8 (H, W, 3) RGB, or an encoded one → BlurScore."""

    key = SHARPNESS.key
    libraries = ("av.filter",)
    prepare_threads = 2

    def prepare(self, item: Pixels | bytes) -> Pixels:
        """Raises as ``decode``."""
        return decode(item, max_pixels=settings().max_image_pixels) if isinstance(item, bytes) else item

    def predict(self, item: Pixels) -> BlurScore:
        if min(item.shape[:2]) < SMALLEST_SIDE:
            raise InvalidInput(f"A picture of less than {SMALLEST_SIDE} pixels a side has no edges to measure.")
        return BlurScore(edge_width(item))

    def info(self) -> dict[str, Any]:
        return {
            "method": "FFmpeg blurdetect (Marziliano et al. 2002): mean width of edges",
            "range": "from 0, lower is sharper; in pixels of the picture",
        }
