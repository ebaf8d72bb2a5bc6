"""Blur: of a whole picture, and the difference between its sharpest and its most blurred parts.

The blur of an edge is estimated from how much its gradient falls when the picture is blurred further, as Zhuo and Sim
2011 do (Defocus map estimation from a single image, https://doi.org/10.1016/j.patcog.2011.03.009): an edge blurred by a
Gaussian of deviation s keeps sqrt((s² + a²) / (s² + b²)) of its gradient between the blurs a and b, whatever its
contrast. Blocks without edges (sky, a studio wall, a background blurred to nothing) are left out, since they show
neither sharpness nor blur.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

Grey = NDArray[np.uint8]
Slope = NDArray[np.float32]

FINE: Final = 1.0
WIDE: Final = 2.5
"""Standard deviations of the two blurs, in pixels."""
EDGE: Final = 0.01
"""Least gradient of an edge after the wider blur, as a share of the full range per pixel."""
GRID: Final = 16
"""Blocks along the longer side of the image."""
MIN_EDGES: Final = 6
"""Least number of edge pixels of a block that is measured."""
MIN_BLOCKS: Final = 4
SHARPEST: Final = 1.0
DEEPEST: Final = 5.0
"""Standard deviations, in pixels, that a blur is clipped to."""
QUANTILES: Final = (0.2, 0.8)


def laplacian_variance(image: Pixels) -> float:
    """Return the variance of the 3x3 Laplacian of the grey values of an image, uint8 (H, W, 3) RGB.

    In squared grey levels of 0-255, from 0; higher is sharper. LAPV of Pech-Pacheco et al. 2000; see quality/blur.
    """
    import cv2

    return grey_laplacian_variance(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def grey_laplacian_variance(grey: Grey) -> float:
    """Return the same of a grey image, uint8 (H, W)."""
    import cv2

    # The values are whole numbers within ±1020, so 16 bits hold them exactly, in a quarter of the memory.
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def depth_of_field(grey: Grey) -> float:
    """Return 0 (all edges equally blurred) to 1 (sharp edges beside very blurred ones) of a grey image, uint8 (H, W).

    The ratio of the 80th to the 20th percentile of the blurs of blocks with edges, on a logarithmic scale from 1 to 5.
    Deep scenes measure 0 to 0.25, portraits before a blurred background 0.4 to 0.95. Soft shadows count as blurred
    edges.
    """
    blurs = block_blurs(grey)
    if len(blurs) < MIN_BLOCKS:
        return 0.0
    sharp, blurred = np.quantile(blurs, QUANTILES).clip(SHARPEST, DEEPEST)
    return float(np.log(blurred / sharp) / np.log(DEEPEST / SHARPEST))


def block_blurs(grey: Grey) -> NDArray[np.float64]:
    """Return the median blur of the edges of every block that has enough, a standard deviation of 0 to 5 pixels."""
    rows, columns, blurs = edge_blurs(grey)
    side = max(grey.shape) / GRID
    blocks = (rows / side).astype(int) * GRID + (columns / side).astype(int)
    judged = [block for block, count in zip(*np.unique(blocks, return_counts=True), strict=True) if count >= MIN_EDGES]
    return np.array([np.median(blurs[blocks == block]) for block in judged])


def edge_blurs(grey: Grey) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the row and the column of each pixel in the middle of an edge, and its blur.

    Blurs are standard deviations of 0 to 5 pixels. ``grey`` is uint8 (H, W).
    """
    x, y = _gradient(grey, WIDE)
    fine, wide = np.hypot(*_gradient(grey, FINE)), np.hypot(x, y)
    rows, columns = np.nonzero(_crests(x, y) & (wide > EDGE))
    kept = np.clip(wide[rows, columns] / fine[rows, columns], FINE / WIDE, 0.999) ** 2
    squares = (kept * WIDE**2 - FINE**2) / (1 - kept)
    return rows, columns, np.minimum(np.sqrt(np.maximum(squares, 0)), DEEPEST)


def _gradient(grey: Grey, blur: float) -> tuple[Slope, Slope]:
    """Return the gradients along x and y of an image blurred by a Gaussian, as shares of the full range per pixel."""
    import cv2

    smooth = cv2.GaussianBlur(grey.astype(np.float32) / 255, (0, 0), blur)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)


def _crests(x: Slope, y: Slope) -> NDArray[np.bool_]:
    """Return where a gradient is the steepest across its edge: the middle of the edge."""
    import cv2

    steep = np.hypot(x, y)
    across = np.where(
        np.abs(x) > np.abs(y),
        cv2.dilate(steep, np.ones((1, 3), np.uint8)),
        cv2.dilate(steep, np.ones((3, 1), np.uint8)),
    )
    crests: NDArray[np.bool_] = steep >= across
    return crests


def edge_width(image: Pixels) -> float | None:
    """Return the mean width in pixels of the edges of an RGB picture, by FFmpeg's blurdetect; None without an edge."""
    import av
    import av.filter

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
    blur = float(sink.pull().metadata["lavfi.blur"])
    return blur if math.isfinite(blur) and blur > 0 else None
