"""Find modules that import a heavy library as soon as they are imported.

This file runs itself in another interpreter, which refuses each heavy library at the moment of its import. So the
result names the importer, does not depend on what is already loaded, and takes no time for torch.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HEAVY = {"torch", "torchvision", "transformers", "openvino", "onnxruntime", "sklearn", "lancedb", "decord"}
TIMEOUT_S = 120


def heavy_imports(modules: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Return {module: [(heavy library, module that imports it)]} of the modules that import one.

    Raises RuntimeError when the interpreter dies; the message is its last line of output.
    """
    result = subprocess.run(  # noqa: S603 (this file, under this interpreter)
        # -P: the folder of this file must not come before the standard library.
        [sys.executable, "-P", __file__, *modules],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise RuntimeError(lines[-1])
    # The last line: modules may print while they are imported.
    heavy: dict[str, list[tuple[str, str]]] = json.loads(result.stdout.splitlines()[-1])
    return heavy


class _Guard(MetaPathFinder):
    """Refuses heavy libraries and records their importers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in HEAVY:
            self.seen.append((fullname, _importer()))
            raise ImportError(f"{fullname} must not be imported here")
        return None


def _importer() -> str:
    frame = sys._getframe(2)
    while frame.f_back and str(frame.f_globals.get("__name__", "")).startswith("importlib."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "?"))


def _main(modules: Iterable[str]) -> None:
    guard = _Guard()
    sys.meta_path.insert(0, guard)
    heavy = {}
    for module in modules:
        guard.seen = []
        with suppress(BaseException):  # broken modules are reported elsewhere, with their reasons
            importlib.import_module(module)
        if guard.seen:
            heavy[module] = guard.seen
    print(json.dumps(heavy))


if __name__ == "__main__":
    _main(sys.argv[1:])
