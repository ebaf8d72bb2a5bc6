"""quality/blur: sharpness as the variance of the Laplacian.

The measure is LAPV of Pech-Pacheco et al. 2000 (Diatom autofocusing in brightfield microscopy), one of the focus
measures that Pertuz et al. 2013 compare (https://doi.org/10.1016/j.patcog.2012.11.011): the variance of the 3x3
Laplacian of the grey picture, the numbers of the usual ``cv2.Laplacian(gray, cv2.CV_64F).var()``.

It measures fine detail of any origin: noise and the block edges of strong compression raise it, and a sharp picture of
fog has little of it. It is taken at the picture's own resolution; the same scene at another size has
another value, and so would want another threshold.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.images import Pixels
from vision.quality.blur import laplacian_variance


@dataclass(frozen=True, slots=True)
class Sharpness:
    """``laplacian_variance``: squared grey levels of 0-255, from 0, higher is sharper; ``is_blurry``: it is below
    ``threshold``."""

    laplacian_variance: float
    is_blurry: bool
    threshold: float


class Config(StageConfig):
    """``user_config`` of quality/blur; all of it changes in place."""

    threshold: float = Field(default=100.0, ge=0, description="Laplacian variance below which a picture is blurry")


BLUR: Final = StageRef[SharedImage, Sharpness]("quality/blur")


class BlurDetector(Stage[Config, Pixels, float, Sharpness]):
    """Image, uint8 (H, W, 3) RGB → Sharpness."""

    key = BLUR.key
    config_class = Config
    libraries = ("cv2",)
    prepare_threads = 2

    def prepare(self, item: Pixels) -> float:
        return laplacian_variance(item)

    def predict(self, item: float) -> Sharpness:
        return Sharpness(item, item < self.config.threshold, self.config.threshold)

    def info(self) -> dict[str, Any]:
        return {
            "method": "variance of the Laplacian (Pech-Pacheco et al. 2000; Pertuz et al. 2013)",
            "range": "from 0, higher is sharper; depends on resolution and content, and rises with noise",
            "threshold": self.config.threshold,
        }
