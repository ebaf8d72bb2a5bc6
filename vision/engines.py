"""Inference engines: torch or OpenVINO, in fp32 or bf16, chosen by configuration and by the processor.

An engine takes float32[N, 3, H, W], or float32[N, samples], and returns float32[N, d]. It is compared with torch fp32
when it is built: the cosine of every output must reach ``MIN_COSINE``, or the engine is refused.
"""

import ctypes
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vision.conversion import apart
from vision.errors import ModelNotLoaded

if TYPE_CHECKING:
    import openvino
    import torch

logger = logging.getLogger("ray.serve")

EngineName = Literal["auto", "torch-fp32", "torch-bf16", "openvino-bf16", "openvino-fp32"]
Array = NDArray[np.float32]
Batch = Array | NDArray[np.uint8]
MakeModule = Callable[[], "torch.nn.Module"]


class BuildEngine(Protocol):
    """``build_engine`` as a stage configures it."""

    def __call__(
        self,
        make_module: MakeModule,
        *,
        version: str,
        input_size: tuple[int, ...],
        engine: EngineName | None = None,
    ) -> "Engine":
        """Return the engine of the configuration, or the one that a network always has."""
        ...


MIN_COSINE = 0.999
MIN_COSINE_OF_SETS = 0.97
"""Of modules whose rows are chosen by score: a choice that rounding decides changes what the rows attend to. Random
weights, which rate all rows alike, give 0.985; a network that is computed wrongly is far below."""
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
NO_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Values of ONEDNN_MAX_CPU_ISA, oneDNN's variable, under which OpenVINO has no kernels for bf16."""
INT8_FLAGS = {"amx_int8", "avx512_vnni", "avx_vnni"}
NO_INT8 = {"SSE41", "AVX", "AVX2", "AVX512_CORE"}
"""Values of ONEDNN_MAX_CPU_ISA under which int8 is no faster than fp32."""
PART = 4
"""Images per inference of an OpenVINO stream; more make it no faster."""


class Engine(Protocol):
    """A loaded network; ``name`` and ``device`` are those of model-info.

    ``streams`` threads may call it at the same time, and should, to use the whole device.
    """

    name: str
    device: str
    streams: int

    def __call__(self, batch: Array) -> Array:
        """Return float32[N, d] for float32[N, 3, H, W]."""
        ...


