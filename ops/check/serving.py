"""Check a Serve configuration against Ray's schema and the stages: deployments, applications, and what joins them.

Ray accepts unknown keys, checks autoscaling numbers only when it uses them, and lets a bad user_config fail when its
replica starts; here all of that is a fault.
"""

import importlib
import inspect
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from deployments.serving.catalog import address_of
from deployments.serving.handle import StageHandle
from deployments.serving.room import RoomArgs
from deployments.serving.stage import StageConfig, models_of
from ops.check.code import Code
from ops.check.fault import Report
from ops.plan.needs import GATEWAY, ROOM, WORKER

JOBS = "jobs"
"""The API whose requests need a worker."""
CALL_ITEMS: int = inspect.signature(StageHandle).parameters["max_batch"].default
"""Items of one call to a stage, at most."""
RAY_MAX_ONGOING = 5
LARGEST_BATCH = 512
LONGEST_WAIT_S = 1.0

Places = Mapping[str, Sequence[str]]
"""Stage key → every ``application.deployment`` it runs in."""


@dataclass
class App:
    """An application, as far as it can be read."""

    name: str
    import_path: str = ""
    args: Any = None
    """RoomArgs, GatewayArgs or WorkerArgs; None where they are invalid or the builder is not one of this project."""
    hosts: dict[str, list[str]] | None = None
    """Deployment name → stages that run in it; None where that is not known."""
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Deployment name → its entry under ``deployments``, over the default options."""


def read(path: Path, report: Report) -> dict[str, Any] | None:
    """Read the file and check it against Ray's schema; return None when it cannot be read at all."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        report.add(f"cannot be read: {error.strerror}", "give the path of a Serve configuration")
        return None
    except yaml.YAMLError as error:
        report.add(f"not YAML: {' '.join(str(error).split())}", "correct the line")
        return None
    if not isinstance(data, dict):
        report.add("is not a mapping", "begin with `applications:`, as serve_config.yaml does")
        return None
    try:
        ServeDeploySchema.model_validate(data, extra="forbid")
    except ValidationError as error:
        report.add_invalid(error, data=data)
    return data


def check_application(raw: Mapping[str, Any], code: Code, report: Report) -> App:
    """Check one entry of ``applications``."""
    app = App(str(raw.get("name", "default")), str(raw.get("import_path")))
    report = report.at(app.name)
    _check_builder(raw, app, report)
    options = app.args.options() if isinstance(app.args, RoomArgs) else {}
    for line in dicts(raw.get("deployments")):
        name = str(line.get("name"))
        app.lines[name] = options.get(name, {}) | line
    for name, line in app.lines.items():
        if app.import_path != WORKER:
            check_limits(line, report.at(name))
        else:
            check_worker(line, report.at(name), asked=bool((app.hosts or {}).get(name)))
    if app.hosts is not None:
        _check_hosts(app.hosts, app.lines, code, report)
    return app


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, or none if it is no list; the schema reports the rest."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _check_builder(raw: Mapping[str, Any], app: App, report: Report) -> None:
    path, args = app.import_path, raw.get("args") or {}
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        getattr(importlib.import_module(module), attribute)
    except Exception as error:
        what = f"{path} cannot be imported: {type(error).__name__}: {error}"
        report.at("import_path").add(what, f"rooms are {ROOM}, the gateway is {GATEWAY}, the worker is {WORKER}")
        return
    route = raw.get("route_prefix", "/")
    if path in (ROOM, WORKER) and route is not None:
        who = "a room" if path == ROOM else "the worker"
        report.at("route_prefix").add(f"{who} must not be reachable over HTTP", "set it to null")
    if path == GATEWAY and route is None:
        report.at("route_prefix").add("the gateway has no route", "set it to /")
    try:
        if path == ROOM:
            app.args = RoomArgs.model_validate(args)
            app.hosts = app.args.deployments()
            _check_names(app.args, report.at("args"))
        elif path in (GATEWAY, WORKER):
            # Here, because a graph that does not import must leave the rest of the check alive.
            from graphs.jobs.worker import WorkerArgs
            from graphs.web.gateway import GatewayArgs

            app.args = (GatewayArgs if path == GATEWAY else WorkerArgs).model_validate(args)
            app.hosts = {path.rpartition(":")[2]: app.args.here}
    except ValidationError as error:
        report.at("args").add_invalid(error, args)


def _check_names(args: RoomArgs, report: Report) -> None:
    names = [key.partition("/")[2] for key in args.stages] + list(args.packs)
    for name in sorted({name for name in names if names.count(name) > 1}):
        report.add(f"two deployments would be called {name}", "give the pack another name, or make one of them")
    for pack, keys in args.packs.items():
        if not keys:
            report.at("packs", pack).add("is empty", "name its stages or remove it")


