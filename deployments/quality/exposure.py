"""quality/exposure: how well a picture is lit, from the histogram of its luma."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import Field

from deployments.serving.shared import SharedImage
from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import StageError
from vision.images import Pixels
from vision.quality.exposure import Histogram, Lighting, lighting, luma_histogram


class Config(StageConfig):
    """``user_config`` of quality/exposure; all of it changes in place."""

    clip_margin: int = Field(
        default=2, ge=0, le=32, description="levels beside 0 and 255 that count as clipped too, as a codec moves them"
    )


EXPOSURE: Final = StageRef[SharedImage, Lighting]("quality/exposure")


class Exposure(Stage[Config, Pixels, Histogram, Lighting]):
    """Image, uint8 (H, W, 3) RGB → Lighting."""

    key = EXPOSURE.key
    config_class = Config
    prepare_threads = 2

    def load(self) -> None:
        import cv2  # noqa: F401 - paid here and not by the first caller

    def prepare(self, item: Pixels) -> Histogram:
        return luma_histogram(item)

    def predict_batch(self, items: list[Histogram]) -> Sequence[Lighting | StageError]:
        return [lighting(histogram, self.config.clip_margin) for histogram in items]

    def info(self) -> dict[str, Any]:
        return {
            "method": "luma histogram: geometric mean of the share not clipped, of the well-exposedness of the mean "
            "(Mertens et al. 2007) and of the entropy over 8 bits (Shannon 1948)",
            "range": "score 0 to 1, higher is better lit; meant for daylight pictures, night and snow score low",
            "clip_margin": self.config.clip_margin,
        }
