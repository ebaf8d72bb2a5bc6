"""Ray Serve as this service runs it, around an application that answers a ready-made body. ``python -m … PORT FILE``.

HAProxy before two replicas on one machine, with all settings of ``visiongraph serve``: the floor of what a request
costs that passes them, however little is done for it.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from ops.bench.peers import bare_starlette
from ops.cluster import Cluster, free_port

NAME = "empty"


class Empty:
    """Serve's ingress deployment class."""

    def __serve_build_asgi_app__(self) -> Starlette:
        return bare_starlette.build()


def application(_: dict[str, Any]) -> Application:
    """Build the application for Serve."""
    return serve.deployment(serve.ingress(None)(Empty)).options(name=NAME).bind()


def config(port: int) -> dict[str, Any]:
    """Return its Serve configuration; as that of configs/laptop.yaml, where that has a gateway."""
    replicas = {
        "name": NAME,
        "num_replicas": 2,
        "max_ongoing_requests": 1024,
        "max_queued_requests": 1024,
        "ray_actor_options": {"num_cpus": 0.1},
    }
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 86400},
        "logging_config": {"encoding": "TEXT", "log_level": "INFO", "enable_access_log": False},
        "applications": [
            {
                "name": NAME,
                "route_prefix": "/",
                "import_path": "ops.bench.peers.empty_serve:application",
                "args": {},
                "deployments": [replicas],
            }
        ],
    }


def main() -> None:
    """Serve until SIGINT, in a Ray of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {bare_starlette.BODY: str(Path(sys.argv[2]).resolve()), "RAY_ADDRESS": "local"}
    cluster = Cluster(free_port(8267))
    with tempfile.TemporaryDirectory() as home:
        try:
            cluster.connect(Path(home))
            cluster.deploy(config(int(sys.argv[1])))
            for _ in cluster.progress():
                pass
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            pass
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
