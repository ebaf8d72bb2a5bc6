"""Checks of the applications of one Serve configuration, against Ray's schema and the stages.

Ray accepts keys it does not know, checks autoscaling numbers only when it uses them, and has a bad
user_config fail when its replica starts; here all of that is a fault.
"""

import importlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.serving.catalog import RoomArgs
from ops.check.code import Code
from ops.check.fault import Report
from ops.check.process import check_limits, check_stages, check_worker
from ops.cluster import WORKER

ROOM = "deployments.serving.catalog:room"
GATEWAY = "graphs.web.gateway:gateway"


@dataclass
class App:
    """An application as far as it can be understood."""

    name: str
    import_path: str = ""
    args: Any = None
    """RoomArgs, GatewayArgs or WorkerArgs; None where they are invalid or the builder is not one of this project."""
    hosts: dict[str, list[str]] | None = None
    """Deployment name → stages that run in it; None where that is not known."""
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Deployment name → its entry under ``deployments``, over the default options."""


def read(path: Path, report: Report) -> dict[str, Any] | None:
    """The file, checked against Ray's schema; None when nothing of it can be understood."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        report.add(f"cannot be read: {error.strerror}", "give the path of a Serve configuration")
        return None
    except yaml.YAMLError as error:
        report.add(f"no YAML: {' '.join(str(error).split())}", "correct the line")
        return None
    if not isinstance(data, dict):
        report.add("is no mapping", "begin with `applications:`, as serve_config.yaml does")
        return None
    try:
        ServeDeploySchema.model_validate(data, extra="forbid")
    except ValidationError as error:
        report.add_invalid(error, data=data)
    return data


def check_application(raw: Mapping[str, Any], code: Code, report: Report) -> App:
    """One entry of ``applications``."""
    app = App(str(raw.get("name", "default")), str(raw.get("import_path")))
    report = report.at(app.name)
    _check_builder(raw, app, report)
    options = app.args.options() if isinstance(app.args, RoomArgs) else {}
    for line in dicts(raw.get("deployments")):
        name = str(line.get("name"))
        app.lines[name] = options.get(name, {}) | line
    check = check_worker if app.import_path == WORKER else check_limits
    for name, line in app.lines.items():
        check(line, report.at(name))
    if app.hosts is not None:
        _check_hosts(app.hosts, app.lines, code, report)
    return app


def dicts(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list, whatever was given; the schema reports the rest."""
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
            app.hosts = {path.rpartition(":")[2]: []}
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
        report.at(name).add("has no lines under deployments", "add them, with its limits and its share")
    for name in sorted(lines.keys() - hosts.keys()):
        report.at(name).add("is no deployment of this application", "name it in args, or remove it")
    for name, keys in hosts.items():
        for key in keys:
            if key not in code.stages and key not in code.broken:
                report.at(name).add(f"there is no stage {key}", f"add deployments/{key}.py or correct args")
        if name in lines:
            check_stages(lines[name], keys, code, report.at(name))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"{key.value!r} is written twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
