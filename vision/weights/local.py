"""Write entries into the local models file, ``VISION_MODELS_FILE``, without touching what else a person wrote there."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from filelock import FileLock
from pydantic import ValidationError

from vision.weights.registry import Model, Registry, RegistryInvalid, load_local

HEAD: Final = """\
# Models of this installation, over those of configs/models.yaml, whose head explains the keys.
# `visiongraph models add` writes entries here; everything else is left as it is.
"""


def write_entry(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Put a model into the file, in place of one of the same name; comments and other entries stay as they are.

    The file is replaced in one step, and only by one that is valid. Raises RegistryInvalid when it has faults before,
    or is not written as a block of ``name:`` lines; pydantic's ValidationError for a bad entry; OSError.
    """
    Model.model_validate(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        before = load_local(path)
        text = _read(path) if path.is_file() else HEAD
        changed = _with_block(text, name, yaml.safe_dump({name: dict(entry)}, sort_keys=False, allow_unicode=True))
        wanted = Registry(before.root | {name: Model.model_validate(entry)})
        if _parsed(changed) != wanted:
            raise RegistryInvalid(f"{path.name} cannot be added to; write its entries as lines that begin with a name.")
        _replace(path, changed)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.read()


def _parsed(text: str) -> Registry | None:
    try:
        return Registry.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError):
        return None


def _with_block(text: str, name: str, block: str) -> str:
    """Return the text with a block in place of the one of the same name, or at its end."""
    lines = text.splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if re.match(rf"""(["']?){re.escape(name)}\1\s*:""", line)]
    if not found:
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return text + gap + block
    start, end = found[-1], found[-1] + 1
    while end < len(lines) and not re.match(r"[^\s#]", lines[end]):
        end += 1
    # Comments before the next entry belong to that one.
    while end > start + 1 and re.match(r"\s*$|#", lines[end - 1]):
        end -= 1
    return "".join([*lines[:start], block, *lines[end:]])


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
