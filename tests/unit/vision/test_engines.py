"""Engines agree with torch fp32 or are refused; a converted model is kept, a half-written one is not."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch

from tests.tolerances import FP32_DOT, U_BF16, assert_close
from vision import engines
from vision.engines import EngineName, build_engine, choose_engine
from vision.errors import ModelNotLoaded

# OpenVINO converts by torch.jit.trace, which torch has deprecated.
pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

SIZE = (16, 24)
TOLERANCE = {"torch-fp32": FP32_DOT, "openvino-fp32": FP32_DOT, "torch-bf16": 2 * U_BF16, "openvino-bf16": 2 * U_BF16}
"""Of the largest output; 75 products of bf16, and the result in bf16 again."""
ENGINES = [pytest.param(name, marks=pytest.mark.native if name == "openvino-bf16" else ()) for name in TOLERANCE]


class Tiny(torch.nn.Module):
    """float32[N, 3, 16, 24] → float32[N, 8]."""

    def __init__(self, seed: int = 0, offset: float = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = torch.nn.Conv2d(3, 8, 5, stride=3)
        self.offset = offset

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(images) + self.offset - self.offset).amax((2, 3))


@pytest.fixture
def made() -> list[Tiny]:
    """Modules that an engine asked for."""
    return []


@pytest.fixture
def build(tmp_path: Path, made: list[Tiny], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    # On a machine with a GPU too these tests are about the CPU.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def build(name: EngineName, make: Callable[[], Tiny] = Tiny, weights: str = "tiny@1") -> engines.Engine:
        def make_module() -> Tiny:
            made.append(make())
            return made[-1]

        return build_engine(name, make_module, version=weights, input_size=SIZE, cache=tmp_path)

    return build


def pictures(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).standard_normal((count, 3, *SIZE)).astype(np.float32)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_the_numbers_of_torch(build: Callable[..., Any], name: EngineName) -> None:
    engine = build(name)
    assert (engine.name, engine.device) == (name, "cpu")
    for count in (1, 2, 7, 1):
        batch = pictures(count)
        with torch.inference_mode():
            expected = Tiny().eval()(torch.from_numpy(batch)).numpy()
        got = engine(batch)
        assert (got.shape, got.dtype) == ((count, 8), np.float32)
        assert_close(got, expected, TOLERANCE[name])


@pytest.mark.parametrize("name", ENGINES)
def test_a_result_does_not_depend_on_its_batch(build: Callable[..., Any], name: EngineName) -> None:
    engine, batch = build(name), pictures(9)
    together = engine(batch)
    alone = np.concatenate([engine(batch[n : n + 1]) for n in range(len(batch))])
    assert_close(together, alone, FP32_DOT)
    kept = together.copy()
    engine(pictures(9) + 1)
    np.testing.assert_array_equal(together, kept)  # an answer is the caller's own


def test_bf16_that_differs_too_much_is_refused(build: Callable[..., Any]) -> None:
    with pytest.raises(ModelNotLoaded, match=r"torch-bf16 differs from torch fp32 here \(cosine .*engine: torch-fp32"):
        build("torch-bf16", lambda: Tiny(offset=100))  # bf16 has a step of 0.5 there
    assert build("torch-fp32", lambda: Tiny(offset=100)).name == "torch-fp32"


def test_a_conversion_that_differs_is_refused_every_time(build: Callable[..., Any], made: list[Tiny]) -> None:
    for _ in range(2):
        with pytest.raises(ModelNotLoaded, match="openvino-fp32 differs"):
            build("openvino-fp32", lambda: Tiny(seed=len(made)))
    assert len(made) == 3  # converted once, compared twice


def test_numbers_that_are_none_are_refused(build: Callable[..., Any]) -> None:
    with pytest.raises(ModelNotLoaded, match="nan"):
        build("torch-bf16", lambda: Tiny(offset=float("inf")))


@pytest.mark.native
def test_a_conversion_is_made_once_and_reused(build: Callable[..., Any], made: list[Tiny], tmp_path: Path) -> None:
    expected = build("openvino-fp32")(pictures(3))
    assert len(made) == 2  # one to convert, one to compare with
    np.testing.assert_array_equal(build("openvino-fp32")(pictures(3)), expected)
    assert len(made) == 2
    build("openvino-bf16")
    assert len(made) == 3  # other numbers, so compared
    other = build("openvino-fp32", lambda: Tiny(seed=9), weights="tiny@2")(pictures(3))
    assert np.abs(other - expected).max() > 0.01
    assert len(list(tmp_path.glob("engines/*/model.xml"))) == 2


@pytest.mark.parametrize("leftovers", [["partial.xml"], ["partial.xml", "partial.bin"], ["partial.xml", "model.bin"]])
def test_what_a_killed_conversion_left_is_not_used(
    build: Callable[..., Any], made: list[Tiny], tmp_path: Path, leftovers: list[str]
) -> None:
    folder = tmp_path / "engines" / f"tiny@1-openvino-{version('openvino')}"
    folder.mkdir(parents=True)
    for name in leftovers:
        (folder / name).write_bytes(b"<net half writ")
    with torch.inference_mode():
        expected = Tiny().eval()(torch.from_numpy(pictures(2))).numpy()
    assert_close(build("openvino-fp32")(pictures(2)), expected, FP32_DOT)
    assert len(made) == 2
    assert (folder / "model.xml").exists()


def test_a_conversion_that_breaks_off_is_made_again(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(_: Any, path: Path, **__: Any) -> None:
        for name in (path, path.with_suffix(".bin")):
            name.write_bytes(b"<net half writ")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "save_model", break_off)
        with pytest.raises(OSError, match="No space"):
            build("openvino-fp32")
    assert build("openvino-fp32")(pictures(2)).shape == (2, 8)


def test_two_replicas_that_start_together_convert_once(build: Callable[..., Any], made: list[Tiny]) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(build("openvino-fp32")(pictures(2)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("flags", [{"amx_bf16"}, {"avx2"}])
def test_auto_takes_fp32_where_bf16_differs_too_much(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, flags: set[str]
) -> None:
    monkeypatch.setattr(engines, "cpu_flags", lambda: flags)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(engines, "MIN_COSINE", 1 - 1e-7)  # more than bf16 can keep
    engine = build("auto")
    assert (engine.name, engine.device) == ("openvino-fp32", "cpu")
    with torch.inference_mode():
        assert_close(engine(pictures(3)), Tiny().eval()(torch.from_numpy(pictures(3))).numpy(), FP32_DOT)


def test_a_network_of_one_number_is_compared_by_all_of_them(build: Callable[..., Any]) -> None:
    class Scalar(Tiny):
        """Its numbers are above 0, so any two of them have the same sign."""

        def __init__(self, column: int) -> None:
            super().__init__()
            self.column = column

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, 0, 0, self.column].abs()

    columns = iter((3, 3, 3, 7))
    assert build("openvino-fp32", lambda: Scalar(next(columns)), "scalar@1")(pictures(5)).shape == (5,)
    with pytest.raises(ModelNotLoaded, match="openvino-fp32 differs"):
        build("openvino-fp32", lambda: Scalar(next(columns)), "scalar@2")


def test_pictures_of_bytes_are_converted_by_the_engine() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    with torch.inference_mode():
        expected = Tiny().eval()(torch.from_numpy(images).float()).numpy()
    np.testing.assert_array_equal(engines.TorchEngine(Tiny(), "torch-fp32", "cpu", None)(images), expected)


@pytest.mark.parametrize("environment", [{"CUDA_VISIBLE_DEVICES": ""}, {}], ids=["hidden", "no driver"])
def test_where_no_gpu_can_be_used_torch_is_not_imported(environment: dict[str, str]) -> None:
    script = (
        "import sys, ctypes\n"
        "from vision import engines\n"
        f"if not {environment!r}:\n"
        "    def missing(name): raise OSError(name)\n"
        "    ctypes.CDLL = missing\n"
        "print(engines.has_cuda(), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", script], env=os.environ | environment, stdout=subprocess.PIPE)
    assert answer.stdout.split() == [b"False", b"False"]


def test_a_process_with_torch_asks_it_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=answer: answer)
        assert engines.has_cuda() is answer


@pytest.mark.parametrize(
    ("wanted", "cuda", "flags", "chosen"),
    [
        ("auto", True, {"amx_bf16"}, ("torch-bf16", "cuda")),
        ("auto", False, {"amx_bf16"}, ("openvino-bf16", "cpu")),
        ("auto", False, {"avx512_bf16", "fpu"}, ("openvino-bf16", "cpu")),
        ("auto", False, {"avx2", "avx512f"}, ("openvino-fp32", "cpu")),
        ("auto", False, set(), ("openvino-fp32", "cpu")),
        ("torch-fp32", False, {"amx_bf16"}, ("torch-fp32", "cpu")),
        ("torch-fp32", True, set(), ("torch-fp32", "cuda")),
        ("openvino-fp32", True, set(), ("openvino-fp32", "cpu")),
        ("openvino-bf16", False, set(), ("openvino-bf16", "cpu")),
    ],
)
def test_the_machine_chooses_its_engine(
    monkeypatch: pytest.MonkeyPatch, wanted: EngineName, cuda: bool, flags: set[str], chosen: tuple[str, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(engines, "cpu_flags", lambda: flags)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert choose_engine(wanted) == chosen


class Fixed:
    """An engine that gives the same output whatever it is asked."""

    name = "openvino-fp32"
    device = "cpu"
    streams = 1

    def __init__(self, output: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        self._output = output

    def __call__(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self._output[: len(batch)]


class Rows(torch.nn.Module):
    """float32[N, 3, 16, 24] → the rows float32[N, 30, 4] that it was made with."""

    def __init__(self, rows: np.ndarray[Any, np.dtype[np.float32]], *, in_any_order: bool) -> None:
        super().__init__()
        self.rows_in_any_order = in_any_order
        self.rows = torch.from_numpy(rows)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rows[: len(images)]


def test_rows_that_change_places_are_the_same_where_the_module_says_that_they_are_a_set() -> None:
    rows = np.random.default_rng(4).standard_normal((4, 30, 4)).astype(np.float32)
    swapped, wrong = Fixed(rows[:, ::-1]), Fixed(-rows + 1)
    a_set = engines.TorchEngine(Rows(rows, in_any_order=True), "torch-fp32", "cpu", None)
    a_list = engines.TorchEngine(Rows(rows, in_any_order=False), "torch-fp32", "cpu", None)
    engines._check(swapped, a_set, SIZE)
    for engine, reference in ((swapped, a_list), (wrong, a_set), (wrong, a_list)):
        with pytest.raises(ModelNotLoaded, match="differs from torch fp32"):
            engines._check(engine, reference, SIZE)
