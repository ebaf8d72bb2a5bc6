"""quality/composition: how a picture is composed, by measures of its saliency, symmetry, focus, colours and faces."""

from typing import Any, Final

from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.faces.face import Face
from vision.images import Pixels
from vision.quality.composition import SIDE, TAGS, Composition, analyze

COMPOSITION: Final = StageRef[tuple[SharedImage, tuple[Face, ...]], Composition]("quality/composition")


class CompositionAnalyzer(Stage[StageConfig, tuple[Pixels, tuple[Face, ...]], Composition, Composition]):
    """(Image, uint8 (H, W, 3) RGB, its faces) → Composition."""

    key = COMPOSITION.key
    libraries = ("cv2",)
    prepare_threads = 2

    def prepare(self, item: tuple[Pixels, tuple[Face, ...]]) -> Composition:
        return analyze(*item)

    def predict(self, item: Composition) -> Composition:
        return item

    def info(self) -> dict[str, Any]:
        return {
            "method": "saliency by colour distance to the border, thirds (Liu et al. 2010), correlation of edges with "
            "their mirror image, blur of edges (Zhuo and Sim 2011), HSV colours, faces for shot size and angle",
            "score": "0 to 1, higher is better: 0.6 of the best of rule_of_thirds, horizontal_symmetry and "
            "vertical_symmetry, and 0.4 of the balance; 0 for a picture without a subject",
            "measured_at": f"{SIDE} pixels along the longer side",
            "tags": {tag: f"{name} from {least:g} to {most:g}" for tag, (name, least, most) in TAGS.items()},
        }
