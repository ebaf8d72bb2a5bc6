"""ops/deploy/Dockerfile and what it installs: linted, pinned, without root, and with nothing that is secret."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from configs.settings import variables
from tests.compose import FOLDER

ROOT = FOLDER.parents[1]
TEXT = (FOLDER / "Dockerfile").read_text()
STAGES = {
    match[2]: (match[1], match[3]) for match in re.finditer(r"(?ms)^FROM (\S+) AS (\S+)$(.*?)(?=^FROM |\Z)", TEXT)
}
"""Name of each stage → what it begins from, and its instructions."""
PINNED = {
    canonicalize_name(name): version
    for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)$", (FOLDER / "requirements.txt").read_text())
}


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), FOLDER / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def instructions(target: str, word: str) -> list[str]:
    """What this instruction says in the stages of a target, from its base to itself."""
    base, own = STAGES[target]
    before = instructions(base, word) if base in STAGES else []
    return before + re.findall(rf"(?ms)^{word} (.*?[^\\])$", own)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_runs_as_nobody_that_exists_elsewhere_and_says_when_it_is_ready(target: str) -> None:
    assert instructions(target, "USER") == ["10001:10001"]
    assert instructions(target, "ENTRYPOINT") == ['["tini", "--", "visiongraph"]']
    assert instructions(target, "VOLUME") == ['["/var/lib/visiongraph", "/weights"]']
    (health,) = instructions(target, "HEALTHCHECK")
    assert "http://127.0.0.1:8000/readyz" in health
    # Compilers and caches stay in the stages that are left behind.
    assert all(copied.startswith("--from=") for copied in instructions(target, "COPY"))


def test_the_last_stage_is_the_one_for_cpus_and_the_other_one_has_the_decoders_of_the_card() -> None:
    assert list(STAGES)[-1] == "cpu"
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in instructions("cuda", "ENV")[-1]
    assert STAGES["packages-cpu"][1].count("--torch-backend cpu") == 1
    assert re.search(r"--torch-backend cu\d+", STAGES["packages-cuda"][1])


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_settings_of_an_image_exist(target: str) -> None:
    given = re.findall(r"\b(VISION_\w+)=", "\n".join(instructions(target, "ENV")))
    assert given
    assert set(given) <= set(variables())


def test_every_version_is_pinned_and_one_that_the_project_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for line in asked:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            version = PINNED.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name}: make ops/deploy/requirements.txt anew, as it says"
            assert requirement.specifier.contains(version, prereleases=True), f"{line}, and {version} is pinned"
    assert re.search(r"ARG PYTHON=\d+\.\d+\.\d+-slim-\w+\n", TEXT)
    assert all(
        re.search(r"==\d", line) for line in re.findall(r"pip install .*", TEXT) if "-r " not in line and "uv" in line
    )


def sent(path: str) -> bool:
    """Whether Docker is sent this file of the repository, by the last line that matches it or a folder above it."""
    there = True
    for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        if line and not line.startswith("#"):
            above = [path, *map(str, Path(path).parents)]
            if any(
                fnmatch(each, pattern) or (pattern.startswith("**/") and fnmatch(each, pattern[3:])) for each in above
            ):
                there = line.startswith("!")
    return there


@pytest.mark.parametrize(
    "path",
    ["ops/deploy/.env", ".env", ".git/config", ".visiongraph/documents.sqlite", "tests/compose.py", "docs/faults.md"],
)
def test_what_no_image_needs_is_not_sent_to_docker(path: str) -> None:
    assert not sent(path)


def test_all_that_is_installed_is_sent_to_docker() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    shipped = [path for path in listed if re.match(r"(configs|vision|stores|deployments|graphs|ops)/", path)]
    needed = [path for path in shipped if not path.startswith(("ops/bench/reports/", "ops/deploy/"))]
    needed += ["serve_config.yaml", "pyproject.toml", "README.md", "ops/deploy/requirements.txt"]
    assert [path for path in needed if not sent(path)] == []
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {path.split("/")[0] for path in shipped} == {name.rstrip("*") for name in packages}
