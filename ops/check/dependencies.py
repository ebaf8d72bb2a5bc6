"""The packages that a default install brings: known flaws, licences that a product may be built on, ranges.

``python -m ops.check.dependencies``. Known flaws are looked up by pip-audit, where its database can be reached.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from license_expression import LicenseSymbol, LicenseWithExceptionSymbol, get_spdx_licensing
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"
SPDX: Final = get_spdx_licensing()
FIELDS: Final = ("License-Expression", "License")
CLASSIFIER: Final = "License :: OSI Approved :: "
NAMES: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "GPLv2": "GPL-2.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""SPDX identifiers of what packages called their licence before there were expressions (PEP 639)."""
AUDIT_S: Final = 300


def unbounded(requirements: Iterable[str]) -> list[str]:
    """Return those requirements that take any version from some one on, or up to some one."""
    return [text for text in requirements if not _is_bounded({each.operator for each in Requirement(text).specifier})]


def _is_bounded(operators: set[str]) -> bool:
    return bool(operators & {"~=", "=="} or (operators & {">=", ">"} and operators & {"<", "<="}))


def installed(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Return the packages that these requirements bring, by name; what is not installed is not needed here."""
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    wanted = [(Requirement(text), "") for text in requirements]
    while wanted:
        requirement, extra = wanted.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = package
        for each in {"", *requirement.extras}:
            if (known := f"{name}[{each}]") not in seen:
                seen.add(known)
                wanted += [(Requirement(text), each) for text in package.requires or ()]
    return found


def licence_of(package: Distribution) -> str:
    """Return the SPDX expression of a package's licence, "unknown" where its metadata has none."""
    metadata = package.metadata
    classifiers = [text for text in metadata.get_all("Classifier") or [] if text.startswith(CLASSIFIER)]
    given = [metadata[field].strip().partition("\n")[0] for field in FIELDS if field in metadata][:1]
    for names in (given, [text.removeprefix(CLASSIFIER) for text in classifiers]):
        expression = " AND ".join(NAMES.get(name, name) for name in names if name)
        with suppress(InvalidLicenseExpression):
            return str(canonicalize_license_expression(expression))
    return "unknown"


def allowed(expression: str, licences: Iterable[str]) -> bool:
    """Return whether an SPDX expression needs no other licence than these: one of each ``OR``, all of each ``AND``."""
    accepted = set(licences)

    def holds(part: Any) -> bool:
        if isinstance(part, LicenseSymbol):
            return part.key in accepted
        if isinstance(part, LicenseWithExceptionSymbol):
            return part.render() in accepted
        return (all if isinstance(part, SPDX.AND) else any)(holds(each) for each in part.args)

    return holds(SPDX.parse(expression))


def licence_faults(packages: Mapping[str, Distribution], rules: Mapping[str, Any]) -> list[str]:
    """Return the packages whose licence is not allowed, and exceptions that no package needs."""
    exceptions, faults = rules["exceptions"], []
    for name, package in sorted(packages.items()):
        licence = licence_of(package)
        fits = licence != "unknown" and allowed(licence, rules["allowed"])
        if not fits and name not in exceptions and not name.startswith(tuple(rules["prefixes"])):
            faults.append(f"{name} has the licence {licence}: see whether a product may bring it")
        elif fits and name in exceptions:
            faults.append(f"{name} needs no exception any more: its licence is {licence}")
    return faults


def known_flaws(packages: Mapping[str, Distribution]) -> tuple[list[str], int]:
    """Return the flaws of these packages that are known to pip-audit's database, and how many packages that knows."""
    with TemporaryDirectory() as folder:
        pins = Path(folder) / "requirements.txt"
        pins.write_text("".join(f"{name}=={package.version.partition('+')[0]}\n" for name, package in packages.items()))
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        ran = subprocess.run(  # noqa: S603 - no input of anybody
            [*command, "--format", "json", "--requirement", str(pins)], capture_output=True, text=True, timeout=AUDIT_S
        )
    return audited(json.loads(ran.stdout)["dependencies"] if ran.stdout.strip() else [])


def audited(answers: Iterable[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Return the flaws in pip-audit's answers, and of how many packages it says anything."""
    looked_up = [each for each in answers if "skip_reason" not in each]
    flaws = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none yet'}"
        for each in looked_up
        for flaw in each["vulns"]
    ]
    return flaws, len(looked_up)


def main() -> None:
    """Print what is wrong, and exit with 1 if anything is."""
    project = tomllib.loads(PYPROJECT.read_text())
    requirements = project["project"]["dependencies"]
    packages = installed(requirements)
    every = [*requirements, *(text for texts in project["project"]["optional-dependencies"].values() for text in texts)]
    faults = [f"{text}: give it a range" for text in unbounded(every)]
    faults += licence_faults(packages, project["tool"]["visiongraph"]["licences"])
    flaws, looked_up = known_flaws(packages)
    for fault in faults + flaws:
        print(fault, file=sys.stderr)
    said = f"looked up for {looked_up} of them" if looked_up else "not looked up, as the database cannot be reached"
    print(f"{len(packages)} packages: licences and ranges looked at, known flaws {said}")
    sys.exit(bool(faults + flaws))


if __name__ == "__main__":
    main()
