"""Quotas of keys: how much one may hold or use, as text such as ``bytes=50GB,jobs=4``."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

Resource = Literal["bytes", "files", "jobs", "videos"]
"""Of uploads stored; uploads stored; heavy work at once; videos judged in a day of UTC."""
RESOURCES: Final[tuple[Resource, ...]] = get_args(Resource)
Quota = Mapping[Resource, int | None]
"""Limits by resource; None is no limit, and a resource that is not there has the limit of its rate class."""
UNLIMITED: Final = "none"
UNITS: Final = {"": 1, "B": 1}
UNITS.update({f"{prefix}B": 1000**power for power, prefix in enumerate("kMGT", 1)})
UNITS.update({f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)})
MOST: Final = 2**53
"""Every number of JSON below it is exact."""
_AMOUNT: Final = re.compile(r"([0-9]{1,16})(?: ?([A-Za-z]{1,3}))?", re.ASCII)


def parse_quota(texts: str | Iterable[str]) -> Quota:
    """Read ``bytes=50GB,jobs=4``, or several such texts; ``none`` is no limit. Raises ValueError."""
    given = [texts] if isinstance(texts, str) else texts
    quota: dict[Resource, int | None] = {}
    for item in (part.strip() for text in given for part in text.split(",")):
        if not item:
            continue
        name, separator, amount = (part.strip() for part in item.partition("="))
        resource = next((each for each in RESOURCES if each == name), None)
        if resource is None or not separator:
            raise ValueError(f"{item[:40]!r} is no quota; write {', '.join(f'{each}=…' for each in RESOURCES)}")
        if resource in quota:
            raise ValueError(f"the quota of {resource} is given twice")
        quota[resource] = None if amount == UNLIMITED else _amount(resource, amount)
    return quota


def quota_text(quota: Quota) -> str:
    """Return the text of a quota, which ``parse_quota`` reads."""
    items = ((each, quota[each]) for each in RESOURCES if each in quota)
    return ",".join(f"{name}={UNLIMITED if limit is None else limit}" for name, limit in items)


def _amount(resource: Resource, text: str) -> int:
    match = _AMOUNT.fullmatch(text)
    unit = (match[2] or "") if match else ""
    if match is None or (unit and resource != "bytes") or unit not in UNITS:
        example = "50GB, 512MiB" if resource == "bytes" else "a whole number"
        raise ValueError(f"{resource}={text[:40]} is no quota; give {example}, or {UNLIMITED}")
    amount = int(match[1]) * UNITS[unit]
    if amount > MOST:
        raise ValueError(f"{resource}={text[:40]} is more than can be counted; {UNLIMITED} is no limit")
    return amount


def limits_of(own: Quota, of_class: Quota) -> Mapping[Resource, int]:
    """Return the limits of a key: its own, and those of its rate class where it has none; others are not limited."""
    return {name: limit for name, limit in {**of_class, **own}.items() if limit is not None}
