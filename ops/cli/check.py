"""visiongraph check: find faults before anything is deployed, and repair the stores after a crash."""

import asyncio
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from configs.settings import settings
from ops.check import CONFIGS, Fault, check_all
from ops.check.ports import Listener, reachable
from ops.plan.choice import first_misfit, read_needs, shown, there
from ops.plan.machines import this_machine
from stores.mentions import TRAIL, mentions
from stores.open import Stores
from stores.repair import Repaired, repair


def check(
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Serve configuration to check; default: those of this repository."),
    ] = None,
    repair_stores: Annotated[
        bool, typer.Option("--repair", help="Also finish deletes and uploads that a crash interrupted.")
    ] = False,
    min_age: Annotated[
        float,
        typer.Option(min=0, help="Age in minutes from which bytes without a record belong to no running upload."),
    ] = 60.0,
    gone: Annotated[
        list[str] | None,
        typer.Option(help="Prove instead that no store has anything of this id, which was deleted; several times."),
    ] = None,
) -> None:
    """List every fault of settings, stages, models and Serve configurations. Exit code 1: there is one."""
    console, paths = Console(), config or list(CONFIGS)
    if gone:
        raise typer.Exit(0 if asyncio.run(_search(console, gone)) else 1)
    with console.status("checking …"):
        code, faults = check_all(paths)
    healthy = _show(console, faults)
    if healthy:
        console.print(
            f"{_count(len(code.stages), 'stage')}, {_count(len(paths), 'configuration')}, "
            f"{_count(len(code.models or ()), 'model')}: no faults"
        )
        _show_fit(console, config or [])
    _show_ports(console, reachable())
    if repair_stores:
        healthy &= asyncio.run(_repair(console, timedelta(minutes=min_age)))
    raise typer.Exit(0 if healthy else 1)


def _show_fit(console: Console, paths: list[Path]) -> None:
    """Say of configurations that were asked for whether they fit this machine, which is no fault of theirs."""
    for path in paths:
        here = [this_machine()]
        misfit = first_misfit(read_needs(path, here), here)
        fits = f"fits this machine: {there(here)}" if misfit is None else f"is for another machine: {misfit}"
        console.print(f"{shown(path)} {fits}", style="dim" if misfit is None else "yellow", soft_wrap=True)


def _show_ports(console: Console, listeners: list[Listener]) -> None:
    """List what other machines reach of a service that runs here, and warn of what they should not."""
    if not listeners:
        return
    console.print(Text("Other machines reach, where no firewall is between:", "bold"))
    for each in listeners:
        address = f"[{each.address}]" if ":" in each.address else each.address
        line = f"{address}:{each.port}/{each.protocol} {each.process} (pid {each.pid}): {each.what}"
        console.print(Padding(Text(line, "" if each.is_api else "yellow"), (0, 0, 0, 2)))
    if any(not each.is_api for each in listeners):
        fix = "on one machine `visiongraph serve` keeps these on loopback; on a cluster let only its nodes reach them"
        console.print(Padding(Text(f"→ {fix}", "dim"), (0, 0, 0, 4)))


def _show(console: Console, faults: list[Fault]) -> bool:
    by_file = attrgetter("where")
    for where, in_file in groupby(sorted(faults, key=by_file), by_file):
        console.print(Text(where, "bold"))
        for fault in in_file:
            line = Text.assemble((f"{fault.place}: " if fault.place else "", "cyan"), (fault.what, "red"))
            console.print(Padding(line, (0, 0, 0, 2)))
            console.print(Padding(Text(f"→ {fault.fix}", "dim"), (0, 0, 0, 4)))
    if faults:
        console.print(Text(_count(len(faults), "fault"), "bold red"))
    return not faults


async def _search(console: Console, ids: list[str]) -> bool:
    """Say what any store still has of these ids; return whether that is nothing."""
    stores, clean = Stores.open(settings()), True
    try:
        for each in ids:
            with console.status(f"searching all stores for {each} …"):
                found = dict(await mentions(stores, each))
            told = found.pop(f"documents: {TRAIL}", 0)
            clean &= not found
            for place, count in found.items():
                console.print(Text(f"{each}: {count} in {place}", "red"), soft_wrap=True)
            if not found:
                trail = f"; the audit trail names it {_count(told, 'time')}" if told else ""
                console.print(f"{each}: nothing is left in any store{trail}", soft_wrap=True)
    finally:
        await stores.close()
    return clean


async def _repair(console: Console, min_age: timedelta) -> bool:
    stores = Stores.open(settings())
    try:
        with console.status("comparing the stores …"):
            done = await repair(stores, min_age)
    finally:
        await stores.close()
    return _show_repaired(console, done)


def _show_repaired(console: Console, done: Repaired) -> bool:
    for asset_id in done.finished:
        console.print(f"finished deleting asset {asset_id}", soft_wrap=True)
    for asset_id in done.orphans:
        console.print(f"removed the remains of asset {asset_id}, which does not exist", soft_wrap=True)
    for key in done.removed:
        console.print(f"removed object {key}, whose asset does not exist", soft_wrap=True)
    for asset in done.without_bytes:
        line = f"the bytes of asset {asset.asset_id} are lost; upload {asset.filename} again to restore them"
        console.print(Text(line, "red"), soft_wrap=True)
    counts = [
        f"{_count(len(done.finished), 'delete')} finished",
        f"{_count(len(done.orphans), 'unknown asset')} cleaned up",
        f"{_count(len(done.removed), 'object')} and {_count(len(done.vectors), 'vector')} of unknown assets removed",
        f"{_count(done.young, 'object')} kept, as their upload may still run",
        f"{_count(len(done.without_bytes), 'asset')} without bytes",
    ]
    console.print(", ".join(counts), soft_wrap=True)
    return not done.without_bytes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
