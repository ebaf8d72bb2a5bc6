"""Tracks of objects in composed films, where it is known which box is whose."""

import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tolerances import FP32
from vision.errors import InvalidInput
from vision.objects.tracking import JOINED_S, CameraPath, ObjectDetections, ObjectTrack, distance_iou, track_objects
from vision.shots.movement import Motion

FPS = 24
EVERY = 8
"""Three samples a second."""
Path = Callable[[float], tuple[float, float, float, float] | None]


def film(paths: Sequence[tuple[int, Path]], seconds: float, *, noise: float = 0.0, seed: int = 0) -> ObjectDetections:
    """Boxes of each object (its class, its box by the time) in every eighth frame, off by ``noise`` of their size."""
    random = np.random.default_rng(seed)
    rows = []
    for frame in range(0, round(seconds * FPS), EVERY):
        for class_index, path in paths:
            box = path(frame / FPS)
            if box is not None:
                x, y, w, h = np.array(box) + noise * random.standard_normal(4) * (box[2], box[3], box[2], box[3])
                rows.append((frame, (x, y, w, h), float(random.uniform(0.6, 0.95)), class_index))
    frames, boxes, confidences, classes = zip(*rows, strict=True)
    return ObjectDetections(
        np.array(frames, np.int64),
        np.array(boxes, np.float32),
        np.array(confidences, np.float32),
        np.array(classes, np.int64),
    )


def times(seconds: float) -> NDArray[np.float64]:
    return np.arange(round(seconds * FPS)) / FPS


def walk(x: float, y: float, vx: float, vy: float = 0.0, size: tuple[float, float] = (60, 120)) -> Path:
    return lambda t: (x + vx * t, y + vy * t, *size)


def spans(tracks: Sequence[ObjectTrack]) -> list[tuple[int, int, int]]:
    return [(track.class_index, int(track.frames[0]), int(track.frames[-1])) for track in tracks]


def test_one_object_is_one_track_with_a_box_in_every_frame() -> None:
    (track,) = track_objects(film([(3, walk(10, 20, 90))], 2), (), times(2))
    assert spans([track]) == [(3, 0, 40)]
    assert track.detected.sum() == 6
    assert track.detected[::EVERY].all()
    np.testing.assert_allclose(track.boxes[:, 0], 10 + 90 * track.frames / FPS, rtol=FP32)
    assert track.boxes[:, 2:].tolist() == [[60, 120]] * 41


@pytest.mark.parametrize("speed", [0, 60, 150])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_two_who_cross_keep_their_tracks(speed: float, noise: float) -> None:
    """They pass each other at 40 pixels of height, less than a box: by where each is going they are told apart."""
    seconds = 4.0
    paths = [(0, walk(20, 50, speed)), (0, walk(20 + 4 * speed or 300, 90, -speed))]
    detections = film(paths, seconds, noise=noise, seed=3)
    tracks = track_objects(detections, (), times(seconds))
    assert len(tracks) == 2
    for track in tracks:
        ys = track.boxes[track.detected, 1]
        assert np.ptp(ys) < 40, "it changed over to the other one"


def test_classes_are_never_mixed() -> None:
    tracks = track_objects(film([(1, walk(50, 50, 30)), (2, walk(52, 52, 30))], 2), (), times(2))
    assert spans(tracks) == [(1, 0, 40), (2, 0, 40)]


def test_a_cut_ends_every_track() -> None:
    tracks = track_objects(film([(0, walk(50, 50, 0))], 2), (25,), times(2))
    assert spans(tracks) == [(0, 0, 24), (0, 32, 40)]


def test_what_is_hidden_for_a_moment_is_the_same_and_for_long_another() -> None:
    def hidden(start: float, end: float) -> Path:
        return lambda t: None if start <= t < end else (40 + 30 * t, 50, 60, 120)

    short = track_objects(film([(0, hidden(1.0, 1.6))], 4), (), times(4))
    assert len(short) == 1
    assert not short[0].detected[24:39].any()
    longer = track_objects(film([(0, hidden(1.0, 0.5 + JOINED_S))], 7), (), times(7))
    assert len(longer) == 1, "its way leads from one side of what hides it to the other"
    long = track_objects(film([(0, hidden(1.0, 1.4 + JOINED_S))], 7), (), times(7))
    assert len(long) == 2


def test_two_who_meet_behind_a_wall_come_out_on_the_other_side() -> None:
    def behind(x: float, v: float) -> Path:
        return lambda t: None if 250 < x + v * t < 350 else (x + v * t, 50, 60, 120)

    tracks = track_objects(film([(0, behind(100, 80)), (0, behind(500, -80))], 5), (), times(5))
    ends = sorted((float(track.boxes[0, 0]), float(track.boxes[-1, 0])) for track in tracks)
    assert [start for start, _ in ends] == [100, 500]
    assert ends[0][1] > 400
    assert ends[1][1] < 200


