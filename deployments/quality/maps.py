"""quality/maps: where in a picture it is sharp, and where it draws the eye.

The focus is that of ``vision.quality.focus``; the saliency is what quality/composition takes its subjects from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from deployments.serving.stage import Stage, StageConfig, StageRef
from deployments.serving.stored import StoredPictures
from vision.images import Pixels, decode
from vision.quality import focus, saliency

MapName = Literal["focus", "saliency"]
MADE: Final[dict[MapName, Callable[[Pixels], NDArray[np.float32]]]] = {
    "focus": focus.focus_map,
    "saliency": saliency.saliency_map,
}


@dataclass(frozen=True, slots=True)
class MapQuery:
    """Which map of the picture under a key of the object store, or of an encoded one."""

    picture: str | bytes
    name: MapName


@dataclass(frozen=True, slots=True, eq=False)
class PictureMap:
    """``values``: uint8 (h, w), 0 to 255 for 0 to 1, over the whole picture and in its aspect ratio."""

    values: NDArray[np.uint8]


MAPS: Final = StageRef[MapQuery, PictureMap]("quality/maps")


class PictureMapper(Stage[StageConfig, MapQuery, PictureMap, PictureMap]):
    """MapQuery → PictureMap."""

    key = MAPS.key
    stores = ("objects",)
    libraries = ("cv2",)
    prepare_threads = 2

    def load(self) -> None:
        super().load()
        self._pictures = StoredPictures()

    def prepare(self, item: MapQuery) -> PictureMap:
        """Raises as ``StoredPictures.encoded`` and ``decode``."""
        data = self._pictures.encoded(item.picture)
        image = decode(data, max_pixels=settings().max_image_pixels, shrink_to=focus.SIDE)
        return PictureMap((MADE[item.name](image) * 255).round().astype(np.uint8))

    def predict(self, item: PictureMap) -> PictureMap:
        return item

    def info(self) -> dict[str, Any]:
        return {
            "focus": {
                "method": "blur of the edges around (Zhuo and Sim 2011), 1 - ln(blur) / ln(5) of 1 to 5 pixels",
                "range": "0 to 1, higher is sharper; 0 where there is no edge",
                "measured_at": f"{focus.SIDE} pixels along the longer side, in {focus.MAP_SIDE} cells",
            },
            "saliency": {
                "method": "distance of the colour to those of the border (boundary prior of Wei et al. 2012)",
                "range": "0 to 1, 1 at the most salient pixel; all 0 where nothing stands out",
                "measured_at": f"{saliency.SIDE} pixels along the longer side",
            },
        }
