"""A film that plays while its gateway is replaced and HAProxy reloaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def drained(home: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.cluster.draining", str(home), *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_film_is_sent_to_its_end(tmp_path: Path) -> None:
    seen = drained(tmp_path / "home")
    assert (seen["whole"], seen["error"]) == (True, ""), seen
    assert seen["replaced_meanwhile"], seen
    assert (seen["failures"], seen["asked"] > 20) == ([], True), seen
