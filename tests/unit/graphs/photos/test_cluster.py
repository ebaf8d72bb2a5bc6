"""Embeddings of a cluster request, as one matrix."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from graphs.photos.cluster import matrix_of
from graphs.photos.errors import ClusteringError


def test_rows_become_a_matrix() -> None:
    matrix = matrix_of([[3, 4], [0.5, -2.0], [1e300, 0], [float("nan"), 2**63]])
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.float32([[3, 4], [0.5, -2], [np.inf, 0], [np.nan, 2**63]]))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ([1, 2, 3], r"embeddings\[1\] has 3 numbers and embeddings\[0\] has 2"),
        ([], "no list of numbers"),
        ([1, None], "no list of numbers"),
        (["1", "2"], "no list of numbers"),
        ([True, False], "no list of numbers"),
        ([True, 2], "no list of numbers"),
        ("ab", "no list of numbers"),
        ([[1, 2], [3, 4]], "no list of numbers"),
        ([[1], [2, 3]], "no list of numbers"),
        ({"a": 1}, "no list of numbers"),
        (5, "no list of numbers"),
        (None, "no list of numbers"),
    ],
)
def test_a_bad_row_is_named(second: Any, words: str) -> None:
    with pytest.raises(ClusteringError, match=words) as caught:
        matrix_of([[1, 2], second])
    assert "embeddings[1]" in caught.value.message


def test_a_long_text_among_numbers_takes_no_memory() -> None:
    row = [1] * 2000 + ["x" * 500_000]  # as an array of numpy's 4 GB
    tracemalloc.start()
    try:
        with pytest.raises(ClusteringError, match="no list of numbers"):
            matrix_of([row, row])
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
