"""The speed report: what is measured when, with whose code, and what the page says of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.bench import speed
from ops.bench.report import Contestant, Line
from ops.bench.speed import LINES, Asked, in_processes, overlaid, pending, report

SERVED = [key for key, asked in LINES.items() if asked.needs_service]


def line(value: float) -> dict[str, Any]:
    return {"value": value, "contestants": [{"name": "the service", "rate": 10.0, "cpu_ms": 2.5}], "notes": ["So."]}


def test_lines_of_the_service_share_one_and_an_older_checkout_comes_next_to_this_one() -> None:
    assert list(pending({}, SERVED, ["now", "before"])) == [("now", SERVED), ("before", SERVED)]


def test_what_is_known_is_not_measured_again_unless_it_is_asked_for() -> None:
    known = {"now": {key: line(1.0) for key in LINES}, "before": {key: line(1.0) for key in LINES if key != "cached"}}
    assert list(pending(known, None, ["now", "before"])) == [("before", ["cached"])]
    assert list(pending(known, ["features"], ["now"])) == [("now", ["features"])]
    assert list(pending(known, None, ["now"])) == []


def test_an_older_checkout_is_measured_by_the_benchmarks_of_this_one(tmp_path: Path) -> None:
    for folder in ("ops/bench", "vision"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ops" / "__init__.py").touch()
    (tmp_path / "ops" / "bench" / "__init__.py").write_text("AGE = 'old'")
    (tmp_path / "vision" / "__init__.py").write_text("AGE = 'old'")
    code = "import vision, ops.bench.report as r; print(vision.AGE, hasattr(r, 'Contestant'))"
    with overlaid(tmp_path) as folder:
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env={}, capture_output=True, text=True, check=True
        )
    assert said.stdout == "old True\n"
    assert not folder.exists()
    assert (tmp_path / "ops" / "bench" / "__init__.py").read_text() == "AGE = 'old'"


def test_a_line_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(setting: speed.Setting) -> Line:
        raise ValueError("no film")

    good = Line(1.25, (Contestant("the service", 10.0, 2.5),), ("So.",))
    monkeypatch.setitem(LINES, "bad", Asked("bad", "ms", "< 1", fail))
    monkeypatch.setitem(LINES, "good", Asked("good", "ms", "< 1", lambda setting: good))
    speed.measure(["bad", "good"], tmp_path, tmp_path / "lines.json", peers=True)
    lines = json.loads((tmp_path / "lines.json").read_text())
    assert lines["bad"] == {"error": "ValueError: no film"}
    text = "\n".join(report({"now": lines, "before": {"good": line(2.5)}}, "ops.bench.speed", 60.0))
    assert "| [bad](#bad) | ms |  | **failed** | < 1 |" in text
    assert "| [good](#good) | ms | 2.50 | **1.25** | < 1 |" in text
    assert "It failed: ValueError: no film" in text
    assert "| before: the service | 10.0 | 2.50 |" in text


def test_a_process_that_ends_without_a_word_is_a_failure_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "ops" / "bench").mkdir(parents=True)
    (tmp_path / "ops" / "bench" / "speed.py").write_text("raise SystemExit(3)")
    for folder in ("ops", "ops/bench"):
        (tmp_path / folder / "__init__.py").touch()
    assert in_processes(tmp_path, ["idle"], tmp_path, peers=True) == {"idle": {"error": "its process ended with 3"}}
