"""Alignment by five landmarks: known similarities, pictures whose content says where it lies."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tolerances import FP64
from vision.errors import InvalidInput
from vision.faces.face import SIZE, TEMPLATE, Point, align, misfit, scale_of, sharpness, similarity_transform
from vision.images import Pixels

pytestmark = pytest.mark.numeric

Points = tuple[Point, ...]


def turned(degrees: float, scale: float, shift: Point) -> NDArray[np.float64]:
    """float64[2, 3]: a similarity."""
    angle = np.radians(degrees)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([rotation, shift])


def moved(points: Points, transform: NDArray[np.float64]) -> Points:
    rows = np.asarray(points) @ transform[:, :2].T + transform[:, 2]
    return tuple((float(x), float(y)) for x, y in rows)


@pytest.mark.parametrize("degrees", [0.0, 17.5, 90.0, 180.0, -123.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 7.3])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (2000.0, -35.5)])
def test_a_known_similarity_is_undone(degrees: float, scale: float, shift: Point) -> None:
    landmarks = moved(TEMPLATE, turned(degrees, scale, shift))
    transform = similarity_transform(landmarks)
    np.testing.assert_allclose(moved(landmarks, transform), TEMPLATE, rtol=FP64)
    assert misfit(landmarks, transform) < 1e-6
    assert scale_of(transform) == pytest.approx(1 / scale)


def test_the_fit_has_the_least_squared_error() -> None:
    rng = np.random.default_rng(3)
    landmarks = tuple((float(x), float(y)) for x, y in np.array(TEMPLATE) * 3 + rng.normal(0, 12, (5, 2)))
    transform = similarity_transform(landmarks)
    error = misfit(landmarks, transform)
    assert 1 < error < 12
    for _ in range(200):
        nudged = transform + rng.normal(0, 0.01, 4)[[0, 1, 2, 1, 0, 3]].reshape(2, 3) * [[1, -1, 50], [1, 1, 50]]
        assert misfit(landmarks, nudged) > error


def test_it_is_umeyamas_transform() -> None:
    """The closed form against the singular value decomposition of the paper."""
    rng = np.random.default_rng(5)
    source, target = rng.uniform(0, 300, (5, 2)), np.array(TEMPLATE)
    a, b = source - source.mean(0), target - target.mean(0)
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt * (singular @ np.diag(sign)) / (a**2).sum()
    expected = np.column_stack([rotation, target.mean(0) - rotation @ source.mean(0)])
    np.testing.assert_allclose(similarity_transform(tuple(map(tuple, source))), expected, rtol=FP64, atol=100 * FP64)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = tuple((-x, y) for x, y in TEMPLATE)
    transform = similarity_transform(mirrored)
    assert np.linalg.det(transform[:, :2]) > 0
    assert misfit(mirrored, transform) > 10


def test_a_turned_face_fits_less() -> None:
    def seen_from(degrees: float) -> float:
        """A head with a nose in front of the plane of the eyes, turned about its vertical axis."""
        depth = np.array([0.0, 0.0, 22.0, 4.0, 4.0])
        points = np.array(TEMPLATE) - np.mean(TEMPLATE, 0)
        angle = np.radians(degrees)
        points[:, 0] = points[:, 0] * np.cos(angle) + depth * np.sin(angle)
        landmarks = tuple((float(x), float(y)) for x, y in points)
        return misfit(landmarks, similarity_transform(landmarks))

    fits = [seen_from(degrees) for degrees in (0, 20, 40, 60, 80)]
    assert fits == sorted(fits)
    assert fits[0] < 0.1
    assert fits[-1] > 8


def test_landmarks_on_one_point_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one point"):
        similarity_transform(((7.0, 9.0),) * 5)


def dotted(landmarks: Points, size: tuple[int, int], radius: float) -> Pixels:
    """A black picture (height, width) with a soft white disc at each landmark."""
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.zeros(size, np.float64)
    for column, row in landmarks:
        image += 255 * np.exp(-(((x - column) ** 2 + (y - row) ** 2) / (2 * radius**2)))
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize(
    ("scale", "radius"), [(0.7, 1.5), (1.0, 2.0), (1.9, 4.0), (2.6, 5.0), (5.0, 10.0), (9.0, 18.0)]
)
@pytest.mark.parametrize("degrees", [0.0, 33.0])
def test_landmarks_come_to_lie_on_the_template(scale: float, radius: float, degrees: float) -> None:
    landmarks = moved(TEMPLATE, turned(degrees, scale, (70 * scale, 20 * scale)))
    side = round(260 * scale)
    crop = align(dotted(landmarks, (side, side), 2 * scale), similarity_transform(landmarks))
    assert crop.shape == (SIZE, SIZE, 3)
    assert crop.dtype == np.uint8
    y, x = np.mgrid[:SIZE, :SIZE]
    for column, row in TEMPLATE:
        near = crop[..., 0] * (np.hypot(x - column, y - row) < 8)
        centre = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
        assert np.hypot(centre[0] - column, centre[1] - row) < 0.5


def test_a_large_face_is_averaged_and_not_skipped_through() -> None:
    """Stripes of one pixel become grey, as they do when the picture is shrunk first."""
    landmarks = moved(TEMPLATE, turned(0, 8, (0, 0)))
    stripes = np.zeros((896, 896, 3), np.uint8)
    stripes[:, ::2] = 255
    inside = align(stripes, similarity_transform(landmarks))[5:-5, 5:-5]
    assert abs(inside.mean() - 127.5) < 2
    assert inside.std() < 3


def test_a_small_face_is_cut_as_opencv_cuts_it() -> None:
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (150, 150, 3), dtype=np.uint8), (0, 0), 2)
    transform = similarity_transform(moved(TEMPLATE, turned(8, 0.8, (20, 15))))
    np.testing.assert_array_equal(align(image, transform), cv2.warpAffine(image, transform, (SIZE, SIZE)))


@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_what_lies_outside_the_picture_is_black(scale: float) -> None:
    landmarks = moved(TEMPLATE, turned(0, scale, (-56 * scale, 0)))
    image = np.full((round(112 * scale), round(112 * scale), 3), 200, np.uint8)
    image.flags.writeable = False
    crop = align(image, similarity_transform(landmarks))
    assert crop[:, :52].max() == 0
    assert crop[5:-5, 60:].min() == 200
    far = align(image, similarity_transform(moved(landmarks, turned(0, 1, (-900 * scale, 0)))))
    assert far.max() == 0


def textured_crop(seed: int = 0) -> Pixels:
    """An aligned crop with detail at all scales, uint8 (112, 112, 3)."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 20, (112 // step, 112 // step)), (112, 112)) for step in (1, 2, 4, 8)]
    return np.repeat(np.rint(128 + sum(layers)).clip(0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_smear_in_any_direction_is_a_blur(seed: int) -> None:
    crop = textured_crop(seed)
    sharp = sharpness(crop)
    smears = [cv2.blur(crop, size) for size in ((13, 1), (1, 13))]
    for blurred in (*smears, cv2.GaussianBlur(crop, (0, 0), 4)):
        assert sharpness(np.asarray(blurred)) < 0.1 * sharp
    # As the variance of the Laplacian would have it, a smear keeps a good part of its sharpness.
    before, after = (cv2.Laplacian(each[..., 0], cv2.CV_32F).var() for each in (crop, smears[0]))
    assert after > 0.03 * before
