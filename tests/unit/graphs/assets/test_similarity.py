"""Similarity numbers at their edges, and features on their way through the cache."""

from datetime import UTC, datetime

import numpy as np
import pytest

from graphs.assets.features import _pack, _unpack
from graphs.assets.similarity import between, certainty, matrix, of_cosine, rank
from stores.records import Features
from tests.tolerances import FP32


def features(asset_id: str, *unit: float) -> Features:
    vector = np.array(unit, np.float32)
    return Features(asset_id, "m@1", "image", vector * 3, vector, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))


@pytest.mark.parametrize(
    ("cosine", "percentage", "distance"),
    [(1, 100, 0), (-1, 0, 2), (0, 50, 2**0.5), (0.5, 75, 1), (1.0000002, 100, 0), (-1.0000002, 0, 2)],
)
def test_all_three_come_from_the_cosine(cosine: float, percentage: float, distance: float) -> None:
    similarity = of_cosine(cosine)
    assert similarity.percentage == percentage == (similarity.cosine + 1) * 50
    assert similarity.distance == pytest.approx(distance, abs=FP32)


def test_an_asset_is_exactly_itself_though_its_numbers_are_not() -> None:
    short = features("a", 0.6, 0.7999)  # a unit vector but for rounding
    assert between(short, short).percentage == 100
    assert matrix([short, features("b", 1, 0)]).tolist() == [[100, 80], [80, 100]]


def test_equal_candidates_are_ranked_by_id() -> None:
    candidates = {name: features(name, *unit) for name, unit in (("c", (1, 0)), ("a", (0, 1)), ("b", (1, 0)))}
    ranked = rank(features("q", 1, 0), candidates)
    assert [(name, similarity.percentage) for name, similarity in ranked] == [
        ("b", 100),
        ("c", 100),
        ("a", 50),
    ]


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [
        (75, 75, 0),
        (100, 75, 1),
        (87.5, 75, 0.5),
        (0, 75, 1),
        (37.5, 75, 0.5),
        (100, 100, 1),
        (0, 0, 0),
        (40, 0, 0.4),
    ],
)
def test_certainty_is_relative_to_its_side_of_the_scale(value: float, threshold: float, expected: float) -> None:
    assert certainty(value, threshold, 0, 100) == expected


def test_features_come_out_of_the_cache_as_they_went_in() -> None:
    for kind in ("image", "video"):
        before = Features("a", "m@1", kind, np.float32([1, 2, 3]), np.float32([4, 5, 6]), datetime.now(UTC))
        after = _unpack("a", "m@1", _pack(before))
        assert (after.asset_id, after.model_version, after.kind) == ("a", "m@1", kind)
        np.testing.assert_array_equal(after.raw, before.raw)
        np.testing.assert_array_equal(after.unit, before.unit)
        assert after.created_at == before.created_at
        assert after.unit.flags.aligned  # what LanceDB insists on
        assert after.raw.flags.aligned
