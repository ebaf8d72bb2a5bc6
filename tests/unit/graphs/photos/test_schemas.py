"""Labels of photos, at their boundaries."""

import pytest

from graphs.photos.schemas import aesthetic_label, overall_quality

JUST = 1e-9


@pytest.mark.parametrize(
    ("brisque", "technical", "label"),
    [
        (0, 10, "high"),
        (25 - JUST, 6, "high"),
        (25, 6, "medium"),
        (25 - JUST, 6 - JUST, "medium"),
        (0, 4.5, "medium"),
        (50 - JUST, 10, "medium"),
        (50, 10, "low"),
        (0, 4.5 - JUST, "low"),
        (49, 4.4, "low"),
        (100, 1, "low"),
    ],
)
def test_quality_needs_both_numbers(brisque: float, technical: float, label: str) -> None:
    assert overall_quality(brisque, technical) == label


@pytest.mark.parametrize(
    ("aesthetic", "label"),
    [(10, "high"), (6.5, "high"), (6.5 - JUST, "medium"), (5, "medium"), (5 - JUST, "low"), (1, "low")],
)
def test_aesthetics_in_words(aesthetic: float, label: str) -> None:
    assert aesthetic_label(aesthetic) == label