def cpu_flags() -> set[str]:
    """Return the names of this processor's instruction sets; empty when the kernel does not list them."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def has_bf16() -> bool:
    """Return whether OpenVINO computes in bf16 on this processor, within what ONEDNN_MAX_CPU_ISA allows."""
    return bool(BF16_FLAGS & cpu_flags()) and os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in NO_BF16


def has_int8() -> bool:
    """Return whether OpenVINO computes faster in int8 on this processor, within what ONEDNN_MAX_CPU_ISA allows."""
    return bool(INT8_FLAGS & cpu_flags()) and os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in NO_INT8


def has_cuda() -> bool:
    """Return whether this process has a GPU that torch can use.

    Where NVIDIA's driver is missing or hidden torch is not imported: processes without a GPU do without its 150 MB.
    """
    if "torch" not in sys.modules:
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # so Ray hides the GPUs from who asked for none
            return False
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            return False
    import torch

    return torch.cuda.is_available()


def choose_engine(wanted: EngineName) -> tuple[EngineName, str]:
    """Return (engine, device) for this machine: bf16 on CUDA, OpenVINO on the CPU, in bf16 where the processor has
    it."""
    device = "cuda" if has_cuda() else "cpu"
    if wanted != "auto":
        if wanted.startswith("openvino") and device == "cuda":
            return wanted, "cpu"
        return wanted, device
    if device == "cuda":
        return "torch-bf16", device
    return ("openvino-bf16" if has_bf16() else "openvino-fp32"), device


def exact_engine() -> EngineName:
    """Return the fastest engine in fp32: torch on a GPU that the process has, else OpenVINO."""
    return "torch-fp32" if has_cuda() else "openvino-fp32"


def build_engine(
    wanted: EngineName,
    make_module: MakeModule,
    *,
    version: str,
    input_size: tuple[int, ...],
    cache: Path,
    cuda_memory_fraction: float | None = None,
) -> Engine:
    """Build and check the engine for a module.

    ``version`` names the weights and is the key of the compiled model in ``cache``; ``input_size`` is (height, width)
    of RGB images in pixels, (samples,) of sounds, or the shape of one item. Raises ModelNotLoaded when the outputs
    differ from torch fp32; "auto" then takes fp32 instead of bf16.
    """
    name, _ = choose_engine(wanted)
    arguments = (make_module, version, input_size, cache, cuda_memory_fraction)
    if wanted == "auto" and name.endswith("bf16"):
        try:
            return _built(name, *arguments)
        except ModelNotLoaded as error:
            logger.warning("%s: %s It runs in fp32.", version, error.message)
            name = "torch-fp32" if name.startswith("torch") else "openvino-fp32"
    return _built(name, *arguments)


def _built(
    name: EngineName,
    make_module: MakeModule,
    version: str,
    input_size: tuple[int, ...],
    cache: Path,
    cuda_memory_fraction: float | None,
) -> "Engine":
    if name.startswith("openvino"):
        return _openvino(name, make_module, version, input_size, cache)
    return build_torch_engine(name, make_module, input_size, cuda_memory_fraction)


def build_torch_engine(
    name: EngineName, make_module: MakeModule, input_size: tuple[int, ...], cuda_memory_fraction: float | None
) -> "TorchEngine":
    """Build and check the engine of torch for a module, on the GPU of the process if it has one.

    Raises ModelNotLoaded when bf16 differs from fp32, or fp32 on the GPU from that on the CPU.
    """
    device = "cuda" if has_cuda() else "cpu"
    engine = TorchEngine(make_module(), name, device, cuda_memory_fraction)
    if name != "torch-fp32":
        _check(engine, TorchEngine(make_module(), "torch-fp32", device, None), input_size)
    elif device != "cpu":
        # On one thread of a CPU large networks take seconds for an item.
        _check(engine, TorchEngine(make_module(), "torch-fp32", "cpu", None), input_size, items=2)
    return engine


def limit_cuda_memory(fraction: float | None) -> None:
    """Let this process take no more than a share of the GPU's memory; None for all of it."""
    import torch

    if fraction is not None:
        # num_gpus is only Ray's bookkeeping; this limits each of several replicas on one GPU.
        torch.cuda.set_per_process_memory_fraction(fraction)


class TorchEngine:
    """A module in torch, on CPU or CUDA; fp32 is that of IEEE there, not TF32 with 10 bits of mantissa.

    On CUDA two threads may call it: while one batch is computed, the next is prepared and sent. Their computations
    are started one after the other, so the second takes no memory of its own.
    """

    def __init__(
        self, module: "torch.nn.Module", name: EngineName, device: str, cuda_memory_fraction: float | None
    ) -> None:
        import torch

        self._on_cuda = device == "cuda"
        self._torch = torch
        self._dtype = torch.bfloat16 if name == "torch-bf16" else torch.float32
        if self._on_cuda:
            limit_cuda_memory(cuda_memory_fraction)
            if self._dtype is torch.float32:
                torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        self._module = module.eval().to(device=device, dtype=self._dtype)
        self.rows_in_any_order = bool(getattr(module, "rows_in_any_order", False))
        """Whether the rows of an output, float32[N, rows, d], are a set that the module says so of: two that it rates
        nearly alike change places between engines."""
        self._start = threading.Lock()
        self.name = str(name)
        self.device = device
        self.streams = 2 if self._on_cuda else 1

    def __call__(self, batch: Batch) -> Array:
        """Return float32[N, …]; a batch of uint8 becomes the module's floating point on the device."""
        torch = self._torch
        with torch.inference_mode():
            items = torch.from_numpy(batch)
            if self._on_cuda:
                items = items.pin_memory().to(self.device, non_blocking=True)
                with self._start:
                    outputs = self._module(items.to(self._dtype)).float()
            else:
                outputs = self._module(items.to(self._dtype)).float()
            output: Array = outputs.cpu().numpy()
        return output


