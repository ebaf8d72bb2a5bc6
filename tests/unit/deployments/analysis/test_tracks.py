"""Traces of made-up faces whose paths are known exactly."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.analysis.tracks import Config, FaceTracker, TrackRequest
from tests.tolerances import FP32
from vision.errors import InvalidInput
from vision.faces.detection import overlap
from vision.faces.tracking import Detections, Trace

Path = Callable[[int], tuple[float, float] | None]
RNG = np.random.default_rng(7)


def person(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=128).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def film(people: dict[int, Path], frames: int, step: int = 2, confidence: float = 0.9) -> Detections:
    """Each person, by seed, at the path's place on every ``step``-th frame; the views of one differ by some noise."""
    rows = []
    for frame in range(0, frames, step):
        for seed, path in people.items():
            if (place := path(frame)) is not None:
                view = person(seed) + RNG.normal(0, 0.04, 128)
                rows.append((frame, (*place, 60, 60), confidence, view / np.linalg.norm(view)))
    return Detections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
        np.zeros((len(rows), 5, 2), np.float32),
        np.array([row[3] for row in rows], np.float32).reshape(-1, 128),
    )


def traces(detections: Detections, cuts: tuple[int, ...] = (), **config: float) -> tuple[Trace, ...]:
    stage = FaceTracker(Config(**config))  # type: ignore[arg-type]
    (result,) = stage.predict_batch([TrackRequest(detections, cuts, fps=25, step=2)])
    assert isinstance(result, tuple), result
    return result


def who(trace: Trace, *seeds: int) -> int:
    """The person whose vector the trace carries; it is near to no other."""
    likeness = {seed: float(trace.vector @ person(seed)) for seed in seeds}
    best = max(likeness, key=lambda seed: likeness[seed])
    assert likeness[best] > 0.9
    assert all(value < 0.4 for seed, value in likeness.items() if seed != best)
    return best


def test_one_person_is_one_trace_on_every_frame() -> None:
    (trace,) = traces(film({1: lambda f: (10 + 3 * f, 100)}, 101))
    np.testing.assert_array_equal(trace.frames, np.arange(101))
    np.testing.assert_allclose(trace.boxes[:, 0], 10 + 3 * np.arange(101), rtol=FP32)
    np.testing.assert_array_equal(trace.detected, np.arange(101) % 2 == 0)
    assert abs(float(np.linalg.norm(trace.vector)) - 1) < 1e-5


def test_two_who_cross_stay_two() -> None:
    crossing = {1: lambda f: (4.0 * f, 100.0), 2: lambda f: (400 - 4.0 * f, 104.0)}
    left, right = traces(film(crossing, 101))
    assert (who(left, 1, 2), who(right, 1, 2)) == (1, 2)
    np.testing.assert_allclose(left.boxes[:, 0], 4.0 * np.arange(101), rtol=FP32)
    np.testing.assert_allclose(right.boxes[:, 0], 400 - 4.0 * np.arange(101), rtol=FP32)


def test_who_leaves_and_comes_back_in_the_shot_is_one_trace_with_a_hole() -> None:
    (trace,) = traces(film({1: lambda f: None if 40 <= f < 120 else (50.0, 50.0)}, 200))
    assert who(trace, 1) == 1
    assert set(trace.frames) == set(range(39)) | set(range(120, 199))


def test_somebody_else_at_the_same_place_is_another_trace() -> None:
    first, second = traces(
        film({1: lambda f: (50.0, 50.0) if f < 50 else None, 2: lambda f: (50.0, 50.0) if f >= 50 else None}, 100)
    )
    assert (who(first, 1, 2), who(second, 1, 2)) == (1, 2)
    assert (int(first.frames[-1]), int(second.frames[0])) == (48, 50)


def test_a_trace_ends_at_a_cut() -> None:
    first, second = traces(film({1: lambda f: (50.0, 50.0)}, 100), cuts=(50,))
    assert (int(first.frames[-1]), int(second.frames[0])) == (48, 50)
    assert who(first, 1) == who(second, 1) == 1


def test_a_hidden_face_is_interpolated_only_for_a_moment() -> None:
    (short,) = traces(film({1: lambda f: None if 40 <= f < 50 else (f, 50.0)}, 100))
    np.testing.assert_array_equal(short.frames, np.arange(99))
    (far,) = traces(film({1: lambda f: None if 40 <= f < 70 else (f, 50.0)}, 100))
    assert not set(range(39, 70)) & set(far.frames)


def test_a_single_false_detection_is_no_trace() -> None:
    assert traces(film({1: lambda f: (50.0, 50.0) if f in (10, 12) else None}, 100)) == ()
    assert len(traces(film({1: lambda f: (50.0, 50.0) if f in (10, 12) else None}, 100), min_detections=2)) == 1


def test_unsure_detections_continue_a_trace_and_start_none() -> None:
    sure = film({1: lambda f: (50.0, 50.0)}, 100)
    unsure = Detections(
        sure.frames, sure.boxes, np.where(sure.frames < 20, 0.9, 0.6).astype(np.float32), sure.landmarks, sure.vectors
    )
    (trace,) = traces(unsure)
    assert int(trace.frames[-1]) == 98
    assert traces(film({1: lambda f: (50.0, 50.0)}, 100, confidence=0.6)) == ()


def test_who_is_little_alike_and_comes_near_does_not_go_on_for_the_one_who_left() -> None:
    first = film({1: lambda f: (50.0, 50.0) if f < 50 else None}, 80)
    second = film({2: lambda f: (80.0, 50.0) if f >= 54 else None}, 80, confidence=0.75)
    vectors = 0.2 * person(1) + 0.98 * person(2)
    assert 0.15 < float(vectors @ person(1) / np.linalg.norm(vectors)) < 0.35
    both = Detections(
        np.concatenate([first.frames, second.frames]),
        np.concatenate([first.boxes, second.boxes]),
        np.concatenate([first.confidences, second.confidences]),
        np.concatenate([first.landmarks, second.landmarks]),
        np.concatenate([first.vectors, np.tile(vectors / np.linalg.norm(vectors), (len(second.frames), 1))]),
    )
    (trace,) = traces(both)
    assert int(trace.frames[-1]) == 48


def test_a_video_without_faces_has_no_traces() -> None:
    assert traces(film({}, 100), cuts=(10, 50)) == ()


def test_what_is_out_of_order_is_refused() -> None:
    good = film({1: lambda f: (50.0, 50.0)}, 10)
    bad = Detections(good.frames[::-1], good.boxes, good.confidences, good.landmarks, good.vectors)
    (result,) = FaceTracker(Config()).predict_batch([TrackRequest(bad, (), 25, 2)])
    assert isinstance(result, InvalidInput)


def test_overlap() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5]], np.float32)
    np.testing.assert_allclose(overlap(box, others), [1, 1 / 3, 0], atol=FP32)


def test_a_trace_of_blurred_faces_has_a_shorter_vector_and_is_one_trace_all_the_same() -> None:
    seen = film({1: lambda frame: (100.0 + 4 * frame, 100.0)}, 60)
    for lengths in ([1.0], [0.75], [1.0, 0.75]):
        factors = np.resize(np.array(lengths, np.float32), len(seen.frames))
        (trace,) = traces(replace(seen, vectors=seen.vectors * factors[:, None]))
        assert np.linalg.norm(trace.vector) == pytest.approx(np.mean(factors), rel=FP32)
        assert len(trace.frames) == 59
        assert trace.vector @ person(1) / np.mean(factors) > 0.9
