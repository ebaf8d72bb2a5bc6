"""Networks are converted in processes of their own, one at a time, and one that ends costs nothing but itself."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tolerances import FP32_DOT, assert_close
from vision import conversion
from vision.engines import build_engine
from vision.errors import ModelNotLoaded

SIZE = (16, 24)
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Tiny(torch.nn.Module):
    """float32[N, 3, 16, 24] → float32[N, 8]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = torch.nn.Conv2d(3, 8, 5, stride=3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(images)).amax((2, 3))


def make(notes: Path, seed: int) -> Tiny:
    """Make a network, and note when and in which process."""
    with notes.open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    return Tiny(seed)


def failing(notes: Path) -> Tiny:
    """End the process, and the next time raise."""
    if not notes.exists():
        notes.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    raise ModelNotLoaded("the checkpoint does not fit")


def build(make_module: Any, version: str, cache: Path) -> Any:
    return build_engine("openvino-fp32", make_module, version=version, input_size=SIZE, cache=cache)


def test_each_is_converted_in_a_process_of_its_own_and_no_two_at_once(tmp_path: Path) -> None:
    notes = [tmp_path / name for name in ("one", "two")]
    engines: dict[int, Any] = {}

    def run(number: int) -> None:
        engines[number] = build(partial(make, notes[number], number), f"tiny@{number}", tmp_path / "cache")

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    images = np.random.default_rng(0).standard_normal((3, 3, *SIZE)).astype(np.float32)
    spans, processes = [], set[str]()
    for number in (0, 1):
        with torch.inference_mode():
            expected = Tiny(number).eval()(torch.from_numpy(images)).numpy()
        assert_close(engines[number](images), expected, FP32_DOT)
        lines = [line.split() for line in notes[number].read_text().splitlines()]
        assert len(lines) == 2  # one to convert, one to compare with
        assert len({pid for pid, _ in lines}) == 1
        processes.add(lines[0][0])
        spans.append((float(lines[0][1]), float(lines[1][1])))
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    first, second = sorted(spans)
    assert first[1] < second[0]

    assert build(partial(make, notes[0], 0), "tiny@0", tmp_path / "cache")(images).shape == (3, 8)
    assert len(notes[0].read_text().splitlines()) == 2  # the engine was there


def test_one_that_ends_its_process_says_so_and_errors_come_back(tmp_path: Path) -> None:
    make_module = partial(failing, tmp_path / "notes")
    with pytest.raises(ModelNotLoaded, match=r"^Converting tiny@3-openvino-\S+ for OpenVINO ended its process"):
        build(make_module, "tiny@3", tmp_path)
    with pytest.raises(ModelNotLoaded, match=r"^the checkpoint does not fit$"):
        build(make_module, "tiny@3", tmp_path)


def test_what_cannot_be_sent_is_converted_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "Child", None)
    seen: list[Tiny] = []

    def make_module() -> Tiny:
        seen.append(Tiny(5))
        return seen[-1]

    assert build(make_module, "tiny@5", tmp_path)(np.zeros((2, 3, *SIZE), np.float32)).shape == (2, 8)
    assert len(seen) == 2
