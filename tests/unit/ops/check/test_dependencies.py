"""What is said of dependencies: licences, ranges, and the answers of pip-audit."""

import tomllib
from email.message import Message
from importlib.metadata import Distribution
from typing import Any

import pytest

from ops.check.dependencies import PYPROJECT, allowed, audited, installed, licence_faults, licence_of, unbounded

RULES: dict[str, Any] = tomllib.loads(PYPROJECT.read_text())["tool"]["visiongraph"]["licences"]


class Package(Distribution):
    """A package of which nothing but its metadata is there."""

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def read_text(self, filename: str) -> str | None:
        message = Message()
        for name, value in self._fields.items():
            message[name.replace("_", "-")] = value
        return message.as_string() if filename == "METADATA" else None

    def locate_file(self, path: object) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "Apache-2.0 OR MIT"}, "Apache-2.0 OR MIT"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, "BSD-3-Clause"),
        ({"License": "MIT License\n\nCopyright (c) somebody"}, "MIT"),
        (
            {"License": "Copyright 2001, us", "Classifier": "License :: OSI Approved :: MIT License"},
            "MIT",
        ),
        ({"License": "UNKNOWN"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_licence_of_a_package(fields: dict[str, str], licence: str) -> None:
    assert licence_of(Package(Name="x", **fields)) == licence


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND (GPL-2.0-only OR Apache-2.0)", True),
        ("MIT AND GPL-2.0-only OR AGPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_what_licences_allow(expression: str, fits: bool) -> None:
    assert allowed(expression, RULES["allowed"]) is fits


def test_faults_name_the_package_and_what_it_has() -> None:
    packages = {
        "good": Package(License="MIT"),
        "copyleft": Package(License_Expression="AGPL-3.0-only"),
        "silent": Package(),
        "excused": Package(),
        "mended": Package(License="MIT"),
        "nvidia-thing": Package(License="NVIDIA Proprietary Software"),
    }
    rules = {**RULES, "exceptions": {"excused": "why", "mended": "why"}}
    faults = licence_faults(packages, rules)
    assert [fault.split()[0] for fault in faults] == ["copyleft", "mended", "silent"]
    assert "AGPL-3.0-only" in faults[0]


def test_a_range_has_two_ends() -> None:
    given = ["a", "b>=1", "c<2", "d>=1,<2", "e~=1.4", "f==1", "g>1,<=2; python_version > '3'", "h[x]>=1,!=1.5"]
    assert unbounded(given) == ["a", "b>=1", "c<2", "h[x]>=1,!=1.5"]


def test_a_default_install_brings_what_its_packages_need() -> None:
    packages = installed(["fastapi>=0.1", "pyjwt[crypto]", "colorama; sys_platform == 'win32'", "no-such-package"])
    assert {"fastapi", "starlette", "pydantic-core", "pyjwt", "cryptography"} <= set(packages)
    assert not {"colorama", "no-such-package", "pytest"} & set(packages)


def test_packages_that_the_database_does_not_know_are_not_said_to_be_clean() -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.5"], "aliases": []}
    answers = [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2.4", "vulns": [flaw, {**flaw, "id": "PYSEC-2", "fix_versions": []}]},
        {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1)"},
    ]
    assert audited(answers) == (["b 2.4: PYSEC-1, mended in 2.5", "b 2.4: PYSEC-2, mended in none yet"], 2)
    assert audited(answers[2:]) == ([], 0)
