"""Run ``visiongraph index`` as a job of a cluster: ``ray job submit -- python -m ops.bulk SOURCE``."""

from ops.cli.index import index
from ops.cli.main import run

if __name__ == "__main__":
    run(index)
