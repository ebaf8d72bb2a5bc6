"""quality/exposure: how well a picture is lit, from the histogram of its luma."""

from typing import Any, Final

from pydantic import Field

from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.images import Pixels
from vision.quality.exposure import DARK, TOO_WHITE, Lighting, Tones, lighting, tones


class Config(StageConfig):
    """``user_config`` of quality/exposure; all of it changes in place."""

    clip_margin: int = Field(
        default=2, ge=0, le=32, description="levels beside 0 and 255 that count as clipped too, as a codec moves them"
    )


EXPOSURE: Final = StageRef[SharedImage, Lighting]("quality/exposure")


class ExposureAnalyzer(Stage[Config, Pixels, Tones, Lighting]):
    """Image, uint8 (H, W, 3) RGB → Lighting."""

    key = EXPOSURE.key
    config_class = Config
    libraries = ("cv2",)
    prepare_threads = 2

    def prepare(self, item: Pixels) -> Tones:
        return tones(item, self.config.clip_margin)

    def predict(self, item: Tones) -> Lighting:
        return lighting(item, self.config.clip_margin)

    def info(self) -> dict[str, Any]:
        return {
            "method": "luma histogram: geometric mean of the share not clipped, of the well-exposedness of the mean "
            "(Mertens et al. 2007) and of the entropy over 8 bits (Shannon 1948)",
            "range": "score 0 to 1, higher is better lit; meant for daylight pictures, night and snow score low",
            "verdict": f"underexposed: the mean luma of what is not black is below {DARK:g}; overexposed: from "
            f"{TOO_WHITE:.0%} of white on, where colours clip or the rest is pale",
            "clip_margin": self.config.clip_margin,
        }
