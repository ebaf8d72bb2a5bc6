"""quality/composition: how a picture is composed, by measures of its saliency, symmetry, focus, colours and faces.

Everything is measured on a copy whose longer side has 512 pixels. Each part says where its measure comes from:
``saliency`` (what draws the eye), ``layout`` (thirds, balance, symmetry, edges), ``focus`` (depth of field), ``color``,
and ``framing`` (shot size and angle, which need faces). The subjects are the faces, else the salient regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.serving.stage import Stage, StageConfig
from vision.errors import StageError
from vision.faces.face import Face
from vision.images import Pixels
from vision.quality.color import COLOURED, colors
from vision.quality.focus import depth_of_field
from vision.quality.framing import UNDETERMINED, framing, shot_angle, shot_size
from vision.quality.layout import balance, edge_density, mirror_symmetry, rule_of_thirds
from vision.quality.saliency import SIDE as MAP_SIDE
from vision.quality.saliency import Region, saliency_map, salient_regions

SIDE: Final = 512
PLACEMENT: Final = 0.6
"""Weight of the placement in the score; the rest is that of the balance."""

TAGS: Final = {
    "rule_of_thirds": ("rule_of_thirds", 0.7, 1.0),
    "symmetric": ("symmetry", 0.6, 1.0),
    "balanced": ("balance", 0.9, 1.0),
    "shallow_depth_of_field": ("depth_of_field", 0.5, 1.0),
    "minimal": ("edge_density", 0.0, 0.04),
    "busy": ("edge_density", 0.2, 1.0),
    "monochrome": ("coloured", 0.0, COLOURED),
    "colorful": ("color_diversity", 0.6, 1.0),
    "warm": ("warmth", 0.75, 1.0),
    "cool": ("warmth", 0.0, 0.25),
}
"""A measure, and from where to where it must be for the tag."""
TINTED: Final = 0.1
"""Share of coloured pixels that makes a picture warm or cool."""


@dataclass(frozen=True, slots=True)
class Composition:
    """All measures are 0 to 1 unless told otherwise; "undetermined" where the picture does not say.

    ``score``: higher is better composed, see ``info``. ``shot_size``: extreme_close_up, close_up, medium_close_up,
    medium, medium_full, full, wide, extreme_wide. ``shot_angle``: eye_level, high_angle, low_angle, dutch. ``framing``:
    left_third, centered, right_third, the side of the subject. ``aspect_ratio``: width over height.
    ``horizontal_symmetry``: to the left-right mirror image; ``vertical_symmetry``: to the top-bottom one;
    ``overall_symmetry``: their mean. ``depth_of_field``: 0 everything equally sharp, 1 sharp before very blurred.
    ``color_diversity``: evenness of the hues. ``dominant_hue``: degrees 0-360, None for a grey picture.
    ``color_balance``: 0 a pure colour, 1 neutral. ``warm_cool_ratio``: share of warm among the coloured pixels, 0.5 for
    a grey picture. ``edge_density``: share of edge pixels. ``balance``: 1 when the visual weight is left and right of
    the centre line alike. ``tags``: names of what exceeds the thresholds in ``info``.
    """

    score: float
    shot_size: str
    shot_angle: str
    framing: str
    aspect_ratio: float
    rule_of_thirds: float
    horizontal_symmetry: float
    vertical_symmetry: float
    overall_symmetry: float
    depth_of_field: float
    color_diversity: float
    dominant_hue: float | None
    color_balance: float
    warm_cool_ratio: float
    edge_density: float
    balance: float
    tags: tuple[str, ...]


class CompositionAnalyzer(Stage[StageConfig, tuple[Pixels, tuple[Face, ...]], Composition, Composition]):
    """(Image, uint8 (H, W, 3) RGB, its faces) → Composition."""

    key = "quality/composition"
    prepare_threads = 2

    def load(self) -> None:
        import cv2  # noqa: F401 - paid here and not by the first caller

    def prepare(self, item: tuple[Pixels, tuple[Face, ...]]) -> Composition:
        return analyze(*item)

    def predict_batch(self, items: list[Composition]) -> Sequence[Composition | StageError]:
        return items

    def info(self) -> dict[str, Any]:
        return {
            "method": "saliency by colour distance to the border, thirds (Liu et al. 2010), correlation of edges with "
            "their mirror image, blur of edges (Zhuo and Sim 2011), HSV colours, faces for shot size and angle",
            "score": "0 to 1, higher is better: 0.6 of the best of rule_of_thirds, horizontal_symmetry and "
            "vertical_symmetry, and 0.4 of the balance; 0 for a picture without a subject",
            "measured_at": f"{SIDE} pixels along the longer side",
            "tags": {tag: f"{name} from {least:g} to {most:g}" for tag, (name, least, most) in TAGS.items()},
        }


def analyze(image: Pixels, faces: Sequence[Face]) -> Composition:
    """The composition of an image, uint8 (H, W, 3) RGB, with these faces in it."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    people = [_region(face, height, width) for face in faces]
    salient = salient_regions(saliency_map(small))
    thirds, balanced = rule_of_thirds(people or salient), balance([*people, *salient])
    horizontal, vertical = mirror_symmetry(grey)
    placement = max(thirds, horizontal, vertical)
    focus, edges, hues = depth_of_field(grey), edge_density(grey), colors(small)
    shot = shot_size(faces, height), shot_angle(faces), framing(_middle(people or salient[:1]))
    measures = {
        "rule_of_thirds": thirds,
        "symmetry": max(horizontal, vertical),
        "balance": balanced,
        "depth_of_field": focus,
        "edge_density": edges,
        "coloured": hues.coloured,
        "color_diversity": hues.diversity,
        "warmth": hues.warm if hues.coloured >= TINTED else 0.5,
    }
    return Composition(
        score=PLACEMENT * placement + (1 - PLACEMENT) * balanced if people or salient else 0.0,
        shot_size=shot[0],
        shot_angle=shot[1],
        framing=shot[2],
        aspect_ratio=width / height,
        rule_of_thirds=thirds,
        horizontal_symmetry=horizontal,
        vertical_symmetry=vertical,
        overall_symmetry=(horizontal + vertical) / 2,
        depth_of_field=focus,
        color_diversity=hues.diversity,
        dominant_hue=hues.dominant_hue,
        color_balance=hues.balance,
        warm_cool_ratio=hues.warm,
        edge_density=edges,
        balance=balanced,
        tags=(
            *(name for name in shot if name != UNDETERMINED),
            *(tag for tag, (name, least, most) in TAGS.items() if least <= measures[name] <= most),
        ),
    )


def _region(face: Face, height: int, width: int) -> Region:
    """A face as a subject; each of its places weighs as much as the most salient one of the map."""
    area = face.width * face.height * (MAP_SIDE / max(height, width)) ** 2
    return Region((face.x + face.width / 2) / width, (face.y + face.height / 2) / height, area)


def _middle(subjects: Sequence[Region]) -> float | None:
    """Where the subjects together are along the width, 0 to 1; None when there is none."""
    total = sum(subject.weight for subject in subjects)
    return sum(subject.weight * subject.x for subject in subjects) / total if total > 0 else None
