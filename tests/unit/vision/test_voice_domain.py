"""What tells that a voice is outside of what AASIST was made for: bandwidth, pauses, distance of its embedding."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vision.forensics.voice_domain import LEAST_BANDWIDTH_HZ, RATE, Domain, distances, measure

Array = NDArray[np.float32]


def speech(margin_db: float, bandwidth_hz: float = 8000, seconds: float = 4.0) -> Array:
    """Bursts of noise up to a frequency, over a noise so far below them."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, round(seconds * RATE))
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / RATE) > bandwidth_hz] = 0
    noise = np.fft.irfft(spectrum, len(noise))
    talks = (np.arange(len(noise)) // 8000) % 2 == 0
    smooth = np.hanning(801) / 400  # a hard edge would have all frequencies
    loudness = np.convolve(np.where(talks, 1, 10 ** (-margin_db / 20)), smooth, "same")
    return np.asarray(noise * loudness, np.float32)


@pytest.mark.parametrize("margin", [20, 35, 50])
def test_the_margin_of_speech_over_its_pauses(margin: float) -> None:
    assert measure(speech(margin))[1] == pytest.approx(margin, abs=2)  # a frame in ten lies on a border


@pytest.mark.parametrize(("bandwidth", "outside"), [(3400, True), (4400, True), (6500, False), (8000, False)])
def test_a_narrow_band_is_outside(bandwidth: float, outside: bool) -> None:
    measured, margin = measure(speech(50, bandwidth))
    assert measured == pytest.approx(bandwidth, abs=300)  # a window of 32 ms smears by a few of its lines
    assert bool(Domain(0.05, measured, margin).outside) == outside
    assert (measured < LEAST_BANDWIDTH_HZ) == outside


def test_what_is_outside_is_said_in_words() -> None:
    assert Domain(0.05, 8000, 45).outside == []
    assert Domain(None, 8000, 45).outside == []
    reasons = Domain(0.4, 3400, 12).outside
    assert [reason.split(" ")[1] for reason in reasons] == ["model", "frequencies", "pauses"]
    assert "3.4 kHz" in reasons[1]


def test_a_sound_is_judged_by_its_middle_windows_and_its_lower_margins() -> None:
    windows = [Domain(0.1, 8000, 45), Domain(0.5, 3000, 30), Domain(0.12, 7900, 44), Domain(0.12, 7900, 50)]
    assert Domain.of_windows(windows[:3]) == Domain(0.12, 7900, 30)
    assert Domain.of_windows([*windows, Domain(0.12, 7900, 47)]) == Domain(0.12, 7900, 44)
    assert Domain.of_windows([Domain(None, 8000, 45)]).distance is None


def test_distances_are_cosines_to_the_nearest_clip() -> None:
    from vision.forensics.voice_domain import _reference

    reference = _reference()
    assert reference.shape == (20, 160)
    assert distances(3 * reference) == pytest.approx(np.zeros(20), abs=1e-3)  # stored in 16 bits
    assert distances(-reference[:1])[0] > 0.5
    assert distances(np.zeros((1, 160), np.float32))[0] == 1


def test_silence_and_a_click_are_measured_too() -> None:
    assert measure(np.zeros(100, np.float32)) == (8000, 0)
    click = np.zeros(RATE, np.float32)
    click[5000] = 1
    assert np.isfinite(measure(click)).all()
