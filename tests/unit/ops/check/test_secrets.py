"""The scan for secrets of ``make check``: it finds what must not be committed, and nothing in what is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stores.keys import new_key
from tests.graphs.harness import ROOT

(LINE,) = re.findall(r"\$\(BIN\)/(kingfisher .*)", (ROOT / "Makefile").read_text())
FOUND = 200


def scan(folder: Path) -> subprocess.CompletedProcess[str]:
    """What the scan says of a folder."""
    program, *words = shlex.split(LINE)
    words = [str(ROOT / word) if word.endswith(".yaml") else str(folder) if word == "." else word for word in words]
    return subprocess.run([Path(sys.executable).with_name(program), *words], capture_output=True, text=True, cwd=ROOT)


def test_nothing_that_is_committed_looks_like_a_secret() -> None:
    ran = scan(ROOT)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", ["a.py", "b.env", "c.yaml"])
def test_a_leaked_secret_is_found_and_not_repeated(tmp_path: Path, name: str) -> None:
    token, _ = new_key("a test", ("read",))
    for secret in (token, f"mongodb://user:{token[-12:]}@db.internal:27017/x"):
        (tmp_path / name).write_text(f"value = '{secret}'\n")
        ran = scan(tmp_path)
        assert ran.returncode == FOUND, name
        assert secret not in ran.stdout
