"""``ray job submit -- python -m ops.bulk SOURCE``: what ``visiongraph index`` does, as a job of a cluster."""

from ops.cli.index import index
from ops.cli.main import run

if __name__ == "__main__":
    run(index)
