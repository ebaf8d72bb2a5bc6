"""ops/deploy/visiongraph.service: verified by systemd itself where that is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from configs.settings import variables
from tests.compose import FOLDER

UNIT = FOLDER / "visiongraph.service"
TEXT = UNIT.read_text()
MOST_EXPOSED = 20
"""In tenths of its ten points: what it says of a unit that may talk to the network, and do little else."""


def values(name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", TEXT)


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no program systemd-analyze; systemd has it")
    return program


def test_systemd_finds_no_fault(analyze: str, tmp_path: Path) -> None:
    program = tmp_path / "visiongraph"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    page = tmp_path / "deployment.md"
    page.touch()
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace("/opt/visiongraph/.venv/bin/visiongraph", str(program)))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_exposed_to_little(analyze: str) -> None:
    command = [analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:]


def test_the_unit_is_closed_and_bounded() -> None:
    assert values("User") == ["visiongraph"]
    assert values("NoNewPrivileges") == ["yes"]
    assert values("ProtectSystem") == ["strict"]
    assert values("MemoryMax") == ["90%"]
    assert values("Restart") == ["always"]
    # A replica that is out of memory must not take the others along.
    assert values("OOMPolicy") == ["continue"]
    # `serve` tells nobody that it lives.
    assert values("WatchdogSec") == []
    assert values("Type") == ["exec"]


def test_the_unit_serves_loopback_with_settings_that_there_are() -> None:
    (command,) = values("ExecStart")
    assert command.endswith("visiongraph serve --host 127.0.0.1 --port 8000")
    given = dict(line.split("=", 1) for line in values("Environment"))
    assert {name for name in given if name.startswith("VISION_")} <= set(variables())
    # Where nothing else may be written.
    assert given["VISION_HOME"] == f"/var/lib/{values('StateDirectory')[0]}" == given["HOME"]
    assert given["VISION_MODELS_CACHE"] == f"/var/cache/{values('CacheDirectory')[0]}"
