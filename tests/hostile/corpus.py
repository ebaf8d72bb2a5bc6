"""The corpus: files that were made to hurt, each written by a function when it is asked for."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MODULES: Final = ("jpegs", "pngs", "rasters", "tiffs", "heifs", "strangers", "references", "damage", "media_bombs")
"""Modules of this package with files; each has ``files()``, which yields them in order."""


@dataclass(frozen=True, slots=True)
class HostileFile:
    """One file of the corpus.

    ``name``: the format and what is wrong with it, ``jpeg/repeated scans``. ``refused``: no route may take it for a
    picture or a film. ``quick``: belongs to the short selection, since it is small, soon refused or soon decoded.
    """

    name: str
    make: Callable[[], bytes]
    filename: str = "file.bin"
    content_type: str = "application/octet-stream"
    refused: bool = False
    quick: bool = False


def corpus(modules: Sequence[str] = MODULES) -> Iterator[HostileFile]:
    """Yield every file, module by module."""
    for module in modules:
        yield from importlib.import_module(f"tests.hostile.{module}").files()


def chosen(only: str = "", *, quick: bool = False, modules: Sequence[str] = MODULES) -> list[HostileFile]:
    """Return the files whose names contain ``only``, of the short selection if ``quick``."""
    return [file for file in corpus(modules) if only in file.name and (file.quick or not quick)]
