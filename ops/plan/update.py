"""What an update of a running service would restart, and what it changes in place: as Serve itself decides it.

``serve deploy FILE`` is declarative: applications that the file does not name are removed. Of one that runs, Serve
hashes the import path, the arguments and the environment, the autoscaling policies, routers and actors of its
deployments into one version, and a change of it replaces every replica; so do Ray's options of one deployment for that
deployment. Everything else is applied to the replicas that run.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from deployments.serving.room import RoomArgs
from ops.plan.needs import ROOM, replicas

Effect = Literal["starts", "stops", "restarts", "in place", "unchanged"]
RESTARTING: Final = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "placement_group_fallback_strategy",
    "max_replicas_per_node",
    "gang_scheduling_config",
)
"""Options of a deployment that its replicas are started with (DeploymentVersion.requires_actor_restart)."""
OF_APPLICATION: Final = ("import_path", "args", "runtime_env", "autoscaling_policy")
"""What the version of an application is made of (get_app_code_version), beside options of its deployments."""
OF_ITS_DEPLOYMENTS: Final = ("autoscaling_config.policy", "request_router_config", "deployment_actors")
READ_AT_LOAD: Final = {"model", "models", "checkpoints", "engine", "torch_threads", "cuda_memory_fraction"}
"""Keys of ``user_config`` that a stage reads when it loads."""
DEFAULT_ACTOR: Final = {"num_cpus": 1}
"""Serve's options of a replica where the file says nothing; builders of this project give none."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the replicas of a deployment, and because of what."""

    app: str
    deployment: str
    effect: Effect
    because: str = ""

    @property
    def name(self) -> str:
        """Return ``application.deployment``."""
        return f"{self.app}.{self.deployment}"


def changes(running: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]) -> list[Change]:
    """Return what ``serve deploy`` of a configuration would do to each deployment of a running Serve.

    ``running`` is ``applications`` of ``GET /api/serve/applications/``. Raises pydantic.ValidationError for a
    configuration that Serve refuses.
    """
    from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

    wanted = {app.name: app for app in ServeDeploySchema.model_validate(config).applications}
    found: list[Change] = []
    for name, app in wanted.items():
        live = running.get(name)
        if live is None:
            names = [str(line.name) for line in app.deployments]
            found += [Change(name, each, "starts", "the application is new") for each in names]
            continue
        before = ServeApplicationSchema.model_validate(live.get("deployed_app_config") or {"import_path": "?:?"})
        deployments = [*live.get("deployments", {})]
        found += _of_application(name, before, app, deployments)
    for name in running.keys() - wanted.keys():
        stopped = [*running[name].get("deployments", {})]
        found += [Change(name, each, "stops", "the configuration does not have its application") for each in stopped]
    return found


def _of_application(name: str, before: Any, after: Any, deployments: Sequence[str]) -> Iterator[Change]:
    from ray.serve._private.deploy_utils import get_app_code_version

    if get_app_code_version(before) != get_app_code_version(after):
        changed = [key for key in OF_APPLICATION if getattr(before, key) != getattr(after, key)]
        because = ", ".join(changed or [f"{' or '.join(OF_ITS_DEPLOYMENTS)} of a deployment"])
        names = dict.fromkeys([*deployments, *(str(line.name) for line in after.deployments)])
        yield from (Change(name, each, "restarts", f"{because} of the application changed") for each in names)
        return
    old, new = _lines(before), _lines(after)
    shared = [key for key in ("route_prefix", "logging_config") if getattr(before, key) != getattr(after, key)]
    defaults = RoomArgs.model_validate(after.args).options() if after.import_path == ROOM else {}
    for deployment in dict.fromkeys([*deployments, *new]):
        lines = old.get(deployment, {}), new.get(deployment, {})
        yield _of_deployment(name, deployment, *lines, defaults.get(deployment, {}), shared)


def _lines(app: Any) -> dict[str, dict[str, Any]]:
    """Return what the file says of each deployment, as Serve applies it over the code."""
    return {line["name"]: line for line in app.model_dump(exclude_unset=True).get("deployments", [])}


def _of_deployment(
    app: str,
    deployment: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    defaults: Mapping[str, Any],
    shared: Sequence[str],
) -> Change:
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    restarting = [key for key in RESTARTING if _hashed(key, old) != _hashed(key, new)]
    if restarting:
        return Change(app, deployment, "restarts", f"{', '.join(restarting)} changed")
    changed = [key for key in changed if key not in RESTARTING] + list(shared)
    if not changed:
        return Change(app, deployment, "unchanged")
    because = ", ".join(changed)
    if "user_config" in changed and (late := _late(old.get("user_config"), new.get("user_config"))):
        because += f"; {', '.join(late)} takes effect when a replica loads next"
    before, now = replicas({**defaults, **old}), replicas({**defaults, **new})
    if now[0] > before[0]:
        because += f"; up to {now[0] - before[0]} more replicas start"
    if now[1] < before[1]:
        because += f"; replicas over {now[1]} stop"
    return Change(app, deployment, "in place", because)


def _hashed(key: str, line: Mapping[str, Any]) -> str:
    """Return an option as Serve hashes it: 1 and 1.0 are two things to it."""
    value = line.get(key)
    if key == "ray_actor_options":
        value = {**DEFAULT_ACTOR, **value} if isinstance(value, Mapping) else DEFAULT_ACTOR
    return json.dumps(value, sort_keys=True)


def _late(old: Any, new: Any) -> list[str]:
    """Return which keys that are read at load differ between two ``user_config``."""
    old, new = (each if isinstance(each, Mapping) else {} for each in (old, new))
    keys = set()
    for stage in old.keys() | new.keys():
        before, now = (each.get(stage) or {} for each in (old, new))
        keys |= {key for key in READ_AT_LOAD if before.get(key) != now.get(key)}
    return sorted(keys)
