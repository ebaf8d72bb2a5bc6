"""Labels at and beside their thresholds, and sentences that contain the numbers."""

import numpy as np
import pytest

from deployments.people.identity import FaceVector
from graphs.assets.likeness import (
    Likeness,
    action_for,
    by_faces,
    compliance_recommendation,
    confidence_level,
    confidence_score,
    explanation,
    sequence_recommendation,
    sequence_status,
    shot_recommendation,
    shot_status,
)
from graphs.indexing.faces import EmbeddedFace
from vision.faces.face import Face

FACE = Face(0, 0, 80.4, 100.6, 0.9, ((0.0, 0.0),) * 5)


def by_face(percentage: float, quality: float = 0.9, faces: tuple[int, int] = (1, 1)) -> Likeness:
    return Likeness("face", percentage, 0.5, 1.0, faces, (FACE, FACE), quality)


def by_image(percentage: float, faces: tuple[int, int] = (0, 0)) -> Likeness:
    return Likeness("image", percentage, 0.5, 1.0, faces)


@pytest.mark.parametrize(
    ("percentage", "status"),
    [
        *((100, "excellent"), (85, "excellent"), (84.99, "good"), (75, "good"), (74.99, "acceptable")),
        *((65, "acceptable"), (64.99, "poor"), (50, "poor"), (49.99, "unacceptable"), (0, "unacceptable")),
    ],
)
def test_shots(percentage: float, status: str) -> None:
    assert shot_status(percentage) == status


@pytest.mark.parametrize(
    ("rate", "status"),
    [
        *((1, "excellent"), (0.9, "excellent"), (0.899, "good"), (0.8, "good"), (0.799, "acceptable")),
        *((0.7, "acceptable"), (0.699, "needs_work"), (0, "needs_work")),
    ],
)
def test_sequences(rate: float, status: str) -> None:
    assert sequence_status(rate) == status


@pytest.mark.parametrize(
    ("percentage", "threshold", "action"),
    [
        *((80, 80, "approve"), (79.99, 80, "review"), (65, 80, "review"), (64.99, 80, "regenerate")),
        *((5, 10, "review"), (100, 100, "approve"), (0, 0, "approve")),
    ],
)
def test_actions(percentage: float, threshold: float, action: str) -> None:
    assert action_for(percentage, threshold) == action
    assert compliance_recommendation(by_face(percentage), threshold).startswith(
        {"approve": "Approve", "review": "Review by eye", "regenerate": "Generate it again"}[action]
    )


def test_confidence_is_distance_times_quality() -> None:
    assert confidence_score(by_face(100, quality=1.0), 75) == 1
    assert confidence_score(by_face(85, quality=0.5), 75) == pytest.approx(0.4 * 0.5)
    assert confidence_score(by_face(30, quality=0.8), 75) == pytest.approx(0.6 * 0.8)
    assert confidence_score(by_face(75), 75) == 0
    assert confidence_score(by_image(100), 75) == 0.5
    assert [confidence_level(score) for score in (1, 0.5, 0.49, 0.25, 0.24, 0)] == [
        *("high", "high", "medium", "medium", "low", "low")
    ]


def test_explanations_have_the_numbers() -> None:
    same = explanation(by_face(81.25), 75)
    assert same == (
        "The same person: cosine 0.500, 81.2 % at a threshold of 75 %. Compared by face, 80 × 101 and 80 × 101 pixels."
    )
    assert explanation(by_face(60), 75).startswith("Different people: cosine 0.500, 60.0 %")
    assert "have 3 and 1 faces" in explanation(by_face(60, faces=(3, 1)), 75)
    assert "quality 0.35" in explanation(by_face(60, quality=0.35), 75)
    assert "in either picture" in explanation(by_image(60), 75)
    assert "in the first picture" in explanation(by_image(60, faces=(0, 2)), 75)
    assert "in the second picture" in explanation(by_image(60, faces=(2, 0)), 75)
    assert explanation(by_image(80), 75).startswith("The pictures look alike")


def test_recommendations_differ_by_status() -> None:
    assert len({shot_recommendation(by_face(value)) for value in (90, 80, 70, 60, 10)}) == 5
    assert "is like the reference" in shot_recommendation(by_image(80))
    assert "is unlike the reference" in shot_recommendation(by_image(60))
    assert sequence_recommendation(10, 10) == "The character is consistent in every shot."
    assert "1 of 10 shots does not" in sequence_recommendation(9, 10)
    assert len({sequence_recommendation(right, 10) for right in (10, 9, 8, 7, 6)}) == 5
    assert "error" in sequence_recommendation(0, 0)


def embedded(cosine: float, length: float = 1.0) -> EmbeddedFace:
    """A face of this cosine to that of ``embedded(1)``, whose vector has this length."""
    vector = np.zeros(128, np.float32)
    vector[:2] = cosine, np.sqrt(1 - cosine**2)
    return FACE, FaceVector(length * vector, 0.9)


@pytest.mark.parametrize(
    ("lengths", "same"), [((1.0, 1.0), True), ((0.96, 1.0), True), ((0.9, 1.0), False), ((0.96, 0.96), False)]
)
def test_blurred_faces_have_to_be_more_alike(lengths: tuple[float, float], same: bool) -> None:
    likeness = by_faces((embedded(1.0, lengths[0]),), (embedded(0.42, lengths[1]),))
    assert (likeness.percentage >= 75) == same
    assert likeness.cosine == pytest.approx(0.42)  # as it is


def test_the_clear_one_of_two_faces_that_are_as_alike_is_compared() -> None:
    others = (embedded(0.46, 0.8), embedded(0.44))
    assert by_faces((embedded(1.0),), others).cosine == pytest.approx(0.44)
