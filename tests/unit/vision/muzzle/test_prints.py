"""Prints of drawn muzzles: the same one agrees under other conditions, others do not, what is no skin is left out."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.vision.muzzle.textures import everywhere, moved, muzzle
from vision.errors import InvalidInput
from vision.images import Pixels
from vision.muzzle.print_picture import draw_matches
from vision.muzzle.prints import (
    FORMAT,
    MAX_FEATURES,
    MIN_INLIERS,
    SIDE,
    Print,
    PrintMatch,
    is_print,
    match,
    normalized,
    skin_of,
    take_print,
)


def taken(image: Pixels, skin: NDArray[np.bool_] | None = None) -> Print:
    grey = normalized(image)
    return take_print(grey, everywhere(grey) if skin is None else skin)


COW = muzzle(1)
PRINT = taken(COW)


def blurred(image: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8)


def from_afar(image: Pixels) -> Pixels:
    return np.asarray(cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA), np.uint8)


def in_the_dark(image: Pixels) -> Pixels:
    return np.clip(image * 0.3 + np.random.default_rng(0).normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def with_a_lamp_at_one_side(image: Pixels) -> Pixels:
    light = np.linspace(0.4, 1.4, image.shape[1])[None, :, None]
    return np.clip(image * light, 0, 255).astype(np.uint8)


def dirty(image: Pixels) -> Pixels:
    changed = image.copy()
    for x, y in np.random.default_rng(5).integers(0, 400, (12, 2)):
        cv2.circle(changed, (int(x), int(y)), 35, (60, 45, 30), -1)
    return changed


def from_the_side(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    before = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    after = np.array([[0, 0], [0.85 * width, 0.1 * height], [0.85 * width, 0.9 * height], [0, height]], np.float32)
    return np.asarray(cv2.warpPerspective(image, cv2.getPerspectiveTransform(before, after), (width, height)), np.uint8)


CHANGES = [blurred, from_afar, in_the_dark, with_a_lamp_at_one_side, dirty, from_the_side]


@pytest.mark.parametrize("change", CHANGES)
def test_a_muzzle_is_known_again(change: Callable[[Pixels], Pixels]) -> None:
    assert match(taken(change(COW)), PRINT).inliers >= 3 * MIN_INLIERS


@pytest.mark.parametrize("seed", [2, 3])
def test_another_muzzle_agrees_by_chance_only(seed: int) -> None:
    for change in (lambda image: image, blurred, in_the_dark):
        other = match(taken(change(muzzle(seed))), PRINT)
        assert other.inliers <= 5 < MIN_INLIERS
        assert len(other.points) == other.inliers


@pytest.mark.parametrize(
    ("scale", "degrees", "right", "down"),
    [(1.0, 0.0, 30.0, -20.0), (1.2, 12.0, 0.0, 0.0), (0.8, -25.0, 15.0, 10.0), (1.0, 90.0, 0.0, 0.0)],
)
def test_the_transform_is_how_the_photo_was_moved(scale: float, degrees: float, right: float, down: float) -> None:
    found = match(PRINT, taken(moved(COW, scale, degrees, right, down)))
    assert found.scale == pytest.approx(scale, abs=0.02)  # of a tolerance of 2 % of the side for each inlier
    assert found.rotation == pytest.approx(degrees, abs=1.5)  # degrees, likewise
    assert 0.5 < found.share <= 1
    height, width = normalized(COW).shape
    assert found.shift is not None
    turn = np.radians(degrees)
    turned = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = turned @ (width / 2, height / 2) + SIDE * np.array(found.shift)
    shrunk = SIDE / COW.shape[1]
    np.testing.assert_allclose(middle, [width / 2 + right * shrunk, height / 2 + down * shrunk], atol=0.02 * SIDE)


def test_a_mirrored_muzzle_is_another_one() -> None:
    assert match(taken(np.ascontiguousarray(COW[:, ::-1])), PRINT).inliers < MIN_INLIERS


def test_a_speck_that_two_photos_share_is_no_print() -> None:
    stamp = muzzle(77, (60, 60))
    photos = [muzzle(seed).copy() for seed in (11, 12)]
    for photo in photos:
        photo[5:65, 5:65] = stamp
    assert match(*map(taken, photos)).inliers < MIN_INLIERS + 8
    skin = everywhere(normalized(photos[0]))
    skin[:35, :35] = False
    assert match(*[taken(photo, skin) for photo in photos]).inliers < MIN_INLIERS


def test_what_stands_behind_the_animal_matches_nobody() -> None:
    stall = muzzle(500)
    photos = []
    for seed in (21, 22):
        photo = stall.copy()
        photo[120:320, 150:370] = muzzle(seed, (200, 220))
        photos.append(photo)
    assert match(*map(taken, photos)).inliers > 3 * MIN_INLIERS  # nothing told muzzle and stall apart
    likeness = np.full((16, 16), -0.1, np.float32)
    likeness[5:12, 5:11] = 0.6
    prints = [taken(photo, skin_of(likeness, *normalized(photo).shape)) for photo in photos]
    assert min(map(len, prints)) > 50
    assert match(*prints).inliers < MIN_INLIERS


def test_skin_is_what_is_half_as_much_like_a_muzzle_as_its_best_parts() -> None:
    likeness = np.linspace(0, 1, 14, dtype=np.float32)[None].repeat(14, 0)
    skin = skin_of(likeness, 140, 280)
    assert skin.shape == (140, 280)
    assert skin[:, 150:].all()
    assert not skin[:, :120].any()
    assert skin_of(None, 3, 4).all()
    assert not skin_of(np.full((16, 16), -0.2, np.float32), 30, 40).any()


def test_a_kept_print_gives_what_its_photo_gave() -> None:
    data = PRINT.to_bytes()
    assert is_print(data)
    assert len(data) < 140 * MAX_FEATURES
    kept = Print.from_bytes(data)
    np.testing.assert_array_equal(kept.points, PRINT.points)
    np.testing.assert_array_equal(kept.descriptors, PRINT.descriptors)
    probe = taken(moved(COW, degrees=7))
    assert match(probe, kept) == match(probe, PRINT)


@pytest.mark.parametrize(
    "data",
    [b"", b"other", FORMAT, FORMAT + b"\x93NUMPY\x01\x00", FORMAT + bytes(200), FORMAT + bytes(10**6)],
    ids=["none", "other", "empty", "cut", "zeros", "long"],
)
def test_other_bytes_are_no_print(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="enrol the animal again"):
        Print.from_bytes(data)


@pytest.mark.parametrize("size", [(300, 300), (32, 3000), (3000, 32), (33, 40)])
@pytest.mark.parametrize("kind", ["black", "noise"])
def test_any_picture_has_a_print_of_bounded_size(size: tuple[int, int], kind: str) -> None:
    image = np.zeros((*size, 3), np.uint8)
    if kind == "noise":
        image = np.random.default_rng(3).integers(0, 256, image.shape, dtype=np.uint8)
    found = taken(image)
    assert len(found) <= MAX_FEATURES
    assert found.descriptors.shape == (len(found), 128)
    assert match(found, PRINT).inliers < MIN_INLIERS
    if kind == "black":
        assert match(found, found) == PrintMatch()


def test_the_picture_shows_both_photos_and_every_place() -> None:
    other = moved(COW, 0.9, 10)
    found = match(taken(other), PRINT)
    drawn = cv2.imdecode(np.frombuffer(draw_matches(other, COW, found), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (414, 512 + 12 + 512, 3)
    left = 512 + 12
    for x, y, there_x, there_y in 2 * np.array(found.points[:5]):
        here = drawn[round(y) - 7 : round(y) + 8, max(0, round(x) - 7) : round(x) + 8]
        there = drawn[round(there_y) - 7 : round(there_y) + 8, left + round(there_x) - 7 : left + round(there_x) + 8]
        for part in (here, there):
            assert (part.max(2).astype(int) - part.min(2)).max() > 100  # coloured
    plain = cv2.imdecode(np.frombuffer(draw_matches(other, COW, PrintMatch()), np.uint8), cv2.IMREAD_COLOR)
    assert (plain.max(2) == plain.min(2)).all()  # grey
