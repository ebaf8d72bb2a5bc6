"""Until when the work of the current request is of use; whatever works for seconds gives up then.

A thread knows it when it was started with the context of the request, as ``asyncio.to_thread`` and ``on_thread`` do.
"""

import time
from contextvars import ContextVar

from vision.errors import DeadlineExceeded

request_deadline: ContextVar[float | None] = ContextVar("request_deadline", default=None)
"""End of the current request, in epoch seconds; set by the gateway and sent along with every stage call."""


def time_left() -> float | None:
    """Return the seconds until the current request ends, 0 when it is over; None when it has no deadline."""
    deadline = request_deadline.get()
    return None if deadline is None else max(0.0, deadline - time.time())


def check_deadline() -> None:
    """Raise DeadlineExceeded when the current request is over."""
    if time_left() == 0:
        raise DeadlineExceeded("The time of this request ended while its file was read; ask for less at once.")
