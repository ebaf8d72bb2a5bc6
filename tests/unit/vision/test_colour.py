"""Patches of HDR and wide gamuts in sRGB."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cases.colour import P3, SRGB, hdr_patches, pq_encode, srgb_decode, srgb_encode, to_xyz
from vision import colour
from vision.colour import BT709, BT2020, HLG, PQ, ColourConverter, is_srgb, to_srgb

BT470BG, BT601, DISPLAY_P3, XYZ = 5, 6, 12, 10
SRGB_CURVE, GAMMA28, LINEAR, DCI = 13, 5, 8, 17


def levels(signal: NDArray[np.float64], transfer: int, primaries: int) -> NDArray[np.float64]:
    return 255 * np.asarray(to_srgb(signal, transfer, primaries))


def test_white_of_203_is_bright_and_neutral_and_the_primaries_of_srgb_stay_pure() -> None:
    white, grey, red, green = levels(pq_encode(hdr_patches()), PQ, BT2020)[[24, 24, 72, 72], [32, 96, 32, 96]]
    assert white == pytest.approx(np.full(3, 208), abs=1)
    assert grey == pytest.approx(np.full(3, 135.5), abs=1)
    assert red == pytest.approx(np.array([208, 0, 0]), abs=1)
    assert green == pytest.approx(np.array([0, 208, 0]), abs=1)


def test_darker_than_the_knee_keeps_its_brightness() -> None:
    nits = np.array([0.5, 2.0, 10.0])
    grey = np.repeat(pq_encode(nits)[:, None], 3, 1)
    assert levels(grey, PQ, BT2020)[:, 0] == pytest.approx(255 * srgb_encode(nits / 203), abs=0.5)


def test_highlights_are_told_apart_up_to_the_peak() -> None:
    grey = np.repeat(pq_encode([203.0, 400.0, 1000.0, 4000.0, 10_000.0])[:, None], 3, 1)
    shown = levels(grey, PQ, BT2020)[:, 0]
    assert shown[3:] == pytest.approx(np.full(2, 255), abs=0.01)
    assert np.diff(shown[:4]).min() > 4


def test_reference_white_of_hlg_is_three_quarters_of_its_signal() -> None:
    shown = levels(np.repeat([[0.0], [0.75], [1.0]], 3, 1), HLG, BT2020)
    assert shown[:, 0] == pytest.approx(np.array([0, 229, 255]), abs=1)
    assert np.ptp(shown, axis=1).max() < 0.5


def test_wide_gamuts_show_the_same_colours() -> None:
    colours = np.random.default_rng(1).integers(20, 236, (50, 3)) / 255
    in_p3 = srgb_encode(srgb_decode(colours) @ (np.linalg.inv(to_xyz(P3)) @ to_xyz(SRGB)).T)
    assert levels(in_p3, SRGB_CURVE, DISPLAY_P3) == pytest.approx(255 * colours, abs=0.5)


@pytest.mark.parametrize(("transfer", "primaries"), [(1, 9), (14, 9), (GAMMA28, BT470BG), (BT601, 4), (DCI, 11)])
def test_greys_stay_neutral(transfer: int, primaries: int) -> None:
    shown = levels(np.repeat(np.linspace(0, 1, 20)[:, None], 3, 1), transfer, primaries)
    assert np.ptp(shown, axis=1).max() < 0.5
    assert (shown[0, 0], shown[-1, 0]) == pytest.approx((0, 255), abs=0.5)


def test_what_is_ordinary_stays_as_it_is() -> None:
    unspecified, reserved = 2, 3
    curves = BT709, unspecified, GAMMA28, BT601, SRGB_CURVE, 14
    assert all(is_srgb(curve, primaries) for curve in curves for primaries in (BT709, unspecified, reserved))
    assert not any(is_srgb(t, p) for t, p in ((PQ, unspecified), (HLG, BT709), (1, BT2020), (1, XYZ), (LINEAR, 1)))


@pytest.mark.parametrize(("transfer", "primaries"), [(PQ, BT2020), (HLG, BT2020), (1, BT2020), (13, DISPLAY_P3)])
def test_the_cube_gives_the_same_colours(transfer: int, primaries: int) -> None:
    picture = np.random.default_rng(2).random((60, 90, 3))
    converter = ColourConverter(transfer, primaries)
    shown = converter.pixels(np.rint(picture * 65535).astype(np.uint16))
    assert shown.dtype == np.uint8
    away = np.abs(shown - levels(picture, transfer, primaries))
    # Where a colour leaves the gamut it turns sharply, and the cube cuts the corner.
    assert np.quantile(away, 0.98) < 2
    assert away.mean() < 0.5
    again = converter.pixels(np.rint(picture[:10] * 255).astype(np.uint8))
    assert np.abs(again - levels(np.rint(picture[:10] * 255) / 255, transfer, primaries)).mean() < 0.5


def test_codes_that_nobody_uses_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "GRID", 2)
    colour._cube.cache_clear()
    for primaries in range(100, 120):
        ColourConverter(PQ, primaries).pixels(np.zeros((2, 2, 3), np.uint8))
    assert colour._cube.cache_info().currsize <= 8
    colour._cube.cache_clear()
