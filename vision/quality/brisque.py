"""BRISQUE: 36 natural scene statistics of a grey image at two scales, and the regression from them to a score.

Mittal, Moorthy and Bovik 2012, No-Reference Image Quality Assessment in the Spatial Domain
(https://doi.org/10.1109/TIP.2012.2214050), number by number as in their MATLAB release: grey by ``rgb2gray``,
mean-subtracted contrast-normalised (MSCN) coefficients over a 7x7 Gaussian window with zeros beyond the border, a
generalised Gaussian fitted to them and an asymmetric one (AGGD) to each of their products with four neighbours, where
opposite edges of the image count as neighbours, and all of that again at half the size by bicubic ``imresize``. The
score is an epsilon support vector regression with an RBF kernel, read from a model file of LIBSVM (Chang and Lin 2011):
Σ coefficientᵢ · exp(−γ‖x − vectorᵢ‖²) − ρ.

A regression is off by many points on features that were computed in another way than those of its training: a
``Recipe`` says how. ``MATLAB`` is the one above. ``OPENCV`` is that of ports to OpenCV, its module ``quality`` among
them: edges are repeated beyond the border, what lies beyond it is no neighbour, half the size is plain bicubic
interpolation, and the coefficients too are fitted by an AGGD.

Features are computed in float32, in bands of rows that stay in the processor's cache; sums are float64. That takes
about 7 bytes of memory a pixel.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.images import Pixels

RGB2GRAY = np.array([[0.298936021293776, 0.587043074451121, 0.114020904255103]])
"""Weights of red, green and blue in MATLAB."""
HALF_BICUBIC = np.array([-3, -9, 29, 111, 111, 29, -9, -3], np.float32) / 256
"""Kernel of MATLAB's imresize to 0.5: cubic with a = -0.5, stretched over 8 pixels against aliasing."""
WINDOW, SIGMA = 7, 7 / 6
SCALES = 2
MIN_SIDE = SCALES * WINDOW
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (-1, 1))
"""Rows and columns by which the image is shifted."""
BAND_PIXELS = 1 << 17
"""Pixels of a band: few enough for the cache, enough that two threads seldom contend for the GIL."""

Plane = NDArray[np.float32]
Sums = NDArray[np.float64]
FEATURES = 36


@dataclass(frozen=True, eq=False)
class Recipe:
    """How the features of a training set were computed.

    ``ranges``: float64[2, 36], least and greatest value of each feature over the training set. Features are scaled so
    that these become -1 and 1; they may lie outside. ``replicate``: whether windows repeat the edge of the image beyond
    it, in place of zeros. ``wrap``: whether opposite edges count as neighbours. ``antialias``: whether half the size is
    that of MATLAB's ``imresize``, else that of OpenCV's ``INTER_CUBIC``. ``asymmetric``: whether an AGGD is fitted to
    the coefficients themselves.
    """

    ranges: NDArray[np.float64]
    replicate: bool
    wrap: bool
    antialias: bool
    asymmetric: bool


MATLAB = Recipe(
    # The file "allrange" of the BRISQUE release.
    ranges=np.array(
        [
            *[(0.338, 10), (0.017204, 0.806612)],
            *[(0.236, 1.642), (-0.123884, 0.20293), (0.000155, 0.712298), (0.001122, 0.470257)],
            *[(0.244, 1.641), (-0.123586, 0.179083), (0.000152, 0.710456), (0.000975, 0.470984)],
            *[(0.249, 1.555), (-0.135687, 0.100858), (0.000174, 0.684173), (0.000913, 0.534174)],
            *[(0.258, 1.561), (-0.143408, 0.100486), (0.000179, 0.685696), (0.000888, 0.536508)],
            *[(0.471, 3.264), (0.012809, 0.703171)],
            *[(0.218, 1.046), (-0.094876, 0.187459), (1.5e-05, 0.442057), (0.001272, 0.40803)],
            *[(0.222, 1.042), (-0.115772, 0.162604), (1.6e-05, 0.444362), (0.001374, 0.40243)],
            *[(0.227, 0.996), (-0.117188, 0.098323), (3e-05, 0.531903), (0.001122, 0.369589)],
            *[(0.228, 0.99), (-0.12243, 0.098658), (2.8e-05, 0.530092), (0.001118, 0.370399)],
        ]
    ).T,
    replicate=False,
    wrap=True,
    antialias=True,
    asymmetric=False,
)
OPENCV = Recipe(
    # The lists "min_" and "max_" of brisque/models/normalize.pickle in the wheel brisque 0.2.0, which is not unpickled.
    ranges=np.array(
        [
            *[(0.336999, 9.999411), (0.019667, 0.807472)],
            *[(0.23, 1.644021), (-0.125959, 0.202917), (0.000167, 0.712384), (0.000616, 0.468672)],
            *[(0.231, 1.644021), (-0.125873, 0.169548), (0.000165, 0.713132), (0.0006, 0.467896)],
            *[(0.241, 1.553016), (-0.128814, 0.101368), (0.000179, 0.687324), (0.000386, 0.533087)],
            *[(0.243, 1.554016), (-0.13308, 0.101), (0.000182, 0.689177), (0.000421, 0.533133)],
            *[(0.436998, 3.639918), (0.016929, 0.800955)],
            *[(0.247, 1.096995), (-0.200231, 0.175286), (0.000104, 0.755547), (0.000834, 0.39927)],
            *[(0.257, 1.095995), (-0.200017, 0.155928), (0.000112, 0.751488), (0.000876, 0.402398)],
            *[(0.257, 1.041992), (-0.155072, 0.093209), (0.000112, 0.623516), (0.000356, 0.532925)],
            *[(0.258, 1.042992), (-0.154374, 0.093714), (0.000117, 0.621958), (0.000351, 0.534484)],
        ]
    ).T,
    replicate=True,
    wrap=False,
    antialias=False,
    asymmetric=True,
)