def _check_hosts(
    hosts: Mapping[str, list[str]], lines: Mapping[str, dict[str, Any]], code: Code, report: Report
) -> None:
    for name in sorted(hosts.keys() - lines.keys()):
        report.at(name).add("has no lines under deployments", "add them, with its share of CPUs and GPUs")
    for name in sorted(lines.keys() - hosts.keys()):
        report.at(name).add("is not a deployment of this application", "name it in args, or remove it")
    for name, keys in hosts.items():
        for key in keys:
            if key not in code.stages and key not in code.broken:
                report.at(name).add(f"there is no stage {key}", f"add deployments/{key}.py or correct args")
        if name in lines:
            check_stages(lines[name], keys, code, report.at(name))


def check_limits(line: Mapping[str, Any], report: Report) -> None:
    """Check queue limit, backpressure and autoscaling."""
    _check_queue(line, report)
    _check_autoscaling(line, report)


def _check_queue(line: Mapping[str, Any], report: Report) -> None:
    queued = line.get("max_queued_requests")
    if queued is None or (isinstance(queued, int) and queued < 0):
        report.at("max_queued_requests").add("its queue has no limit", "set it, for example to 64")
    backpressure = line.get("backpressure_config")
    answer = backpressure if isinstance(backpressure, dict) else {}
    if answer.get("status_code") != 429 or not answer.get("retry_after_s"):
        fix = "set it to {status_code: 429, retry_after_s: 1}"
        report.at("backpressure_config").add("overload must answer 429 with Retry-After", fix)


def check_worker(line: Mapping[str, Any], report: Report, *, asked: bool = False) -> None:
    """Check the worker: jobs are no requests, so it scales by nothing; ``asked`` when others call its stages."""
    if asked:
        _check_queue(line, report)
    _check_autoscaling(line, report)
    if line.get("autoscaling_config") is not None:
        what = "scales by requests, but the worker gets none"
        report.at("autoscaling_config").add(what, "set num_replicas instead")


def _check_autoscaling(line: Mapping[str, Any], report: Report) -> None:
    if line.get("num_replicas") is not None and line.get("autoscaling_config") is not None:
        what = "has no effect beside autoscaling_config, which stages with a deployment of their own have by default"
        report.at("num_replicas").add(what, "remove it, or set autoscaling_config to null")
    if isinstance(line.get("autoscaling_config"), dict):
        try:
            AutoscalingConfig.model_validate(line["autoscaling_config"], extra="forbid")
        except ValidationError as error:
            report.at("autoscaling_config").add_invalid(error)


def check_stages(line: Mapping[str, Any], keys: list[str], code: Code, report: Report) -> None:
    """Check ``user_config`` against the stages ``keys`` of this deployment."""
    user_config = line.get("user_config") or {}
    if not isinstance(user_config, dict):
        return  # the schema says so
    for key in sorted(map(str, user_config.keys() - set(keys))):
        fix = f"it runs {', '.join(keys)}" if keys else "remove it: this deployment takes no user_config"
        report.at("user_config").add(f"{key} does not run here", fix)
    for key in keys:
        if key not in code.stages:
            continue
        here = report.at("user_config", key)
        config_class = code.stages[key].config_class
        try:
            config = config_class.model_validate(user_config.get(key, {}))
        except ValidationError as error:
            if key in user_config:  # else it is a fault of the class, and reported there
                here.add_invalid(error, fix=f"see {config_class.__module__}.{config_class.__name__}")
            continue
        _check_batches(config, line.get("max_ongoing_requests", RAY_MAX_ONGOING), here)
        _check_gpu_share(config, (line.get("ray_actor_options") or {}).get("num_gpus") or 0, here)
        if key in user_config and code.models is not None:
            for name in models_of(config):
                if name not in code.models:
                    here.add(f"no model {name} is registered", "register it in configs/models.yaml or correct it")


def _check_gpu_share(config: StageConfig, gpus: float, report: Report) -> None:
    fraction = getattr(config, "cuda_memory_fraction", gpus)
    if 0 < gpus < 1 and fraction != gpus:
        takes = "all" if fraction is None else f"{fraction:g}"
        what = f"it may take {takes} of the memory of a GPU, of which its deployment has {gpus:g}"
        report.add(what, f"set cuda_memory_fraction to {gpus:g}, the num_gpus of its deployment")


def _check_batches(config: StageConfig, ongoing: Any, report: Report) -> None:
    size = config.max_batch_size
    if isinstance(ongoing, int) and size > ongoing * CALL_ITEMS:
        what = f"a batch of {size} never fills: at most {ongoing} calls of {CALL_ITEMS} items run at once"
        report.add(what, f"set max_ongoing_requests to {-(-size // CALL_ITEMS) * 2} or more")
    if size > LARGEST_BATCH:
        report.add(f"max_batch_size {size} is over {LARGEST_BATCH}", "use more replicas instead")
    if config.batch_wait_s > LONGEST_WAIT_S:
        what = f"batch_wait_s delays a request by {config.batch_wait_s:g} s"
        report.add(what, f"set some milliseconds, at most {LONGEST_WAIT_S:g} s")


