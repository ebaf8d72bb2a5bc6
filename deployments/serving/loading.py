"""When the stages of a process are loaded, and how often one may be that ends its process.

A load takes the memory of its model twice for a moment, and all cores: so one is loaded after the other. Those that
requests wait for come first, then the others in the order of their pack.
"""

import asyncio
import fcntl
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from pathlib import Path
from typing import Final
from uuid import uuid4

from vision.errors import ModelNotLoaded

FATAL_LOADS: Final = 3
FORGOTTEN_AFTER_S: Final = 600.0
"""A stage whose last loads ended their process so often in so many seconds is left out until they have passed."""

Load = Callable[[], Awaitable[None]]


class LoadQueue:
    """Loads one stage after the other, in the order in which they were added or, before those, asked for."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, Load] = OrderedDict()
        self._added: OrderedDict[str, Load] = OrderedDict()
        self._running: asyncio.Task[None] | None = None

    def add(self, key: str, load: Load) -> None:
        """Load a stage after those that wait already; ``load`` raises nothing."""
        if key in self._asked:
            return
        self._added[key] = load
        if self._running is None or self._running.done():
            # In a new context: Serve cancels what a request started when its client leaves, and others wait as well.
            self._running = asyncio.create_task(self._run(), context=Context())

    def ask(self, key: str) -> None:
        """Load a stage, if it waits, before those that nobody has asked for."""
        load = self._added.pop(key, None)
        if load is not None:
            self._asked[key] = load

    def close(self) -> None:
        """Load nothing more."""
        self._asked.clear()
        self._added.clear()
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while self._asked or self._added:
            _, load = (self._asked or self._added).popitem(last=False)
            await load()


@contextmanager
def fatal_loads(key: str, folder: Path) -> Iterator[None]:
    """Load a stage in here: if that ends the process, the next one under the same parent knows.

    Raises ModelNotLoaded where that has happened ``FATAL_LOADS`` times: Ray would start process after process, and each
    takes the other stages of its pack with it. ``folder`` is made; where nothing can be written nothing is known.
    """
    name = f"{key.replace('/', '.')}-{os.getppid()}-"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        ended = [mark for mark in folder.glob("[!.]*") if _ended(mark)]
        for mark in ended:
            if time.time() - mark.stat().st_mtime > FORGOTTEN_AFTER_S:
                mark.unlink(missing_ok=True)
        fatal = [mark for mark in ended if mark.name.startswith(name) and mark.exists()]
        if len(fatal) >= FATAL_LOADS:
            minutes = FORGOTTEN_AFTER_S / 60
            raise ModelNotLoaded(
                f"Loading {key} has ended its process {len(fatal)} times within {minutes:g} minutes, so it is left out "
                f"for as long. Look for the reason in the log of its process, such as a lack of memory."
            )
    with _marked(folder, name):
        yield
    for mark in folder.glob(f"{name}*"):
        if _ended(mark):
            mark.unlink(missing_ok=True)


@contextmanager
def _marked(folder: Path, name: str) -> Iterator[None]:
    mark = folder / f"{name}{uuid4().hex}"
    try:
        descriptor = os.open(hidden := mark.with_name(f".{mark.name}"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # ends with the process; seen by others only when it is held
        hidden.rename(mark)
        yield
    finally:
        mark.unlink(missing_ok=True)
        os.close(descriptor)


def _ended(mark: Path) -> bool:
    """Whether the process that made a mark is gone: nobody holds its lock."""
    try:
        with mark.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
