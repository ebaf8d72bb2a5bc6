"""Checks of what joins the applications of a file: where stages run and where they are looked for."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from deployments.serving.catalog import address_of
from ops.check.code import Code
from ops.check.fault import Report
from ops.check.serving import GATEWAY, App
from ops.cluster import WORKER

JOBS = "jobs"
"""The API whose requests need a worker."""
Places = Mapping[str, Sequence[str]]
"""Stage key → every ``application.deployment`` it runs in."""


def check_wiring(apps: Sequence[App], code: Code, report: Report) -> None:
    """Every stage in one place, every gateway and worker looks for it there, and somebody runs the jobs."""
    places = _places(apps)
    for key, addresses in places.items():
        if len(addresses) > 1:
            fix = "keep one; autoscaling_config makes more replicas of it"
            report.at(key).add(f"runs in {' and in '.join(addresses)}", fix)
    gateways = [app for app in apps if app.import_path == GATEWAY]
    if not gateways:
        report.add("no application is the gateway", f"add one with import_path: {GATEWAY}")
    # What is missing can be said only once every application is understood.
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
                _check_addresses(caller.args.stages, needed, places, unclear, code, report.at(caller.name))
                _check_on_demand(caller.args.on_demand, needed, _asleep(apps), report.at(caller.name))
    if JOBS in served and not workers:
        report.add("jobs are taken, and no application runs them", f"add one with import_path: {WORKER}")
    if not unclear:
        for key in sorted((code.stages.keys() | code.broken) - places.keys() - _unserved(served)):
            report.at(key).add("runs nowhere", "add it to an application: to its args and its deployments")


def _places(apps: Sequence[App]) -> Places:
    places = defaultdict(list)
    for app in apps:
        for deployment, keys in (app.hosts or {}).items():
            for key in keys:
                places[key].append(f"{app.name}.{deployment}")
    return dict(places)


def _asleep(apps: Sequence[App]) -> set[str]:
    """Stages whose deployment may have no replica."""
    return {
        key
        for app in apps
        for name, keys in (app.hosts or {}).items()
        if (app.lines.get(name, {}).get("autoscaling_config") or {}).get("min_replicas") == 0
        for key in keys
    }


def _check_on_demand(named: Collection[str], needed: Sequence[str], asleep: set[str], report: Report) -> None:
    for key in sorted(asleep & set(needed) - set(named)):
        what = f"{key} may have no replica, and every health answer would start one"
        report.at("args", "on_demand").add(what, f"add {key}")
    for key in sorted(set(named) - asleep):
        report.at("args", "on_demand").add(f"{key} has min_replicas above 0, or is not here", "remove it")


def _check_addresses(
    named: dict[str, str],
    needed: Sequence[str],
    places: Places,
    unclear: Collection[str],
    code: Code,
    report: Report,
) -> None:
    for key in needed:
        app, deployment = address_of(key, named)
        address, found = f"{app}.{deployment}", places.get(key, ())
        if key not in code.stages and key not in code.broken:
            report.add(f"it calls {key}, which does not exist", f"add deployments/{key}.py")
        elif found and address not in found and app not in unclear:
            what = f"{key} is looked for at {address}; it runs in {' and in '.join(found)}"
            report.at("args", "stages").add(what, f"write `{key}: {found[0]}`")
    for key in sorted(named.keys() - set(needed)):
        report.at("args", "stages").add(f"nothing in this application calls {key}", "remove the line")


def _unserved(served: set[str]) -> set[str]:
    """Stages that only APIs need which no gateway of the file serves."""
    if not served:
        return set()
    from graphs.web.api import find_apis

    apis = find_apis()
    used = {key for name in served for key in apis[name].stage_keys}
    return {key for api in apis.values() for key in api.stage_keys} - used
