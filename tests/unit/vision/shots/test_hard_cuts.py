"""Hard cuts of made-up films: found to the frame, and not seen in motion, flashes, fades and noise."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vision.shots.hard_cuts import THUMBNAIL, ChangeMeter, cuts

Film = NDArray[np.uint8]
"""uint8[n, 18, 32, 3]."""


def scene(seed: int, frames: int, drift: float = 0.0, noise: float = 2.0) -> Film:
    """A picture of large soft areas that moves to the left by ``drift`` pixels a frame."""
    import cv2

    rng = np.random.default_rng(seed)
    width, height = THUMBNAIL
    wide = cv2.resize(rng.integers(0, 256, (4, 24, 3)).astype(np.float32), (6 * width, height))
    x = (np.arange(frames) * drift).astype(int)
    film = np.stack([wide[:, start : start + width] for start in x])
    return (film + rng.normal(0, noise, film.shape)).clip(0, 255).astype(np.uint8)


def cuts_of(film: Film) -> tuple[int, ...]:
    meter = ChangeMeter()
    return cuts(np.array([meter.update(frame) for frame in film], np.float32))


@pytest.mark.parametrize("drift", [0.0, 0.5, 1.5])
def test_cuts_are_found_to_the_frame(drift: float) -> None:
    lengths = [40, 12, 7, 60, 25]
    film = np.concatenate([scene(seed, length, drift) for seed, length in enumerate(lengths)])
    assert cuts_of(film) == tuple(np.cumsum(lengths)[:-1].tolist())


def test_cuts_close_to_the_ends_are_found() -> None:
    film = np.concatenate([scene(1, 1), scene(2, 30), scene(3, 1)])
    assert cuts_of(film) == (1, 31)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("level", [0, 255])
def test_a_flash_is_no_cut(length: int, level: int) -> None:
    film = scene(4, 60, 0.3)
    film[30 : 30 + length] = level
    assert cuts_of(film) == ()


def test_motion_noise_and_a_still_picture_have_no_cuts() -> None:
    assert cuts_of(scene(5, 50, drift=2.0)) == ()
    assert cuts_of(scene(6, 50, noise=25.0)) == ()
    assert cuts_of(np.zeros((50, 18, 32, 3), np.uint8)) == ()


def test_a_fade_and_a_dissolve_are_no_cuts() -> None:
    first, second = scene(7, 80).astype(np.float32), scene(8, 80).astype(np.float32)
    share = np.linspace(0, 1, 80)[:, None, None, None]
    assert cuts_of((first * share).astype(np.uint8)) == ()
    assert cuts_of((first * (1 - share) + second * share).astype(np.uint8)) == ()


def test_a_film_of_one_frame_has_no_cuts() -> None:
    assert cuts_of(scene(9, 1)) == ()
    assert cuts(np.zeros((0, 2), np.float32)) == ()


def test_measuring_goes_on_from_the_last_four_frames() -> None:
    film = np.concatenate([scene(1, 20, 0.5), scene(2, 20, 0.5)])
    whole = ChangeMeter()
    changes = [whole.update(frame) for frame in film]
    later = ChangeMeter()
    resumed = [later.update(frame) for frame in film[18:]]
    assert resumed[4:] == changes[22:]
    assert resumed[0] == (0.0, 0.0)


def test_the_first_frame_of_a_shot_is_sudden_at_once() -> None:
    meter = ChangeMeter()
    sudden = []
    for number, frame in enumerate(np.concatenate([scene(1, 20, 1.0), scene(2, 30, 1.0), scene(3, 9, 2.0)])):
        meter.update(frame)
        sudden += [number] if meter.sudden else []
    assert sudden == [20, 50]


def test_changes_are_shares() -> None:
    meter = ChangeMeter()
    meter.update(np.zeros((18, 32, 3), np.uint8))
    assert meter.update(np.full((18, 32, 3), 255, np.uint8)) == (1.0, 1.0)
