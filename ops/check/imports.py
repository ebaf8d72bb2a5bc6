"""Finds modules that import a heavy library as soon as they are imported.

Runs itself in an interpreter of its own, where each heavy library is refused at the moment somebody asks
for it. So the answer says who asked, does not depend on what is loaded already, and needs no time for torch.
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
    """{module: [(heavy library, module that imports it)]} of those that import one.

    :raises RuntimeError: the interpreter died; the message has its last words.
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
        words = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise RuntimeError(words[-1])
    # The last line: modules may print while they are imported.
    found: dict[str, list[tuple[str, str]]] = json.loads(result.stdout.splitlines()[-1])
    return found


class _Guard(MetaPathFinder):
    """Refuses heavy libraries and notes who wanted them."""

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
    found = {}
    for module in modules:
        guard.seen = []
        with suppress(BaseException):  # broken modules are reported elsewhere, with their reasons
            importlib.import_module(module)
        if guard.seen:
            found[module] = guard.seen
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1:])
