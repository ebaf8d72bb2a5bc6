"""A bulk run with dummies on a small Ray of its own: ``python -m tests.cluster.bulk SOURCE REPORT``."""

import json
import sys
from pathlib import Path

import ray
from rich.console import Console

from ops.bulk.driver import index
from ops.bulk.plan import Options
from ops.bulk.report import Screen
from tests.dummies.stages import find_slow
from tests.graphs.indexing import QUICK

if __name__ == "__main__":
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    with Screen(Console()) as screen:
        report = index([sys.argv[1]], Options(share=1), screen, find=find_slow, timing=QUICK)
    Path(sys.argv[2]).write_text(json.dumps(report.to_json()))
    sys.exit(report.exit_code)
