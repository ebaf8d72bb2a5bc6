"""Faults that a check reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: ``where`` is a file or the environment, ``place`` a place in it, ``fix`` what to do about ``what``."""

    where: str
    place: str
    what: str
    fix: str


@dataclass
class Report:
    """Collects the faults of one file, or of a place in it; ``place`` goes from the outside inwards."""

    where: str
    faults: list[Fault] = field(default_factory=list)
    place: tuple[str, ...] = ()

    def at(self, *place: str) -> "Report":
        """Return the same report for a place further in."""
        return Report(self.where, self.faults, (*self.place, *place))

    def add(self, what: str, fix: str) -> None:
        """Add a fault of this place."""
        self.faults.append(Fault(self.where, " › ".join(self.place), what, fix))

    def add_invalid(self, error: ValidationError, data: Any = None, fix: str = "correct the value") -> None:
        """Add a fault for every error; list items of the validated ``data`` are named by their names."""
        for entry in error.errors(include_url=False, include_input=False):
            here = self.at(*_names(entry["loc"], data))
            if entry["type"] == "extra_forbidden":
                here.add("unknown key", "correct its spelling or remove it; it has no effect")
            else:
                here.add(entry["msg"].removeprefix("Value error, "), fix)


def _names(loc: Sequence[int | str], data: Any) -> list[str]:
    names: list[str] = []
    for step in loc:
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            data = None
        if isinstance(step, int) and isinstance(data, Mapping) and "name" in data:
            names[-1:] = [str(data["name"])]  # in place of the word "applications" or "deployments"
        else:
            names.append(str(step))
    return names