class RequestPool:
    """The inference requests of a model compiled by OpenVINO for the CPU, which several threads share.

    The model runs in ``streams`` of about one core each. One stream over all cores answers a single image sooner, but
    its threads wait for each other after every layer, and with other processes on the machine they wait long.
    """

    def __init__(self, core: "openvino.Core", model: "openvino.Model | str", *, bf16: bool) -> None:
        precision = "bf16" if bf16 else "f32"
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(model, "CPU", options)
        self.streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._free: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(self.streams):
            self._free.put(compiled.create_infer_request())

    def acquire(self, *, block: bool = True) -> "openvino.InferRequest | None":
        """Take a free request; wait for one, or return None when ``block`` is False and there is none."""
        try:
            return self._free.get(block=block)
        except Empty:
            return None

    def release(self, request: "openvino.InferRequest") -> None:
        """Give a request back."""
        self._free.put(request)

    @contextmanager
    def request(self) -> "Iterator[openvino.InferRequest]":
        """Wait for a free request and give it back afterwards."""
        request = self._free.get()
        try:
            yield request
        finally:
            self._free.put(request)


class OpenVinoEngine:
    """A module converted to OpenVINO, on the CPU."""

    def __init__(self, model: Path, name: EngineName) -> None:
        import openvino

        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(model.parent)})
        self._pool = RequestPool(core, str(model), bf16=name == "openvino-bf16")
        self.streams = self._pool.streams
        self.name = str(name)
        self.device = "cpu"

    def __call__(self, batch: Array) -> Array:
        outputs: list[Array] = []
        running: deque[openvino.InferRequest] = deque()
        for start in range(0, len(batch), PART):
            # Never wait for another thread's request while holding one: that thread may wait for ours.
            while (request := self._pool.acquire(block=not running)) is None:
                outputs.append(self._finish(running.popleft()))
            request.start_async([batch[start : start + PART]], share_inputs=True)
            running.append(request)
        outputs.extend(self._finish(request) for request in running)
        return np.concatenate(outputs)

    def _finish(self, request: "openvino.InferRequest") -> Array:
        request.wait()
        output: Array = request.get_output_tensor(0).data.copy()
        self._pool.release(request)
        return output


def _openvino(
    name: EngineName, make_module: MakeModule, version: str, input_size: tuple[int, ...], cache: Path
) -> Engine:
    from importlib.metadata import version as installed

    folder = cache / "engines" / f"{version}-openvino-{installed('openvino')}"
    model = folder / "model.xml"
    accepted = folder / f"{name}.accepted"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (model.exists() and accepted.exists()):
            apart(model, convert, make_module, input_size, model, name)
    return OpenVinoEngine(model, name)


def item_shape(input_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one item of ``build_engine``'s input size."""
    return (3, *input_size) if len(input_size) == 2 else input_size


def convert(make_module: MakeModule, input_size: tuple[int, ...], model: Path, name: EngineName) -> None:
    """Convert a module to ``model``, where that is not there, and accept it for an engine. Raises ModelNotLoaded."""
    if not model.exists():
        _convert(make_module(), input_size, model)
    _check(OpenVinoEngine(model, name), TorchEngine(make_module(), "torch-fp32", "cpu", None), input_size)
    model.with_name(f"{name}.accepted").touch()


def _convert(module: "torch.nn.Module", input_size: tuple[int, ...], target: Path) -> None:
    import openvino
    import torch

    with torch.inference_mode():
        converted = openvino.convert_model(
            module.eval(),
            example_input=torch.zeros(2, *item_shape(input_size)),
            input=[(-1, *item_shape(input_size))],
        )
    # The .xml needs its .bin: it is renamed last, so that it only exists when both are complete.
    partial = target.with_name("partial.xml")
    openvino.save_model(converted, partial, compress_to_fp16=False)
    partial.with_suffix(".bin").replace(target.with_suffix(".bin"))
    partial.replace(target)


def _check(engine: Engine, reference: TorchEngine, input_size: tuple[int, ...], items: int = 4) -> None:
    noise = np.random.default_rng(0).standard_normal((items, *item_shape(input_size))).astype(np.float32)
    got, expected = engine(noise), reference(noise)
    least = MIN_COSINE
    if reference.rows_in_any_order:
        least = MIN_COSINE_OF_SETS
        got, expected = np.sort(got, axis=1), np.sort(expected, axis=1)
    got, expected = (each.reshape(len(noise), -1) for each in (got, expected))
    if got.shape[1] == 1:  # the cosine of a single number is its sign
        got, expected = got.T, expected.T
    cosines = (got * expected).sum(1) / (np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1))
    if not cosines.min() >= least:
        other = "torch-fp32" if engine.name != "torch-fp32" else "openvino-fp32"
        raise ModelNotLoaded(
            f"The engine {engine.name} differs from torch fp32 here (cosine {cosines.min():.4f}); "
            f"set engine: {other} in the stage's user_config."
        )
