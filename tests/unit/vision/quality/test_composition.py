"""Composition of generated images whose composition is known."""

from dataclasses import asdict

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tolerances import FP64, decimals
from vision.faces.face import Face
from vision.images import Pixels
from vision.quality.blur import block_blurs, depth_of_field
from vision.quality.color import colors
from vision.quality.composition import (
    analyze,
    balance,
    edge_density,
    mirror_symmetry,
    rule_of_thirds,
)
from vision.quality.framing import framing, pitch, roll, shot_angle, shot_size
from vision.quality.saliency import Region, saliency_map, salient_regions

GREY = (90, 90, 90)


def plain(colour: tuple[int, int, int] = GREY, size: tuple[int, int] = (640, 480)) -> Pixels:
    return np.full((size[1], size[0], 3), colour, np.uint8)


def disc(x: float, y: float, colour: tuple[int, int, int] = (220, 60, 40), radius: int = 40) -> Pixels:
    """A grey picture with a disc at these shares of the width and height."""
    image = plain()
    cv2.circle(image, (round(x * 640), round(y * 480)), radius, colour, -1)
    return image


def scene(seed: int = 0, size: tuple[int, int] = (640, 480)) -> Pixels:
    """A drawn picture full of sharp edges."""
    rng = np.random.default_rng(seed)
    image = plain((120, 130, 140), size)
    for _ in range(250):
        x, y, w, h = (rng.random(4) * (*size, 60, 60)).astype(int).tolist()
        cv2.rectangle(image, (x, y), (x + w + 5, y + h + 5), rng.integers(0, 256, 3).tolist(), -1)
    return image


def face(x: float, y: float, height: float, landmarks: tuple[tuple[float, float], ...] = ()) -> Face:
    return Face(x - 0.4 * height, y - 0.5 * height, 0.8 * height, height, 0.9, landmarks)


def landmarks(nose: float = 0.57, turned: float = 0.0) -> tuple[tuple[float, float], ...]:
    """Of a face at (300, 200): the nose at this level between eyes (0) and mouth (1), turned clockwise by degrees."""
    points = np.array([(-20, 0), (20, 0), (0, 50 * nose), (-16, 50), (16, 50)])
    c, s = np.cos(np.radians(turned)), np.sin(np.radians(turned))
    return tuple((float(x) + 300, float(y) + 200) for x, y in points @ np.array([[c, s], [-s, c]]))


# saliency


@pytest.mark.parametrize(("x", "y"), [(1 / 3, 1 / 3), (0.5, 0.5), (0.8, 0.3), (0.1, 0.9)])
def test_a_disc_is_the_only_salient_region(x: float, y: float) -> None:
    saliency = saliency_map(disc(x, y))
    assert saliency.shape == (48, 64)
    assert saliency.dtype == np.float32
    assert float(saliency.max()) == 1
    (region,) = salient_regions(saliency)
    assert (region.x, region.y) == (pytest.approx(x, abs=0.01), pytest.approx(y, abs=0.02))


def test_the_larger_disc_weighs_more_and_two_sides_of_a_picture_are_no_subject() -> None:
    image = disc(0.25, 0.5, radius=60)
    cv2.circle(image, (480, 240), 30, (220, 60, 40), -1)
    first, second = salient_regions(saliency_map(image))
    assert first.x < 0.5 < second.x
    assert first.weight / second.weight == pytest.approx(4, rel=0.15)


def test_a_subject_may_touch_an_edge() -> None:
    image = plain()
    image[240:, 160:480] = (220, 60, 40)
    saliency = saliency_map(image)
    (region,) = salient_regions(saliency)
    assert (region.x, region.y) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.75, abs=0.02))
    assert float(saliency[-1, 0]) < 0.01


def test_nothing_stands_out_of_a_plain_or_noisy_picture() -> None:
    assert not saliency_map(plain()).any()
    assert salient_regions(saliency_map(plain())) == []
    noise = np.random.default_rng(0).integers(88, 92, (480, 640, 3), dtype=np.uint8)
    assert not saliency_map(noise).any()


# layout


