"""What a process has recorded, in place of what Ray would send to its agent."""

from collections import defaultdict
from collections.abc import Mapping

import pytest

from deployments.serving import metrics

Labels = tuple[tuple[str, str], ...]


class _Series:
    """One metric, whose labels have to be those that it was declared with."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = set(labels)
        self.values: dict[Labels, list[float]] = defaultdict(list)

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        assert set(labels) == self._labels
        assert all(isinstance(each, str) for each in labels.values())
        self.values[tuple(sorted(labels.items()))].append(value)

    inc = observe = set = record


class Recorded:
    """Every value of every metric, by its labels."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def series(self, name: str) -> _Series:
        metrics.flush()
        return self._made(name)

    def _made(self, name: str) -> _Series:
        return self._series.setdefault(name, _Series(metrics.METRICS[name].labels))

    def values(self, name: str, **labels: str) -> list[float]:
        """What was recorded with these labels, in order."""
        return self.series(name).values[tuple(sorted(labels.items()))]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all values whose labels include these."""
        return sum(
            sum(values) for own, values in self.series(name).values.items() if labels.items() <= dict(own).items()
        )

    def of(self, name: str) -> dict[Labels, float]:
        """The sums of all label sets."""
        return {labels: sum(values) for labels, values in self.series(name).values.items() if values}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    metrics.flush()  # what tests before this one have counted
    made = Recorded()
    monkeypatch.setattr(metrics, "_made", made._made)
    return made