def test_what_leaves_and_something_that_comes_back_are_two() -> None:
    tracks = track_objects(
        film([(0, lambda t: None if 1 < t < 2.5 else (100 + 250 * abs(t - 1.75), 50, 60, 120))], 4), (), times(4)
    )
    assert len(tracks) == 2, "its way led elsewhere"


@pytest.mark.parametrize("widths", [1.5, 3, 4.5])
def test_what_is_quicker_than_its_widths_is_followed_by_its_line(widths: float) -> None:
    """From one sample to the next it moves farther than a match of boxes could bridge."""
    quick = walk(0, 50, 60 * widths * FPS / EVERY, 20)
    (track,) = track_objects(film([(0, quick)], 2, noise=0.03, seed=2), (), times(2))
    assert track.detected.sum() == 6


def test_detections_here_and_there_are_no_line() -> None:
    random = np.random.default_rng(4)
    places = {frame: random.uniform(0, 1000, 2) for frame in range(0, 48 * 4, EVERY)}
    tracks = track_objects(film([(0, lambda t: (*places[round(t * FPS)], 40, 40))], 8), (), times(8))
    assert sum(int(track.detected.sum()) for track in tracks) < len(places) / 2


def test_a_ball_that_bounces_is_one() -> None:
    def bounce(t: float) -> tuple[float, float, float, float]:
        return abs(400 - 200 * t), 50, 80, 80

    assert spans(track_objects(film([(0, bounce)], 4), (), times(4))) == [(0, 0, 88)]


