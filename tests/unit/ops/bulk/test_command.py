"""``visiongraph index``: what it refuses before it starts anything."""

from pathlib import Path

import pytest

from ops.cli.index import index
from ops.cluster import ClusterError


def test_a_report_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot be written"):
        index(["no such source"], report=tmp_path / "nowhere" / "report.json")
    with pytest.raises(ClusterError, match="There is no video"):
        index(["no such source"], report=tmp_path / "report.json")