@pytest.mark.parametrize(
    ("x", "y", "value"),
    [
        (1 / 3, 2 / 3, 1),
        (1 / 3, 0.5, (1 + np.exp(-((1 / 6) ** 2) / 0.02)) / 2),
        (0.5, 0.5, 0.1555),
        (0, 0, 0.002),
        (2 / 3 + 0.1, 1 / 3, (1 + np.exp(-0.5)) / 2),
    ],
)
def test_thirds(x: float, y: float, value: float) -> None:
    assert rule_of_thirds([Region(x, y, 2)]) == pytest.approx(value, abs=decimals(3))


def test_thirds_are_weighted_and_need_a_subject() -> None:
    both = [Region(1 / 3, 1 / 3, 3), Region(0.5, 0.5, 1)]
    assert rule_of_thirds(both) == pytest.approx((3 + 0.1555) / 4, abs=decimals(3))
    assert rule_of_thirds([]) == 0


def test_a_disc_on_a_point_of_thirds_beats_the_middle_and_the_corner() -> None:
    on, middle, corner = (analyze(disc(*at), ()) for at in ((1 / 3, 2 / 3), (0.5, 0.5), (0.08, 0.1)))
    assert on.rule_of_thirds > 0.95
    assert middle.rule_of_thirds == pytest.approx(0.16, abs=0.02)
    assert corner.rule_of_thirds < 0.05
    assert "rule_of_thirds" in on.tags
    assert "rule_of_thirds" not in middle.tags
    assert [on.framing, middle.framing, corner.framing] == ["left_third", "centered", "left_third"]


def test_balance() -> None:
    assert balance([]) == 1
    assert balance([Region(0.5, 0.1, 1)]) == 1
    assert balance([Region(0.25, 0.5, 1)]) == pytest.approx(0.5)
    assert balance([Region(0.25, 0.5, 1), Region(0.75, 0.5, 1)]) == pytest.approx(1)
    assert balance([Region(0, 0.5, 3), Region(1, 0.5, 1)]) == pytest.approx(0.5)
    assert analyze(disc(2 / 3, 0.5), ()).balance == pytest.approx(2 / 3, abs=0.02)


def grey(image: Pixels) -> Pixels:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def test_a_mirrored_picture_is_symmetric_to_that_side_only() -> None:
    half = scene(1)[:, :320]
    sideways = np.concatenate([half, half[:, ::-1]], 1)
    horizontal, vertical = mirror_symmetry(grey(sideways))
    assert horizontal == pytest.approx(1, abs=decimals(3))
    assert vertical < 0.4
    upside = np.concatenate([scene(2)[:240], scene(2)[:240][::-1]])
    horizontal, vertical = mirror_symmetry(grey(upside))
    assert vertical == pytest.approx(1, abs=decimals(3))
    assert horizontal < 0.4
    composition = analyze(sideways, ())
    assert composition.horizontal_symmetry == pytest.approx(1, abs=decimals(3))
    assert composition.overall_symmetry == pytest.approx(
        (composition.horizontal_symmetry + composition.vertical_symmetry) / 2
    )
    assert "symmetric" in composition.tags


def test_light_alone_is_no_symmetry_and_noise_has_none() -> None:
    rng = np.random.default_rng(3)
    landscape = np.linspace(230, 40, 480)[:, None] * np.ones((480, 640)) + rng.normal(0, 20, (480, 640))
    assert max(mirror_symmetry(landscape.clip(0, 255).astype(np.uint8))) < 0.2
    assert mirror_symmetry(grey(plain())) == (1, 1)


def test_edges() -> None:
    assert edge_density(grey(plain())) == 0
    stripes = np.zeros((400, 400), np.uint8)
    for start in range(0, 400, 80):
        stripes[:, start : start + 40] = 255
    assert edge_density(stripes) == pytest.approx(9 / 400, rel=0.15)  # nine borders of one pixel
    assert edge_density(grey(scene())) == pytest.approx(0.049, abs=0.005)  # a tenth of the edges


# focus


def edges(blur: float) -> NDArray[np.uint8]:
    image = np.zeros((256, 256), np.uint8)
    image[:, 128:] = 200
    image[100:] = (image[100:] * 0.6).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), blur)


