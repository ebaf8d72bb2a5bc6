"""Composition of an image: subjects, thirds, balance, symmetry, focus, edges, colours, shot size and angle.

Everything is measured on a copy whose longer side has 512 pixels. The subjects are the faces, or the salient regions
(``saliency``) when there are none. Depth of field comes from ``blur``, colours from ``color``, and shot size and angle,
which need faces, from ``framing``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.faces.face import Face
from vision.images import Pixels
from vision.quality.blur import depth_of_field
from vision.quality.color import COLOURED, colors
from vision.quality.framing import UNDETERMINED, framing, shot_angle, shot_size
from vision.quality.saliency import SIDE as MAP_SIDE
from vision.quality.saliency import Region, saliency_map, salient_regions

Grey = NDArray[np.uint8]

SIDE: Final = 512
PLACEMENT: Final = 0.6
"""Weight of the placement in the score; the rest is the weight of the balance."""

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
"""The measure of each tag, and its least and greatest value for the tag to apply."""
TINTED: Final = 0.1
"""Least share of coloured pixels of a warm or cool image."""

THIRDS: Final = (1 / 3, 2 / 3)
NEAR: Final = 0.1
"""Standard deviation of the Gaussian that weighs distances to lines and points of thirds, as a share of the frame."""

SYMMETRY_SIDE: Final = 128
SYMMETRY_BLUR: Final = 2.0
"""Longer side and blur, in pixels, of the edges compared with their mirror image: offsets of 1.5 % do not count."""


@dataclass(frozen=True, slots=True)
class Composition:
    """All measures are 0 to 1 unless stated otherwise; labels are "undetermined" where the image does not show them.

    ``score``: higher is better composed, see ``info`` of the stage. ``shot_size``: extreme_close_up, close_up,
    medium_close_up, medium, medium_full, full, wide, extreme_wide. ``shot_angle``: eye_level, high_angle, low_angle,
    dutch. ``framing``: left_third, centered, right_third, the position of the subject. ``aspect_ratio``: width over
    height. ``horizontal_symmetry``: to the left-right mirror image; ``vertical_symmetry``: to the top-bottom one;
    ``overall_symmetry``: their mean. ``depth_of_field``: 0 everything equally sharp, 1 a sharp subject before a very
    blurred background. ``color_diversity``: evenness of the hues. ``dominant_hue``: degrees 0-360, None for a grey
    image. ``color_balance``: 0 a pure colour, 1 neutral. ``warm_cool_ratio``: share of warm hues among the coloured
    pixels, 0.5 for a grey image. ``edge_density``: share of edge pixels. ``balance``: 1 when the visual weight is equal
    left and right of the centre line. ``tags``: the labels, and the measures that reach the thresholds of ``info``.
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


def analyze(image: Pixels, faces: Sequence[Face]) -> Composition:
    """Measure the composition of an image, uint8 (H, W, 3) RGB, that has these faces."""
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


def rule_of_thirds(subjects: Sequence[Region]) -> float:
    """Return how near the subjects are to the lines and points of thirds, weighted; 0 without a subject.

    The mean of exp(-d²/2s²) for the nearest line and for the nearest point, s = 0.1 of the frame; the form, with
    regions weighted by their mass, is that of Liu et al. 2010 (Optimizing photo composition). 1 on a point, 0.62 on a
    line half way between two points, 0.16 in the middle of the frame, 0 in a corner.
    """
    total = sum(subject.weight for subject in subjects)
    if total <= 0:
        return 0.0
    return sum(subject.weight * _thirds(subject.x, subject.y) for subject in subjects) / total


def balance(regions: Sequence[Region]) -> float:
    """Return 1 when the centre of visual weight is on the vertical centre line, 0 at an edge; 1 without regions."""
    total = sum(region.weight for region in regions)
    if total <= 0:
        return 1.0
    middle = sum(region.weight * region.x for region in regions) / total
    return 1 - 2 * abs(middle - 0.5)


def mirror_symmetry(grey: Grey) -> tuple[float, float]:
    """Return the symmetry of a grey image, uint8 (H, W), to its left-right and to its top-bottom mirror image.

    The Pearson correlation of the edge strength with its mirror image, 0 where it is negative. Edges are compared
    because the light of a landscape alone would make it symmetric left to right. 1 for an image without edges.
    """
    import cv2

    scale = min(1.0, SYMMETRY_SIDE / max(grey.shape))
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.hypot(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    edges = cv2.GaussianBlur(strength, (0, 0), SYMMETRY_BLUR).astype(np.float64)
    return _correlation(edges, edges[:, ::-1]), _correlation(edges, edges[::-1])


def edge_density(grey: Grey) -> float:
    """Return the share of pixels of a grey image, uint8 (H, W), that Canny's detector finds to be edges.

    Its upper threshold is Otsu's of the grey levels, the lower one half of it (Fang, Yue and Yu 2009).
    """
    import cv2

    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float((cv2.Canny(grey, threshold / 2, threshold) > 0).mean())


def _region(face: Face, height: int, width: int) -> Region:
    """Return a face as a subject; each of its pixels weighs as much as the most salient one of the map."""
    area = face.width * face.height * (MAP_SIDE / max(height, width)) ** 2
    return Region((face.x + face.width / 2) / width, (face.y + face.height / 2) / height, area)


def _middle(subjects: Sequence[Region]) -> float | None:
    """Return the weighted centre of the subjects along the width, 0 to 1; None when there is none."""
    total = sum(subject.weight for subject in subjects)
    return sum(subject.weight * subject.x for subject in subjects) / total if total > 0 else None


def _thirds(x: float, y: float) -> float:
    beside = min(abs(x - third) for third in THIRDS), min(abs(y - third) for third in THIRDS)
    line, point = min(beside), float(np.hypot(*beside))
    return float(np.exp(-np.square([line, point]) / (2 * NEAR**2)).mean())


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return min(1.0, max(0.0, float((a * b).sum()) / length)) if length > 1e-6 else 1.0