def features(image: Pixels, recipe: Recipe = MATLAB) -> NDArray[np.float64]:
    """Return float64[36] of an image, uint8 (H, W, 3) RGB.

    Raises InvalidInput for a flat image, for one with a side below 14 pixels, and where half the size is flat.
    """
    import cv2

    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InvalidInput(
            f"This picture has {width} x {height} pixels; BRISQUE needs at least {MIN_SIDE} on each side."
        )
    grey = cv2.transform(image, RGB2GRAY)
    if grey.min() == grey.max():
        raise InvalidInput("This picture is a single shade of grey; BRISQUE has nothing to measure in it.")
    half = halved if recipe.antialias else interpolated
    plane, values = grey, statistics(mscn(grey, replicate=recipe.replicate), recipe)
    for _ in range(SCALES - 1):
        plane = half(plane)
        values += statistics(mscn(plane, replicate=recipe.replicate), recipe)
    return np.array(values)


def mscn(plane: NDArray[Any], *, replicate: bool = False) -> Plane:
    """Return (I − μ) / (σ + 1) with μ and σ of a Gaussian window around each pixel; exactly 0 where the window is flat.

    The formula alone leaves rounding errors in flat windows, whose signs move the score of an image with large clipped
    areas by several points, in the original release too.
    """
    import cv2

    kernel = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_32F)
    window, reach = np.ones((WINDOW, WINDOW), np.uint8), WINDOW // 2
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    result = np.empty(plane.shape, np.float32)
    for start, stop in _bands(plane):
        first, last = max(start - reach, 0), min(stop + reach, len(plane))
        rows = first - start + reach, stop + reach - last
        around = cv2.copyMakeBorder(plane[first:last], *rows, 0, 0, border, value=0)
        values = around.astype(np.float32)
        mean, square = (
            cv2.sepFilter2D(source, cv2.CV_32F, kernel, kernel, borderType=border)[reach:-reach]
            for source in (values, cv2.multiply(values, values))
        )
        deviation = cv2.sqrt(cv2.absdiff(square, cv2.multiply(mean, mean)))
        coefficients = cv2.divide(cv2.subtract(values[reach:-reach], mean), cv2.add(deviation, 1.0))
        low, high = (extreme(around, window, borderType=border, borderValue=0) for extreme in (cv2.erode, cv2.dilate))
        coefficients[(low == high)[reach:-reach]] = 0
        result[start:stop] = coefficients
    return result


def halved(plane: NDArray[Any]) -> Plane:
    """Return the plane at half its size, rounded up, as MATLAB's ``imresize(plane, 0.5)`` does."""
    import cv2

    once, reflect = np.ones(1, np.float32), cv2.BORDER_REFLECT
    across = cv2.sepFilter2D(plane, cv2.CV_32F, HALF_BICUBIC, once, anchor=(3, 0), borderType=reflect)
    across = np.ascontiguousarray(across[:, ::2])
    down = cv2.sepFilter2D(across, cv2.CV_32F, once, HALF_BICUBIC, anchor=(0, 3), borderType=reflect)
    return np.ascontiguousarray(down[::2])


