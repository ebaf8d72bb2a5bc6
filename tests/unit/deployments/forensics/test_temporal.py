"""forensics/temporal: a face that is followed, steady and trembling, and its blinks."""

import numpy as np
import pytest

from deployments.forensics.temporal import TemporalAnalyzer
from deployments.serving.stage import StageConfig
from vision.errors import InvalidInput
from vision.faces.face import TEMPLATE
from vision.forensics.temporal import FaceTrack, Temporal, blinks

LOOKS = 60


def track(tremble: float, *, seed: int = 0, eyes: float = 60.0, turn: float = 0.5) -> FaceTrack:
    """A face that moves, grows and turns smoothly; ``tremble`` is added to all of it anew in each look."""
    rng = np.random.default_rng(seed)
    times = np.arange(LOOKS) / 10
    points = (np.array(TEMPLATE) - 56) * eyes / 35
    landmarks = np.empty((LOOKS, 5, 2))
    for place, time in enumerate(times):
        angle, size = turn * np.sin(time), 1 + 0.3 * np.sin(time / 2)
        rotation = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        landmarks[place] = points @ rotation.T + (300 + 40 * time, 200)
    landmarks += rng.normal(0, tremble * eyes, landmarks.shape)
    person = rng.normal(size=128)
    vectors = person + rng.normal(0, 0.2 + 5 * tremble, (LOOKS, 128))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    crops = np.full((LOOKS, 112, 112), 120.0) * (1 + rng.normal(0, tremble, (LOOKS, 1, 1)))
    return FaceTrack(times, landmarks, vectors.astype(np.float32), crops.astype(np.uint8), np.full(LOOKS, 100.0))


def judged(given: FaceTrack) -> Temporal:
    stage = TemporalAnalyzer(StageConfig())
    stage.load()
    (temporal,) = stage.predict_batch([given])
    assert isinstance(temporal, Temporal)
    return temporal


def test_a_head_may_move_but_not_tremble() -> None:
    steady, trembling = judged(track(0.0)), judged(track(0.04))
    assert steady.landmark_motion < 1e-9  # whatever the head does as a whole
    assert steady.flicker == 0
    assert trembling.landmark_motion > 0.03
    assert trembling.flicker > 0.03
    assert trembling.embedding_jitter > steady.embedding_jitter
    assert steady.probability < 0.1
    assert trembling.probability > 0.5
    assert (steady.looks, steady.seconds) == (LOOKS, pytest.approx(5.9))


def test_looks_with_a_gap_between_them_are_no_neighbours() -> None:
    given, other = track(0.0), track(0.0)
    given.times[30:] += 20
    given.landmarks[30:] += np.array([(0, 0), (0, 0), (0, 9), (0, 0), (0, 0)])  # a longer nose
    other.landmarks[30:] = given.landmarks[30:]
    temporal = judged(given)
    assert judged(other).landmark_motion > 5 * temporal.landmark_motion
    assert temporal.seconds == pytest.approx(5.8)


def test_a_small_face_has_no_blinks_to_see() -> None:
    assert judged(track(0.0, eyes=15)).blink_rate is None
    assert judged(track(0.0, eyes=60)).blink_rate == 0


def test_a_short_look_is_not_judged() -> None:
    stage, whole = TemporalAnalyzer(StageConfig()), track(0.0)
    short = FaceTrack(whole.times[:7], whole.landmarks[:7], whole.vectors[:7], whole.crops[:7], whole.scene[:7])
    (error,) = stage.predict_batch([short])
    assert isinstance(error, InvalidInput)


def eyes(closed: set[int], count: int = 60, one: bool = False) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Crops with two dark irises on white; where closed, skin and a lash line, of both eyes or the right one only."""
    rng = np.random.default_rng(3)
    crops = np.full((count, 112, 112), 150.0)
    y, x = np.mgrid[0:112, 0:112]
    for look in range(count):
        for number, centre in enumerate((38, 74)):
            if look in closed and not (one and number):
                crops[look, 55:57, centre - 10 : centre + 10] = 90
                continue
            crops[look][((x - centre) / 11) ** 2 + ((y - 52) / 6) ** 2 < 1] = 220
            crops[look][(x - centre) ** 2 + (y - 52) ** 2 < 25] = 30
    return np.clip(crops + rng.normal(0, 4, crops.shape), 0, 255).astype(np.uint8)


def test_blinks_are_counted() -> None:
    times = np.arange(60) / 10
    assert blinks(eyes(set()), times) == 0
    assert blinks(eyes({10, 11, 30, 50, 51, 52}), times) == 3


def test_eyes_that_stay_shut_or_wink_do_not_blink() -> None:
    times = np.arange(60) / 10
    assert blinks(eyes(set(range(20, 40))), times) == 0
    assert blinks(eyes({10, 11}, one=True), times) == 0
    assert blinks(eyes({0, 1, 58, 59}), times) == 0  # nobody saw them open before, or after
