"""Measure the memory of every stage: load each one alone in a process, and print what it holds for itself in MB.

``python -m ops.bench.memory [STAGE …]`` prints the lines of configs/memory.yaml. A process is measured after
warm-up with the stage's lines of serve_config.yaml, by the pages that no other process shares (USS).
"""

import asyncio
import json
import subprocess
import sys
from math import ceil
from pathlib import Path
from typing import Any

import psutil
import yaml

from ops.plan.needs import memory

CONFIG = Path(__file__).parents[2] / "serve_config.yaml"
"""Where the stages' configurations are read from."""
LARGEST_BATCH = 8
"""A CPU computes larger batches in parts."""
STEP_MB = 5
"""What figures are rounded up to."""


def stage_configs(path: Path = CONFIG) -> dict[str, dict[str, Any]]:
    """Return the configuration of each stage that has one in a Serve configuration."""
    apps = yaml.safe_load(path.read_text())["applications"]
    lines = [line for app in apps for line in app.get("deployments", [])]
    return {key: values for line in lines for key, values in (line.get("user_config") or {}).items()}


def own_mb() -> float:
    """Return the memory of this process that no other shares, in MB of 10^6 bytes."""
    return float(psutil.Process().memory_full_info().uss) / 1e6


def measure(key: str) -> dict[str, Any]:
    """Load a stage in this process; return the MB that it and its libraries hold, these libraries, and its error."""
    from deployments.serving.catalog import find_stage, local_handle

    before = own_mb()
    stage, config = find_stage(key), stage_configs().get(key, {})
    if "max_batch_size" in config:
        config = {**config, "max_batch_size": min(config["max_batch_size"], LARGEST_BATCH)}

    async def load() -> dict[str, Any]:
        return await (await local_handle(stage, config)).info()

    info = asyncio.run(load())
    libraries = [name for name in memory().libraries if name in sys.modules]
    return {"mb": own_mb() - before, "libraries": libraries, "error": info.get("error")}


def main() -> None:
    """Measure the stages named on the command line, or all of them, each in a process of its own."""
    from deployments.serving.catalog import stage_keys

    for key in sys.argv[1:] or stage_keys():
        code = f"import json; from ops.bench.memory import measure; print(json.dumps(measure({key!r})))"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        measured = json.loads(ran.stdout.splitlines()[-1])
        own = measured["mb"] - sum(memory().libraries[name] for name in measured["libraries"])
        libraries = f", libraries: [{', '.join(measured['libraries'])}]" if measured["libraries"] else ""
        reason = f"  # not loaded: {measured['error'].splitlines()[0]}" if measured["error"] else ""
        print(f"  {key}: {{mb: {max(STEP_MB, STEP_MB * ceil(own / STEP_MB))}{libraries}}}{reason}", flush=True)


if __name__ == "__main__":
    main()