def check_wiring(apps: Sequence[App], code: Code, report: Report) -> None:
    """Check that every stage runs in one place, callers address it there, and a worker runs the jobs."""
    places = _places(apps)
    for key, addresses in places.items():
        if len(addresses) > 1:
            fix = "keep one; autoscaling_config makes more replicas of it"
            report.at(key).add(f"runs in {' and in '.join(addresses)}", fix)
    gateways = [app for app in apps if app.import_path == GATEWAY]
    if not gateways:
        report.add("no application is the gateway", f"add one with import_path: {GATEWAY}")
    # What is missing is known only if every application could be read.
    unclear = {app.name for app in apps if app.args is None}
    served: set[str] = set()
    workers = [app for app in apps if app.import_path == WORKER]
    for caller in (*gateways, *workers):
        if caller.args is not None:
            try:
                needed = caller.args.needed()
            except ValueError as error:
                report.at(caller.name, "args", "apis").add(str(error), "correct the name")
                unclear.add(caller.name)
            else:
                served.update(caller.args.apis if caller in gateways else ())
                args = caller.args
                others = [each for each in (*gateways, *workers) if each is not caller]
                _check_addresses(
                    *(args.stages, args.here, needed, places, unclear, code, report.at(caller.name)),
                    asked={key for key in args.here if any(_calls_at(each, key, caller) for each in others)},
                )
                _check_on_demand(caller.args.on_demand, needed, _on_demand_stages(apps), report.at(caller.name))
    if JOBS in served and not workers:
        report.add("jobs are accepted, but no application runs them", f"add one with import_path: {WORKER}")
    if not unclear:
        for key in sorted((code.stages.keys() | code.broken) - places.keys() - _unserved(served)):
            report.at(key).add("runs nowhere", "add it to an application: to its args and its deployments")


def _calls_at(caller: App, key: str, host: App) -> bool:
    """Return whether an application calls a stage in the process of another."""
    named = getattr(caller.args, "stages", {})
    return isinstance(named, dict) and key in named and address_of(key, named) == (host.name, *(host.hosts or ()))


def _places(apps: Sequence[App]) -> Places:
    places = defaultdict(list)
    for app in apps:
        for deployment, keys in (app.hosts or {}).items():
            for key in keys:
                places[key].append(f"{app.name}.{deployment}")
    return dict(places)


def _on_demand_stages(apps: Sequence[App]) -> set[str]:
    """Return the stages whose deployment may have no replica."""
    return {
        key
        for app in apps
        for name, keys in (app.hosts or {}).items()
        if (app.lines.get(name, {}).get("autoscaling_config") or {}).get("min_replicas") == 0
        for key in keys
    }


def _check_on_demand(named: Collection[str], needed: Sequence[str], scaled_to_zero: set[str], report: Report) -> None:
    for key in sorted(scaled_to_zero & set(needed) - set(named)):
        what = f"{key} may have no replica, and every health request would start one"
        report.at("args", "on_demand").add(what, f"add {key}")
    for key in sorted(set(named) - scaled_to_zero):
        report.at("args", "on_demand").add(f"{key} has min_replicas above 0, or does not run here", "remove it")


def _check_addresses(
    named: dict[str, str],
    here: Collection[str],
    needed: Sequence[str],
    places: Places,
    unclear: Collection[str],
    code: Code,
    report: Report,
    *,
    asked: Set[str],
) -> None:
    """Check where an application calls its stages, and that those of its own process are called, if only by others
    (``asked``)."""
    for key in needed:
        if key in here:
            continue
        app, deployment = address_of(key, named)
        address, running = f"{app}.{deployment}", places.get(key, ())
        if key not in code.stages and key not in code.broken:
            report.add(f"it calls {key}, which does not exist", f"add deployments/{key}.py")
        elif running and address not in running and app not in unclear:
            what = f"{key} is addressed at {address}, but runs in {' and in '.join(running)}"
            report.at("args", "stages").add(what, f"write `{key}: {running[0]}`")
    for part, keys in (("stages", named.keys()), ("here", set(here) - asked)):
        for key in sorted(keys - set(needed)):
            report.at("args", part).add(f"nothing in this application calls {key}", "remove the line")


def _unserved(served: set[str]) -> set[str]:
    """Return the stages that are called only by APIs that no gateway of the file serves."""
    if not served:
        return set()
    from graphs.web.api import find_apis

    apis = find_apis()
    used = {key for name in served for key in apis[name].stage_keys}
    return {key for api in apis.values() for key in api.stage_keys} - used


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"{key.value!r} is a duplicate key"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
