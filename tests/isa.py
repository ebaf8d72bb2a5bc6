"""Run the numeric tests once under each instruction set that this processor has: ``python -m tests.isa``.

Arguments go to pytest, in place of the folders tests/golden and tests/unit.

oneDNN (in torch and in OpenVINO), ATen, MKL and OpenBLAS choose their kernels by the processor, and each has a variable
that lowers the choice. What the processor lacks cannot be emulated and is left out, with a line that says so. OpenVINO
follows oneDNN's variable but for some parts that ask the processor itself: it chooses bf16 and then finds no kernel for
it, and crashes in the group convolutions of HuBERT and WavLM. Tests of these have the marker ``native`` and run only
under all that the processor has. With less than AVX2 it does not run at all.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vision.engines import cpu_flags

DOWNLOADS = Path(os.environ.get("VISION_MODELS_CACHE", Path(__file__).parents[1] / ".cache" / "models")) / "models"
AVX2 = frozenset({"avx2", "fma"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@dataclass(frozen=True)
class InstructionSet:
    """``name``: as in ONEDNN_MAX_CPU_ISA; ``flags``: those of /proc/cpuinfo that it needs."""

    name: str
    flags: frozenset[str]
    aten: str
    mkl: str
    openblas: str

    def __str__(self) -> str:
        return f"{self.name} and {self.aten} of ATen"

    def environment(self, cache: str) -> dict[str, str]:
        """The variables of a process that uses no more than this; engines are compiled anew into ``cache``."""
        return {
            **os.environ,
            "ONEDNN_MAX_CPU_ISA": self.name,
            "ATEN_CPU_CAPABILITY": self.aten,
            "MKL_ENABLE_INSTRUCTIONS": self.mkl,
            "OPENBLAS_CORETYPE": self.openblas,
            "VISION_MODELS_CACHE": cache,
        }


# Each has the flags of those before it.
SETS = (
    InstructionSet("AVX2", AVX2, "default", "SSE4_2", "Nehalem"),
    InstructionSet("AVX2", AVX2, "avx2", "AVX2", "Haswell"),
    InstructionSet("AVX512_CORE", AVX512, "avx512", "AVX512", "SkylakeX"),
    InstructionSet("AVX512_CORE_BF16", AVX512 | {"avx512_bf16"}, "avx512", "AVX512", "Cooperlake"),
    InstructionSet(
        "AVX512_CORE_AMX", AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"}, "avx512", "AVX512", "Cooperlake"
    ),
)


def main(arguments: list[str]) -> int:
    """Run pytest for each instruction set; the number of those with a failure."""
    here, failures = cpu_flags(), 0
    available = [each for each in SETS if each.flags <= here]
    for each in SETS[len(available) :]:
        print(f"{each}: left out, this processor has no {', '.join(sorted(each.flags - here))}", flush=True)
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    for each in available:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as cache:
            # What was downloaded is shared; engines, which were compiled for the whole processor, are not.
            (Path(cache) / "models").symlink_to(DOWNLOADS)
            chosen = "numeric" if each is available[-1] else "numeric and not native"
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-m", chosen, *(arguments or ("tests/golden", "tests/unit"))],
                env=each.environment(cache),
                check=False,
            )
        failures += done.returncode != 0
        result = "passed" if done.returncode == 0 else f"FAILED (pytest answered {done.returncode})"
        print(f"{each}: {result} in {time.monotonic() - begin:.0f} s", flush=True)
    return failures


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