@pytest.mark.parametrize("blur", [1.0, 2.0, 3.0, 4.0])
def test_the_blur_of_an_edge_is_found(blur: float) -> None:
    assert float(np.median(block_blurs(edges(blur)))) == pytest.approx(blur, abs=0.3)


def test_depth_of_field_is_a_difference_of_blur() -> None:
    sharp = grey(scene())
    blurred = cv2.GaussianBlur(sharp, (0, 0), 4)
    half = sharp.copy()
    half[:, :320] = blurred[:, :320]
    assert depth_of_field(sharp) < 0.1
    assert depth_of_field(blurred) < 0.35
    assert depth_of_field(half) > 0.7
    assert depth_of_field(grey(plain())) == 0
    assert "shallow_depth_of_field" in analyze(cv2.cvtColor(half, cv2.COLOR_GRAY2RGB), ()).tags


def test_depth_of_field_does_not_depend_on_contrast() -> None:
    half = grey(scene())
    half[:, :320] = cv2.GaussianBlur(half, (0, 0), 3)[:, :320]
    assert depth_of_field((half * 0.4 + 60).astype(np.uint8)) == pytest.approx(depth_of_field(half), abs=0.1)


# colour


@pytest.mark.parametrize(
    ("colour", "hue", "warm"),
    [((255, 128, 0), 30.1, 1), ((0, 0, 255), 240, 0), ((255, 0, 10), 357.6, 1), ((0, 200, 100), 150, 0)],
)
def test_one_colour(colour: tuple[int, int, int], hue: float, warm: float) -> None:
    palette = colors(plain(colour))
    assert palette.dominant_hue == pytest.approx(hue, abs=0.2)
    assert (palette.warm, palette.coloured, palette.diversity, palette.balance) == (warm, 1, 0, 0)


def test_grey_has_no_hue() -> None:
    for level in (0, 128, 255):
        composition = analyze(plain((level, level, level)), ())
        assert composition.dominant_hue is None
        assert (composition.color_diversity, composition.color_balance, composition.warm_cool_ratio) == (0, 1, 0.5)
        assert "monochrome" in composition.tags
        assert not {"warm", "cool", "colorful"} & set(composition.tags)


def test_all_hues_alike_are_as_diverse_as_can_be() -> None:
    hues = np.tile(np.arange(0, 360, 360 / 640, dtype=np.float32), (480, 1))
    hsv = np.stack([hues, np.ones_like(hues), np.ones_like(hues)], 2)
    image = (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).round().astype(np.uint8)
    palette = colors(image)
    assert palette.diversity == pytest.approx(1, abs=0.01)
    assert palette.balance == pytest.approx(1, abs=0.01)
    assert palette.warm == pytest.approx(120 / 360, abs=0.01)  # 330 to 90 degrees
    assert "colorful" in analyze(image, ()).tags


def test_the_dominant_hue_is_that_of_most_pixels_across_zero_degrees() -> None:
    image = plain((255, 0, 20))  # 355 degrees
    image[:, 300:] = (255, 20, 0)  # 5 degrees
    image[:, 560:] = (0, 0, 255)
    hue = colors(image).dominant_hue
    assert hue is not None
    assert min(hue, 360 - hue) < 5
    assert colors(image).warm == pytest.approx(560 / 640)
    assert type(hue) is float


def test_warm_and_cool_need_some_colour() -> None:
    assert "warm" in analyze(plain((255, 128, 0)), ()).tags
    assert "cool" in analyze(plain((0, 128, 255)), ()).tags
    speck = plain()
    speck[:100, :200] = (255, 128, 0)
    assert colors(speck).warm == 1
    assert not {"warm", "monochrome"} & set(analyze(speck, ()).tags)


# shots


@pytest.mark.parametrize(
    ("share", "name"),
    [
        (0.9, "extreme_close_up"),
        (0.79, "close_up"),
        (0.45, "close_up"),
        (0.35, "medium_close_up"),
        (0.24, "medium"),
        (0.15, "medium_full"),
        (0.09, "full"),
        (0.05, "wide"),
        (0.02, "extreme_wide"),
    ],
)
def test_shot_sizes(share: float, name: str) -> None:
    smaller = face(50, 50, 1)
    assert shot_size([smaller, face(300, 200, share * 1000)], 1000) == name