def interpolated(plane: NDArray[Any]) -> Plane:
    """Return the plane at half its size, rounded down, by bicubic interpolation, so with aliasing."""
    import cv2

    height, width = plane.shape
    half: Plane = cv2.resize(
        plane.astype(np.float32, copy=False), (width // 2, height // 2), interpolation=cv2.INTER_CUBIC
    )
    return half


def statistics(coefficients: Plane, recipe: Recipe = MATLAB) -> list[float]:
    """Return 18 features of MSCN coefficients.

    Shape and variance, then shape, mean, left and right variance of four AGGDs. Raises InvalidInput when the
    coefficients, or all products of neighbours, are 0.
    """
    field, products = _sums(coefficients, recipe)
    if not (field[1] and products[:, 1].all()):
        raise InvalidInput("This picture has no detail at half its size; BRISQUE has nothing to measure in it.")
    count = coefficients.size
    if recipe.asymmetric:
        alpha, _, left, right = _asymmetric(field, count)
        values = [alpha, (left + right) / 2]
    else:
        alphas, ratios = _shapes()
        absolute, square = field[:2].tolist()
        spread = (square / count) / (absolute / count) ** 2
        values = [float(alphas[np.abs(spread - 1 / ratios).argmin()]), square / count]
    for sums in products:
        values += _asymmetric(sums, count)
    return values


def _asymmetric(sums: Sums, count: int) -> list[float]:
    """Return shape, mean, left and right variance of the AGGD of ``count`` values with the sums of ``_moments``."""
    alphas, ratios = _shapes()
    absolute, square, right_square, rights, lefts = sums.tolist()
    left = math.sqrt(max(0.0, square - right_square) / max(lefts, 1))
    right = math.sqrt(right_square / max(rights, 1))
    ratio = (absolute / count) ** 2 / (square / count)
    # The paper divides by the right deviation; in this form values that are never positive fit as well.
    ratio *= (left**3 + right**3) * (left + right) / (left**2 + right**2) ** 2
    alpha = float(alphas[np.abs(ratios - ratio).argmin()])
    mean = (right - left) * math.gamma(2 / alpha) / math.sqrt(math.gamma(1 / alpha) * math.gamma(3 / alpha))
    return [alpha, mean, left**2, right**2]


def _sums(coefficients: Plane, recipe: Recipe) -> tuple[Sums, Sums]:
    """Return float64[5], the moments of the coefficients (the last three only for an AGGD), and float64[4, 5], those of
    their products with each of the four neighbours."""
    import cv2

    height, width = coefficients.shape
    beyond = cv2.BORDER_WRAP if recipe.wrap else cv2.BORDER_CONSTANT
    field, products = np.zeros(5), np.zeros((len(NEIGHBOURS), 5))
    for start, stop in _bands(coefficients):
        band = coefficients[start:stop]
        rows = coefficients.take(range(start - 1, stop + 1), axis=0, mode="wrap")
        if not recipe.wrap:
            rows[[at for at, row in ((0, start - 1), (-1, stop)) if not 0 <= row < height]] = 0
        around = cv2.copyMakeBorder(rows, 0, 0, 1, 0, beyond, value=0)
        if recipe.asymmetric:
            field += _moments(band)
        else:
            field[:2] += cv2.norm(band, cv2.NORM_L1), cv2.norm(band, cv2.NORM_L2SQR)
        for sums, (down, right) in zip(products, NEIGHBOURS, strict=True):
            sums += _moments(cv2.multiply(band, around[1 - down : 1 - down + len(band), 1 - right : 1 - right + width]))
    return field, products


def _moments(values: Plane) -> tuple[float, float, float, int, int]:
    """Return Σ|x|, Σx², Σx² of the positive values, the number of positive and the number of negative ones."""
    import cv2

    _, positive = cv2.threshold(values, 0, 0, cv2.THRESH_TOZERO)
    rights = cv2.countNonZero(positive)
    return (
        cv2.norm(values, cv2.NORM_L1),
        cv2.norm(values, cv2.NORM_L2SQR),
        cv2.norm(positive, cv2.NORM_L2SQR),
        rights,
        cv2.countNonZero(values) - rights,
    )


def _bands(plane: NDArray[Any]) -> Iterator[tuple[int, int]]:
    height, width = plane.shape
    rows = max(1, BAND_PIXELS // width)
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


@lru_cache
def _shapes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shapes α = 0.2, 0.201 … 10 and E|x|² / E x² = Γ(2/α)² / (Γ(1/α) Γ(3/α)) of each generalised
    Gaussian."""
    alphas = np.linspace(0.2, 10, 9801)
    ratios = [math.exp(2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a)) for a in alphas.tolist()]
    return alphas, np.array(ratios)


@dataclass(frozen=True, eq=False)
class Svr:
    """Support vector regression: ``vectors`` float64[n, 36], ``coefficients`` float64[n]; ``recipe`` is that of its
    features."""

    vectors: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    gamma: float
    rho: float
    recipe: Recipe = MATLAB

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores float64[m] of features float64[m, 36]."""
        low, high = self.recipe.ranges
        scaled = 2 * (features - low) / (high - low) - 1
        distances = ((scaled[:, None] - self.vectors) ** 2).sum(2)
        scores: NDArray[np.float64] = (np.exp(-self.gamma * distances) * self.coefficients).sum(1) - self.rho
        return scores


def load_svr(path: Path, recipe: Recipe = MATLAB) -> Svr:
    """Read a model file of LIBSVM that was trained on features of ``recipe``.

    Raises ValueError when it is not an epsilon-SVR with an RBF kernel.
    """
    header, _, body = path.read_text(encoding="ascii").partition("\nSV\n")
    values = dict(line.split(maxsplit=1) for line in header.splitlines())
    if (values.get("svm_type"), values.get("kernel_type")) != ("epsilon_svr", "rbf"):
        raise ValueError(f"{path.name} is no epsilon-SVR with an RBF kernel")
    rows = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(rows), FEATURES))
    for vector, (_, *entries) in zip(vectors, rows, strict=True):
        for entry in entries:
            index, value = entry.split(":")
            vector[int(index) - 1] = float(value)
    coefficients = np.array([float(row[0]) for row in rows])
    return Svr(vectors, coefficients, float(values["gamma"]), float(values["rho"]), recipe)
