"""Whether a voice is like those that AASIST was made for: clean studio sentences with all frequencies up to 8 kHz.

Three measures of a window tell: how far its embedding is from those of the clips that AASIST's curve was fitted to, how
high its frequencies reach, and how far the pauses lie below the speech. Elsewhere AASIST takes most real voices for
synthetic ones (``ops/bench/reports/authenticity.md``). A voice that passes all three may be of another corpus all the
same: an embedding that was trained to tell two classes keeps little else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

import configs

Array = NDArray[np.float32]

REFERENCE: Final = Path(configs.__file__).parent / "voice_domain.npz"
"""Embeddings float16 (20, 160) of the clips, of length 1; written by ``ops.calibration.authenticity --domain``."""
RATE: Final = 16_000
FRAME: Final = 512
HOP: Final = 256
FARTHEST: Final = 0.2
"""Cosine distance to the nearest clip. Among the 20 clips it is 0.13 at most, of the sound of a film 0.33 and more."""
LEAST_BANDWIDTH_HZ: Final = 5500.0
"""The 20 clips reach 6.7 kHz and more; telephones 3.4, and sound at 8 kHz 4.5 with what resampling leaves above it."""
FLOOR_DB: Final = -60.0
"""Below the strongest frequency of the speech, where its band ends."""
LEAST_MARGIN_DB: Final = 40.0
"""The genuine ones of the clips have 41 to 50; LJSpeech, read at home, has 26 to 39, and music under a voice less."""


@dataclass(frozen=True, slots=True)
class Domain:
    """``distance``: cosine, 0 to 2, or None without an embedding; ``bandwidth_hz``; ``margin_db``: of the speech over
    its pauses."""

    distance: float | None
    bandwidth_hz: float
    margin_db: float

    @classmethod
    def of_windows(cls, windows: Sequence["Domain"]) -> "Domain":
        """Return that of a sound by its windows, at least one: the medians, and of the margins the lower quartile, as a
        fade makes the pauses of single windows silent."""
        far = [window.distance for window in windows if window.distance is not None]
        return cls(
            float(np.median(far)) if far else None,
            float(np.median([window.bandwidth_hz for window in windows])),
            float(np.quantile([window.margin_db for window in windows], 0.25, method="lower")),
        )

    @property
    def outside(self) -> list[str]:
        """Return in what the sound differs from what AASIST knows, in words; empty where it does not."""
        reasons = []
        if self.distance is not None and self.distance > FARTHEST:
            reasons.append(f"the model hears something unlike all that it knows (distance {self.distance:.2f})")
        if self.bandwidth_hz < LEAST_BANDWIDTH_HZ:
            reasons.append(f"its frequencies end at {self.bandwidth_hz / 1000:.1f} kHz, as on a telephone")
        if self.margin_db < LEAST_MARGIN_DB:
            margin = max(self.margin_db, 0)
            reasons.append(f"its pauses are only {margin:.0f} dB below the speech, unlike in a studio")
        return reasons


def measure(window: Array) -> tuple[float, float]:
    """Return the bandwidth in Hz and the margin in dB of a sound, float32[n] at 16 kHz, of at least one frame."""
    padded = np.pad(window, (0, max(0, FRAME - len(window))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2
    energy = power.sum(1)
    if energy.max() <= 0:
        return RATE / 2, 0.0
    speech = energy >= np.quantile(energy, 0.5)
    spectrum = power[speech].mean(0)
    audible = np.flatnonzero(spectrum > spectrum.max() * 10 ** (FLOOR_DB / 10))
    bandwidth = float(audible[-1]) * RATE / FRAME
    pauses = energy[energy <= np.quantile(energy, 0.1)].mean()
    return bandwidth, float(10 * np.log10(energy[speech].mean() / max(pauses, energy.max() * 1e-12)))


def distances(embeddings: Array) -> Array:
    """Return the cosine distance of embeddings, float32[n, 160], to the nearest clip, float32[n]."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    nearest: Array = 1 - (embeddings / np.maximum(lengths, 1e-9) @ _reference().T).max(1)
    return nearest


@lru_cache(maxsize=1)
def _reference() -> Array:
    with np.load(REFERENCE) as stored:
        reference: Array = stored["embeddings"].astype(np.float32)
    return reference