def test_without_faces_a_shot_is_undetermined() -> None:
    composition = analyze(disc(0.5, 0.5), ())
    assert (composition.shot_size, composition.shot_angle, composition.framing) == (
        "undetermined",
        "undetermined",
        "centered",
    )
    assert "undetermined" not in composition.tags
    assert shot_angle([face(10, 10, 5)]) == "undetermined"
    assert analyze(plain(), ()).framing == "undetermined"


@pytest.mark.parametrize(
    ("nose", "turned", "name"),
    [
        (0.57, 0, "eye_level"),
        (0.65, 8, "eye_level"),
        (0.80, 0, "high_angle"),
        (0.35, 0, "low_angle"),
        (0.35, 15, "low_angle"),
        (0.57, 25, "dutch"),
        (0.57, -25, "dutch"),
    ],
)
def test_shot_angles(nose: float, turned: float, name: str) -> None:
    seen = face(300, 225, 100, landmarks(nose, turned))
    assert roll(seen) == pytest.approx(turned, rel=FP64, abs=100 * FP64)
    assert pitch(seen) == pytest.approx(np.degrees(np.arctan2(nose - 0.57, 0.45)), rel=FP64, abs=100 * FP64)
    assert shot_angle([seen]) == name
    # one of three that tilts the head does not tilt the camera
    assert shot_angle([seen, *[face(300, 225, 100, landmarks())] * 2]) == "eye_level"


def test_the_faces_are_the_subject() -> None:
    image = disc(0.2, 0.5)
    composition = analyze(image, [face(0.7 * 640, 200, 120, landmarks())])
    assert composition.framing == "right_third"
    assert composition.shot_size == "medium"
    assert {"medium", "eye_level", "right_third"} <= set(composition.tags)
    pair = [face(0.2 * 640, 200, 120), face(0.8 * 640, 200, 120)]
    assert analyze(plain(), pair).framing == "centered"
    assert framing(None) == "undetermined"


# all together


def test_every_measure_is_a_float_in_its_range() -> None:
    for image, faces in ((scene(), ()), (disc(0.3, 0.3), (face(100, 100, 90, landmarks()),)), (plain(), ())):
        measures = asdict(analyze(image, faces))
        labels = {name: measures.pop(name) for name in ("shot_size", "shot_angle", "framing", "tags")}
        assert all(type(value) is str for value in (*labels.pop("tags"), *labels.values()))
        assert measures.pop("aspect_ratio") == pytest.approx(4 / 3)
        hue = measures.pop("dominant_hue")
        assert hue is None or 0 <= hue < 360
        assert all(type(value) is float and 0 <= value <= 1 for value in measures.values()), measures


def test_the_score_is_formed_as_info_says() -> None:
    for image in (scene(), disc(1 / 3, 1 / 3), disc(0.9, 0.9)):
        composition = analyze(image, ())
        placement = max(composition.rule_of_thirds, composition.horizontal_symmetry, composition.vertical_symmetry)
        assert composition.score == pytest.approx(0.6 * placement + 0.4 * composition.balance)
    assert analyze(plain(), ()).score == 0
    assert analyze(disc(1 / 3, 1 / 3), ()).score > analyze(disc(0.05, 0.05), ()).score + 0.3


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (33, 17)])
def test_small_and_narrow_pictures_have_an_answer(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    composition = analyze(noise, ())
    assert 0 <= composition.score <= 1
    assert composition.aspect_ratio == size[0] / size[1]


def test_the_size_of_a_picture_hardly_matters() -> None:
    image = disc(0.3, 0.6)
    large = cv2.resize(image, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    small, big = asdict(analyze(image, ())), asdict(analyze(large, ()))
    assert small.pop("tags") == big.pop("tags")
    for name, value in small.items():
        assert big[name] == (
            pytest.approx(value, abs=0.03) if type(value) is float and name != "dominant_hue" else big[name]
        )
    assert big["dominant_hue"] == pytest.approx(small["dominant_hue"], abs=1)
