"""Measure the memory of every stage: load each one alone in a process, and print what it holds for itself in MB.

``python -m ops.bench.memory [STAGE …]`` prints the lines of ``ops/plan/memory.yaml``. A process is measured after
warm-up with the stage's lines of serve_config.yaml, by the pages that no other process shares (USS).
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

CONFIG = Path(__file__).parents[2] / "serve_config.yaml"
"""Where the stages' configurations are read from."""
LARGEST_BATCH = 8
"""A CPU computes larger batches in parts."""
LIBRARIES = ("torch", "transformers")
"""Libraries whose imports count for themselves: stages of one process share them."""


def stage_configs(path: Path = CONFIG) -> dict[str, dict[str, Any]]:
    """Return the configuration of each stage that has one in a Serve configuration."""
    apps = yaml.safe_load(path.read_text())["applications"]
    lines = [line for app in apps for line in app.get("deployments", [])]
    return {key: values for line in lines for key, values in (line.get("user_config") or {}).items()}


def own_mb() -> float:
    """Return the memory of this process that no other shares, in MB of 10^6 bytes."""
    return float(psutil.Process().memory_full_info().uss) / 1e6


def measure(key: str) -> dict[str, Any]:
    """Load a stage in this process; return the MB of the bare process, of its libraries, and of the stage itself."""
    from deployments.serving.catalog import find_stage, local_handle

    steps = {"process": own_mb()}
    stage, config = find_stage(key), stage_configs().get(key, {})
    if "max_batch_size" in config:
        config = {**config, "max_batch_size": min(config["max_batch_size"], LARGEST_BATCH)}
    handle = asyncio.run(local_handle(stage, config))
    info = asyncio.run(handle.info())
    loaded = own_mb()
    used = [name for name in LIBRARIES if name in sys.modules]
    return {**steps, "loaded": loaded, "libraries": used, "error": info.get("error")}


def main() -> None:
    """Measure the stages named on the command line, or all of them, each in a process of its own."""
    from deployments.serving.catalog import stage_keys

    for key in sys.argv[1:] or stage_keys():
        code = f"import json; from ops.bench.memory import measure; print(json.dumps(measure({key!r})))"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(key, json.loads(ran.stdout.splitlines()[-1]), flush=True)


if __name__ == "__main__":
    main()
