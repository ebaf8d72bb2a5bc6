"""Power spectrum of an image: how its detail is distributed over spatial frequencies.

The spectrum is Welch's (1967, https://doi.org/10.1109/TAU.1967.1161901): the mean over Hann-windowed squares of the
luminance at the image's own resolution, so that memory does not grow with the image. It is averaged over rings of equal
frequency, the azimuthal average by which Durall et al. 2019 (https://arxiv.org/abs/1911.00686) detect generated faces:
upsampling in a generator leaves too much or too little at high frequencies.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32] | NDArray[np.uint8]
Spectrum = NDArray[np.float64]

SQUARE: Final = 256
MOST_SQUARES: Final = 64
HIGH: Final = 0.5
"""Share of the Nyquist frequency from which frequencies are high."""


@dataclass(frozen=True, slots=True)
class Detail:
    """``high_freq_ratio``: share of the amplitude above half of the Nyquist frequency, 0 to 1; ``entropy``: of the
    azimuthal average of the power, 0 to 7 bits; both are 0 for an image of one tone."""

    high_freq_ratio: float
    entropy: float


def detail(luma: Grey) -> Detail:
    """Measure the spectrum of a luminance image, (H, W), 0-255."""
    rings = azimuthal(luma)
    total = rings.sum()
    if total <= 0:
        return Detail(0.0, 0.0)
    amplitude = np.sqrt(rings)
    high = amplitude[round(len(rings) * HIGH) :].sum() / amplitude.sum()
    shares = rings / total
    used = shares[shares > 0]
    return Detail(float(high), max(0.0, -float(used @ np.log2(used))))


def azimuthal(luma: Grey) -> Spectrum:
    """Return float64[128], the mean power from the lowest frequency above 0 to the Nyquist frequency."""
    side = min(SQUARE, *luma.shape)
    window = np.hanning(side + 1)[:side]
    window = np.outer(window, window)
    power = np.zeros((side, side // 2 + 1))
    for y, x in _corners(luma.shape, side):
        part = luma[y : y + side, x : x + side].astype(np.float64)
        power += np.abs(np.fft.rfft2((part - part.mean()) * window)) ** 2
    down, across = np.fft.fftfreq(side) * 2, np.fft.rfftfreq(side) * 2
    radius = np.hypot(down[:, None], across)
    count = SQUARE // 2
    # Frequency 0 is left out, where the window spreads the mean.
    rings = np.floor(radius * count).astype(int)
    seen = (rings >= 1) & (rings < count)
    sums = np.bincount(rings[seen], power[seen], count)
    sizes = np.bincount(rings[seen], minlength=count)
    averages: Spectrum = sums / np.maximum(sizes, 1)
    return averages


def _corners(shape: tuple[int, ...], side: int) -> list[tuple[int, int]]:
    """Return the corners of the squares: all of a grid, or MOST_SQUARES of them, evenly spread."""
    rows, columns = (max(1, length // side) for length in shape)
    all_of_them = [(row * side, column * side) for row in range(rows) for column in range(columns)]
    step = max(1.0, len(all_of_them) / MOST_SQUARES)
    return [all_of_them[int(place * step)] for place in range(int(len(all_of_them) / step))]