def pan(frames: int, step: int, dx: float, scale: float = 0.0) -> CameraPath:
    """The path of a camera by which the picture moves by a share of its width, and grows, from sample to sample."""
    motions = np.zeros((frames // step, 8), np.float32)
    motions[:, [Motion.DX, Motion.SCALE, Motion.INLIERS]] = dx, scale, 1
    sampled = np.arange(0, frames // step * step + 1, step)
    return CameraPath.of(motions, sampled[:-1], sampled[1:], (), frames + step, (1000, 500))


def test_those_who_stand_are_followed_though_the_camera_turns_to_and_fro() -> None:
    """The picture moves 480 pixels between two samples, and back: more than to the next person, who looks the same."""
    seconds, there = 4.0, np.array([0, 0.12, 0.24, 0.36, 0.48, 0.36, 0.24, 0.12])
    sampled = np.arange(round(seconds * FPS) // 2 + 1) * 2
    motions = np.zeros((len(sampled) - 1, 8), np.float32)
    motions[:, Motion.DX], motions[:, Motion.INLIERS] = np.diff(there[sampled // 2 % 8]), 1
    camera = CameraPath.of(motions, sampled[:-1], sampled[1:], (), sampled[-1] + 1, (1000, 500))

    def stands(x: float) -> Path:
        return lambda t: (x + float(camera.shifts[round(t * FPS), 0]), 50, 60, 120)

    detections = film([(0, stands(x)) for x in (0, 200, 400)], seconds)
    tracks = track_objects(detections, (), times(seconds), camera)
    assert len(tracks) == 3
    for track, x in zip(tracks, (0, 200, 400), strict=True):
        assert track.detected.sum() == 12
        # Between two samples too, where the picture is somewhere else.
        np.testing.assert_allclose(track.boxes[:, 0], x + camera.shifts[track.frames, 0], atol=1e-3)  # pixels
    assert len(track_objects(detections, (), times(seconds))) != 3


def test_a_camera_path_leads_there_and_back() -> None:
    camera = pan(48, 2, 0.05, 0.02)
    frames = np.array([0, 7, 48])
    boxes = np.array([[100.0, 50, 60, 120]] * 3)
    scene = camera.into_scene(boxes, frames)
    np.testing.assert_allclose(scene[0], boxes[0])
    np.testing.assert_allclose(camera.into_picture(scene, frames), boxes)
    # By hand: the middle of the picture moves by the pan alone, and everything grows by e^0.02 a step.
    assert camera.scales[2] == pytest.approx(np.exp(0.02))
    assert camera.scales[2] * 500 + camera.shifts[2, 0] == pytest.approx(500 + 50)
    assert camera.scales[48] == pytest.approx(np.exp(0.48))


def test_a_camera_path_begins_anew_at_a_cut_and_after_an_endless_zoom() -> None:
    motions = np.zeros((6, 8), np.float32)
    motions[:, Motion.DX], motions[:, Motion.INLIERS] = 0.1, [1, 1, 1, 1, 0, 1]
    sampled = np.arange(7) * 2
    camera = CameraPath.of(motions, sampled[:-1], sampled[1:], (6,), 13, (1000, 500))
    np.testing.assert_allclose(camera.shifts[::2, 0], [0, 100, 200, 0, 100, 100, 200], rtol=FP32)
    assert pan(20_000, 2, 0.0, 0.1).scales.max() < 101


def test_a_measured_camera_that_is_wrong_does_no_harm() -> None:
    """A large thing in front was taken for the background: those who stand would run to and fro in its scene."""
    random = np.random.default_rng(5)
    detections = film([(0, walk(100, 50, 20)), (0, walk(400, 50, -20))], 4)
    shifts = 400 * random.standard_normal((96, 2))
    tracks = track_objects(detections, (), times(4), CameraPath(np.ones(96), shifts, (1000, 500)))
    assert spans(tracks) == [(0, 0, 88), (0, 0, 88)]
    assert tracks[0].boxes[:, 1].tolist() == [50] * 89


def test_unsure_detections_carry_a_track_on_and_begin_none() -> None:
    detections = film([(0, walk(50, 50, 30))], 2)
    confidences = detections.confidences.copy()
    confidences[2:4] = 0.35
    carried = ObjectDetections(detections.frames, detections.boxes, confidences, detections.classes)
    (track,) = track_objects(carried, (), times(2))
    assert track.detected.sum() == 6
    nothing = ObjectDetections(detections.frames, detections.boxes, np.full_like(confidences, 0.45), detections.classes)
    assert track_objects(nothing, (), times(2)) == ()


def test_a_single_sighting_is_no_track() -> None:
    assert track_objects(film([(0, walk(50, 50, 0))], 0.2), (), times(1)) == ()


def test_an_object_that_is_detected_twice_is_one() -> None:
    """By two queries of the network, of which one is off by a tenth and sometimes the surer one."""
    twice = film([(0, walk(50, 50, 30)), (0, walk(56, 50, 30)), (1, walk(50, 50, 30))], 2, seed=6)
    assert spans(track_objects(twice, (), times(2))) == [(0, 0, 40), (1, 0, 40)]


def test_a_box_that_doubles_at_once_is_another_object() -> None:
    def grows(t: float) -> tuple[float, float, float, float]:
        return (50, 50, 60, 60) if t < 1 else (20, 20, 150, 150)

    assert len(track_objects(film([(0, grows)], 2), (), times(2))) == 2


def test_a_crowd_has_no_switch_in_95_of_100_frames() -> None:
    """Twelve who walk to and fro at up to 2.5 of their widths a second, with boxes that are off by 4 %."""
    seconds = 8.0
    random = np.random.default_rng(7)
    paths: list[tuple[int, Path]] = []
    for lane in range(12):
        start, speed, phase = random.uniform(0, 900), random.uniform(20, 150), random.uniform(0, 6)

        def path(
            t: float, lane: int = lane, start: float = start, speed: float = speed, phase: float = phase
        ) -> tuple[float, float, float, float]:
            return start + 2 * speed * float(np.sin(t / 2 + phase)), 60.0 * lane, 60, 110

        paths.append((0, path))
    tracks = track_objects(film(paths, seconds, noise=0.04, seed=9), (), times(seconds))
    right = total = 0
    for track in tracks:
        whose = []
        for frame, box in zip(track.frames, track.boxes, strict=True):
            truth = np.array([path(frame / FPS) for _, path in paths])
            whose.append(int(np.abs(truth - box).sum(1).argmin()))
        total += len(whose)
        right += max(whose.count(each) for each in set(whose))
    assert total > 0.95 * 12 * (seconds - EVERY / FPS) * FPS
    assert right / total >= 0.95


def test_distance_iou_by_hand() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    beside = np.array([[0.0, 0, 10, 10], [10, 0, 10, 10], [5, 0, 10, 10]])
    # The same; side by side: 0 - 100/500; half: 50/150 - 25/325.
    assert distance_iou(box, beside)[0].tolist() == pytest.approx([1, -0.2, 1 / 3 - 25 / 325], rel=FP32)


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = film([(0, walk(50, 50, 0))], 1)
    with pytest.raises(InvalidInput, match="differ in length"):
        track_objects(ObjectDetections(good.frames[1:], good.boxes, good.confidences, good.classes), (), times(1))
    with pytest.raises(InvalidInput, match="not ordered"):
        track_objects(ObjectDetections(good.frames[::-1], good.boxes, good.confidences, good.classes), (), times(1))


def test_a_long_film_of_false_detections_takes_little_memory() -> None:
    random, per_sample, samples = np.random.default_rng(5), 20, 450
    count = per_sample * samples
    places, sizes = random.uniform(0, 1800, (count, 2)), random.uniform(30, 60, (count, 2))
    seen = ObjectDetections(
        np.repeat(np.arange(samples) * EVERY, per_sample),
        np.concatenate([places, sizes], -1).astype(np.float32),
        random.uniform(0.5, 0.9, count).astype(np.float32),
        np.zeros(count, np.int64),
    )
    tracemalloc.start()
    try:
        tracks = track_objects(seen, (), np.arange(samples * EVERY) / FPS)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(tracks) > 500
    assert most < 100 * 2**20  # a table of all pairs of them has 600 MB
