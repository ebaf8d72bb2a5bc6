"""Calls for which a request ends."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from vision.deadlines import request_deadline

T = TypeVar("T")


def until(deadline: float, function: Callable[..., T], *args: Any) -> T:
    """Call a function within a request that ends at ``deadline``, in epoch seconds."""
    context = copy_context()
    context.run(request_deadline.set, deadline)
    return context.run(function, *args)
