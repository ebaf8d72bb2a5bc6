"""What a check finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Fault:
    """``where`` is a file or the environment, ``place`` a spot in it, ``fix`` what to do about ``what``."""

    where: str
    place: str
    what: str
    fix: str


def from_pydantic(
    error: ValidationError, where: str, place: Sequence[str] = (), data: Any = None, fix: str = ""
) -> list[Fault]:
    """One fault per error. ``data`` is what was validated: its list items are called by their names."""
    faults = []
    for entry in error.errors(include_url=False, include_input=False):
        message = entry["msg"].removeprefix("Value error, ")
        advice = fix or "correct the value"
        if entry["type"] == "extra_forbidden":
            message, advice = "unknown key", "correct its spelling or remove it; it would have no effect"
        elif entry["type"] == "missing":
            message, advice = "missing", "add it"
        faults.append(Fault(where, join(*place, *_names(entry["loc"], data)), message, advice))
    return faults


def join(*parts: str) -> str:
    """A place in a file, outermost part first."""
    return " › ".join(parts)


def _names(loc: Sequence[int | str], data: Any) -> list[str]:
    names: list[str] = []
    for step in loc:
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            data = None
        named = isinstance(step, int) and isinstance(data, Mapping) and "name" in data
        names.append(str(data["name"]) if named else str(step))
    return [name for name in names if name not in ("applications", "deployments")]
