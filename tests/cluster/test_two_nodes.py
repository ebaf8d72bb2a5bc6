"""Two real nodes, but no service on them: `make two-nodes` has that."""

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster.nodes import two_nodes


def test_embedded_stores_are_refused(tmp_path: Path) -> None:
    with two_nodes({}, head=["--num-cpus=1"], other=["--num-cpus=1"]) as nodes:
        known = os.environ | dict(nodes.environment) | {"VISION_HOME": str(tmp_path / "home"), "VISION_CACHE_URL": ""}
        command = [sys.executable, "-m", "ops.cli.main", "serve", "--port=0", "--config=configs/laptop.yaml"]
        done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=120)
        text = " ".join(done.stderr.split())
        assert done.returncode == 1, done.stdout + done.stderr
        assert "This Ray cluster has 2 nodes, and embedded stores are on one machine only" in text
        for name in ("VISION_OBJECTS_URL", "VISION_DOCUMENTS_URL", "VISION_VECTORS_URL", "VISION_CACHE_URL"):
            assert name in text
