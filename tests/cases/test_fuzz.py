"""A short run of damaged files; a long one is ``python -m tests.cases.fuzz``."""

from collections import Counter
from pathlib import Path

import pytest

from tests.cases.fuzz import MOST_MB, run, tried, whole_files


@pytest.mark.timeout(120)
def test_damaged_files_are_refused_or_read_and_harm_nothing() -> None:
    outcomes = list(run(range(1_000_000, 1_000_300), children=1))
    assert len({outcome.number for outcome in outcomes}) == 300
    assert [outcome for outcome in outcomes if outcome.find] == []
    assert max(outcome.megabytes for outcome in outcomes) < MOST_MB
    # The mutations are neither so mild that all files can be read, nor so harsh that none can.
    answers = Counter(answer for outcome in outcomes for answer in outcome.answers.values())
    assert answers["decoded"] > 100
    assert answers["InvalidMedia"] > 100


def test_the_whole_files_that_are_damaged_can_be_read(tmp_path: Path) -> None:
    outcomes = [tried(0, name, data, tmp_path) for name, data in whole_files().items()]
    assert {outcome.name for outcome in outcomes if outcome.answers["probe"] != "decoded"} == set()
