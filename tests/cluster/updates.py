"""Update a Serve of a Ray of its own, and print what was said to happen and what did, one JSON line a case."""

import copy
import json
import os
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.serve.schema import ServeDeploySchema

from ops.plan.machines import cluster_nodes, without_applications
from ops.plan.needs import needs
from ops.plan.packing import pack
from ops.plan.update import changes

ROOM = "deployments.serving.catalog:room"
FAST = {"graceful_shutdown_timeout_s": 0.1, "health_check_period_s": 1}
ONE = {"min_replicas": 1, "max_replicas": 2}
READY_WITHIN_S = 180
Applications = dict[str, dict[str, Any]]


def line(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "ray_actor_options": {"num_cpus": 0.1}, **FAST, **options}


BASE: dict[str, Any] = {
    "applications": [
        {
            "name": "quality",
            "route_prefix": None,
            "import_path": ROOM,
            "args": {"stages": ["quality/blur", "quality/exposure"]},
            "deployments": [line("blur", autoscaling_config=ONE), line("exposure")],
        },
        {
            "name": "analysis",
            "route_prefix": None,
            "import_path": ROOM,
            "args": {"packs": {"pack": ["analysis/tracks", "analysis/anomalies"]}},
            "deployments": [line("pack", autoscaling_config=ONE)],
        },
    ]
}


class Deployed:
    """A Serve that configurations are deployed to."""

    def __init__(self) -> None:
        from ray.serve.context import _get_global_client

        self._client = _get_global_client()

    def applications(self) -> Applications:
        """As ``GET /api/serve/applications/`` answers."""
        found: Applications = self._client.get_serve_details()["applications"]
        return found

    def deploy(self, config: dict[str, Any]) -> dict[str, set[int]]:
        """Deploy and wait; the process ids of each deployment."""
        self._client.deploy_apps(ServeDeploySchema.model_validate(config))
        names = {app["name"] for app in config["applications"]}
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            apps = self.applications()
            if apps.keys() == names and all(is_steady(app) for app in apps.values()):
                return {
                    f"{name}.{deployment}": {replica["pid"] for replica in details["replicas"]}
                    for name, app in apps.items()
                    for deployment, details in app["deployments"].items()
                }
            time.sleep(0.2)
        raise TimeoutError(f"not deployed after {READY_WITHIN_S} s: {self.applications()}")


def is_steady(app: dict[str, Any]) -> bool:
    replicas = [replica for each in app["deployments"].values() for replica in each["replicas"]]
    return app["status"] == "RUNNING" and all(replica["state"] == "RUNNING" for replica in replicas)


Change = Callable[[dict[str, dict[str, Any]]], None]


def changed(change: Change) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    apps = {app["name"]: app for app in config["applications"]}
    change({**apps, **{f"{name}.{each['name']}": each for name, app in apps.items() for each in app["deployments"]}})
    config["applications"] = [app for app in config["applications"] if app["import_path"]]
    return config


def thresholds(at: dict[str, dict[str, Any]]) -> None:
    at["quality.blur"]["user_config"] = {"quality/blur": {"max_batch_size": 2}}
    at["quality.blur"]["autoscaling_config"] = {**ONE, "max_replicas": 5, "target_ongoing_requests": 9}
    at["analysis.pack"] |= {"max_ongoing_requests": 33, "max_queued_requests": 99, "health_check_period_s": 2}


def shares(at: dict[str, dict[str, Any]]) -> None:
    at["quality.exposure"]["ray_actor_options"] = {"num_cpus": 0.2}
    at["quality.blur"]["ray_actor_options"] = {"num_cpus": 0.1, "num_gpus": 0.25}


def arguments(at: dict[str, dict[str, Any]]) -> None:
    at["analysis"]["args"] = {"packs": {"pack": ["analysis/tracks", "analysis/groups"]}}


def more_autoscaling(at: dict[str, dict[str, Any]]) -> None:
    at["quality.exposure"]["autoscaling_config"] = ONE


def another_application(at: dict[str, dict[str, Any]]) -> None:
    at["analysis"]["name"] = "people"


CASES = (thresholds, shares, arguments, more_autoscaling, another_application)


def update(deployed: Deployed, change: Change) -> tuple[dict[str, str], dict[str, str]]:
    """What is said of an update of BASE, and what it did."""
    before = deployed.deploy(BASE)
    config = changed(change)
    said: dict[str, str] = {each.name: each.effect for each in changes(deployed.applications(), config)}
    after = deployed.deploy(config)
    done = {name: "starts" if name not in before else "stops" for name in before.keys() ^ after.keys()}
    for name in before.keys() & after.keys():
        # In place and unchanged look alike from outside: the same processes.
        kept = said[name] if said[name] in ("in place", "unchanged") else "kept"
        done[name] = kept if before[name] == after[name] else "restarts"
    return said, done


def held(deployed: Deployed) -> dict[str, Any]:
    """What is free beside the service, and what would be for its own update."""
    config = changed(shares)
    deployed.deploy(config)
    (beside,) = cluster_nodes()
    (own,) = without_applications([beside], deployed.applications())
    large = copy.deepcopy(config)
    large["applications"][0]["deployments"][0]["ray_actor_options"] = {"num_cpus": 7.5, "num_gpus": 1}
    return {
        "free": [[node.resources["CPU"], sum(gpu.free for gpu in node.gpus)] for node in (beside, own)],
        "misfits": [[misfit.need.name for misfit in pack(needs(large), [node]).misfits] for node in (beside, own)],
    }


def main() -> None:
    """Run every case."""
    os.environ["RAY_SERVE_CONTROL_LOOP_INTERVAL_S"] = "0.1"
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    deployed = Deployed()
    results: dict[str, Any] = {change.__name__: update(deployed, change) for change in CASES}
    print(json.dumps(results | {"held": held(deployed)}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
