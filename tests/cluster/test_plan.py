"""What `visiongraph plan` says of an update is what Serve does: process ids before and after, on a Ray of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``updates.py`` prints."""
    errors = tmp_path_factory.mktemp("plan") / "stderr"
    with errors.open("wb") as stderr:
        command = [sys.executable, "-m", "tests.cluster.updates"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, cwd=Path(__file__).parents[2], check=False)
    assert ran.returncode == 0, errors.read_text()[-3000:]
    results: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("thresholds", {"quality.blur": "in place", "quality.exposure": "unchanged", "analysis.pack": "in place"}),
        ("shares", {"quality.blur": "restarts", "quality.exposure": "restarts", "analysis.pack": "unchanged"}),
        ("arguments", {"quality.blur": "unchanged", "quality.exposure": "unchanged", "analysis.pack": "restarts"}),
        # Each autoscaling_config of the file has a part in the version of its application.
        (
            "more_autoscaling",
            {"quality.blur": "restarts", "quality.exposure": "restarts", "analysis.pack": "unchanged"},
        ),
        (
            "another_application",
            {
                "quality.blur": "unchanged",
                "quality.exposure": "unchanged",
                "people.pack": "starts",
                "analysis.pack": "stops",
            },
        ),
    ],
)
def test_what_is_said_to_restart_has_other_processes_after_the_update(
    updates: dict[str, Any], case: str, expected: dict[str, str]
) -> None:
    said, done = updates[case]
    assert done == said
    assert said == expected


def test_what_the_service_holds_is_free_for_its_own_update(updates: dict[str, Any]) -> None:
    beside, own = updates["held"]["free"]
    assert beside == pytest.approx([8 - 0.4, 0.75])
    assert own == pytest.approx([8, 1])
    assert updates["held"]["misfits"] == [["quality.blur"], []]
