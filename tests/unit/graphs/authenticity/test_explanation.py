"""Explanations of a video, which rest on the frames that make its scores."""

from typing import Any

import numpy as np

from deployments.forensics.signal import Signals
from deployments.forensics.visual import Visual
from graphs.authenticity.explanation import explain, frame_factors
from graphs.authenticity.findings import Absent, FrameFindings, ImageFindings, VideoFindings
from graphs.authenticity.fusion import fuse
from vision.faces.face import Face

MAP = np.zeros((2, 2), np.float32)
FACE: Any = object.__new__(Face)
SILENT = Absent("no face is seen long enough", fault=False)


def frame(number: int, visual: float | None, forensic: float, ghost: float, noise: float = 0.1) -> FrameFindings:
    """At half a second each."""
    signals = Signals(forensic, 0.1, 2.0, 1.0, noise, 100.0, 1.0, 0.2, ghost, 60, None, MAP, MAP, MAP)
    seen = Absent("there is no face", False) if visual is None else Visual("face_level", (visual,), (0.0,), "dummy")
    return FrameFindings(number, number / 2, ImageFindings(() if visual is None else (FACE,), seen, signals))


def film(*frames: FrameFindings) -> VideoFindings:
    facts: Any = None
    # the highest of both signals together, and of neither alone
    return VideoFindings(facts, frames, SILENT, None, (frames[1], np.zeros((4, 4, 3), np.uint8)))


def test_factors_come_from_the_frames_that_made_the_score() -> None:
    plain = [frame(number, 0.3, 0.2, 0.05) for number in range(4, 8)]
    video = film(
        frame(0, 0.95, 0.2, 0.05),
        frame(1, 0.6, 0.7, 0.24),
        frame(2, 0.9, 0.2, 0.05),
        frame(3, None, 0.8, 0.41, noise=2.0),
        *plain,
    )
    assert [frame.frame for frame in video.strongest("visual")] == [0, 2]
    assert [frame.frame for frame in video.strongest("forensic")] == [3, 1]
    factors = frame_factors(video)
    assert factors == [
        "Visual patterns strongly suggest manipulation (the highest 2 of 7 frame(s), at 0.0 s, 1.0 s)",
        "7 face(s) in 7 frame(s) analyzed for manipulation signs",
        "A part of the picture was compressed differently from the rest (JPEG ghost 0.41 at quality 60) "
        "(the highest 2 of 8 frame(s), at 0.5 s, 1.5 s)",
        "Noise is uneven over the picture (log range 2.00) (the highest 2 of 8 frame(s), at 0.5 s, 1.5 s)",
    ]
    assert video.probabilities["visual"] > 0.9


def test_a_film_without_faces_says_so() -> None:
    factors = frame_factors(film(frame(0, None, 0.2, 0.05), frame(1, None, 0.2, 0.05)))
    assert factors[0] == "No visual signal: there is no face"
    assert factors[1].startswith("Compression and noise are even")


def test_a_signal_that_is_lost_in_some_frames_is_not_called_absent() -> None:
    verdict = fuse({"visual": 0.9, "forensic": 0.8}, ["visual", "audio"])
    assert verdict is not None
    faults = {"visual": Absent("it failed.", fault=True), "audio": Absent("no weights", fault=True, missing=True)}
    factors = explain(verdict, [], faults).factors
    assert factors == ["Part of the visual signal is missing: it failed", "No audio signal: no weights"]
