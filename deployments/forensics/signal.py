"""forensics/signal: traces of editing and recompression in the pixels of a picture, without any model.

Measured on the luminance of ITU-R BT.601 at the picture's own resolution: how detail is spread over frequencies
(``spectrum``), noise and whether it is even (``noise``), the traces of compression and whether they are even
(``compression``), and sharpness, the variance of the Laplacian (Pech-Pacheco et al. 2000). The modules name the papers.

Only the strength of a JPEG ghost goes into the probability: on pictures that were spliced on purpose it is better than
chance, the others are not (see the report). They are reported all the same, for a person to interpret. A picture that
was saved small, or by a messenger, has lost most of these traces, so a low probability proves nothing.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.errors import InvalidInput
from vision.forensics.calibration import GHOSTS
from vision.forensics.compression import QUALITIES, compression
from vision.forensics.noise import noise
from vision.forensics.spectrum import detail
from vision.images import Pixels
from vision.quality.blur import grey_laplacian_variance

Map = NDArray[np.float32]
Table = tuple[int, ...]

LARGEST_SIDE: Final = 65_500
"""Of a JPEG, which a picture is saved as to be measured."""
SMALLEST_SIDE: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """``probability``: 0-1, higher is more likely changed.

    ``high_freq_ratio``: share of the amplitude above half the Nyquist frequency, 0-1; ``spectral_entropy``: bits;
    ``noise_variance``: squared grey levels; ``noise_inconsistency``: from 0, higher is more uneven; ``sharpness``:
    squared grey levels; ``error_level``: mean change by saving again, grey levels; ``error_contrast``: how far its
    highest blocks stand out, as a logarithm; ``ghost``: 0-1, and the JPEG quality at which it shows;
    ``double_compression``: 0-1, or None where it is unknown. ``errors`` (grey levels), ``ghosts`` (0-1, low stands
    out) in blocks of 16 pixels and ``noise`` (grey levels) in blocks of 32: float32 (h, w).
    """

    probability: float
    high_freq_ratio: float
    spectral_entropy: float
    noise_variance: float
    noise_inconsistency: float
    sharpness: float
    error_level: float
    error_contrast: float
    ghost: float
    ghost_quality: int
    double_compression: float | None
    errors: Map
    ghosts: Map
    noise: Map


class Config(StageConfig):
    """``user_config`` of forensics/signal."""

    at_once: int = Field(default=2, ge=1, description="pictures that are measured concurrently; read at load")


SIGNAL: Final = StageRef[tuple[SharedImage, Table | None], Signals]("forensics/signal")


class SignalAnalyzer(Stage[Config, tuple[Pixels, Table | None], tuple[Pixels, Table | None], Signals]):
    """(Image, uint8 (H, W, 3) RGB, the quantisation table of the JPEG it came in) → Signals."""

    key = SIGNAL.key
    config_class = Config
    libraries = ("cv2", "scipy.fft")

    def batches_at_once(self) -> int:
        return self.config.at_once

    def predict(self, item: tuple[Pixels, Table | None]) -> Signals:
        image, table = item
        if min(image.shape[:2]) < SMALLEST_SIDE:
            raise InvalidInput(f"A picture of less than {SMALLEST_SIDE} pixels a side is too small to be measured.")
        if max(image.shape[:2]) > LARGEST_SIDE:
            raise InvalidInput(f"A picture of more than {LARGEST_SIDE} pixels a side cannot be measured.")
        return measure(image, table)

    def info(self) -> dict[str, Any]:
        return {
            "method": "spectrum (Welch 1967, Durall et al. 2019), noise (Immerkaer 1996; Mahdian and Saic 2009), error "
            "level (Krawetz 2007), JPEG ghosts (Farid 2009), double compression (Popescu and Farid 2004), sharpness "
            "(Pech-Pacheco et al. 2000)",
            "qualities": list(QUALITIES),
            "score": "probability of having been changed, 0 to 1, higher is more likely; from the JPEG ghost alone",
            "worth": "AUC 0.89 on splices of pictures that it was not fitted to, chance on swapped and retouched faces",
            "calibration": GHOSTS.info(),
        }


def measure(image: Pixels, table: Table | None) -> Signals:
    """Return the signals of an RGB picture of at least 64 pixels a side."""
    import cv2

    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    frequencies, uneven, saved = detail(luma), noise(luma), compression(luma, table)
    return Signals(
        probability=GHOSTS.probability(saved.ghost),
        high_freq_ratio=frequencies.high_freq_ratio,
        spectral_entropy=frequencies.entropy,
        noise_variance=uneven.variance,
        noise_inconsistency=uneven.inconsistency,
        sharpness=grey_laplacian_variance(luma),
        error_level=saved.error_level,
        error_contrast=saved.error_contrast,
        ghost=saved.ghost,
        ghost_quality=saved.ghost_quality,
        double_compression=saved.double,
        errors=saved.errors,
        ghosts=saved.ghosts,
        noise=uneven.level,
    )
