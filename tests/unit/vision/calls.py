"""Calls that end with a request, and what a child is asked to do."""

import os
import signal
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from vision.deadlines import request_deadline
from vision.images import opened

T = TypeVar("T")


def until(deadline: float, function: Callable[..., T], *args: Any) -> T:
    """Call a function within a request that ends at ``deadline``, in epoch seconds."""
    context = copy_context()
    context.run(request_deadline.set, deadline)
    return context.run(function, *args)


def most_memory() -> int:
    """The most bytes that this process had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def decoded_shape(data: bytes, max_pixels: int) -> tuple[int, ...]:
    """Shape of a picture that is decoded in this process."""
    with opened(data, max_pixels) as still:
        return still.pixels().shape


def crash(*_: object) -> None:
    """End this process as a decoder does that reads where nothing is."""
    os.kill(os.getpid(), signal.SIGSEGV)
