"""Which request the present work is for, in every process that works on it.

The gateway gives each request an id; it goes along with every stage call and into the records of jobs, and is in each
line that is logged meanwhile.
"""

import logging
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

MAX_NAMED: Final = 4
"""Ids of requests that one line names."""


class Origin(NamedTuple):
    """The request that work is for: its id, and ``traceparent`` and ``tracestate`` (W3C Trace Context); empty for none.

    A batch has the ids of all its requests.
    """

    request_id: str = ""
    traceparent: str = ""
    tracestate: str = ""


NOBODY: Final = Origin()
origin: ContextVar[Origin] = ContextVar("origin", default=NOBODY)
"""What the present work is for; ``NOBODY`` where no request asked for it."""
origins: ContextVar[tuple[Origin, ...]] = ContextVar("origins", default=())
"""What the items of the present call or batch are for, in order."""


def work_for(items: Iterable[Origin]) -> None:
    """Say what the items of the call or batch are for that the present task works on from here on."""
    given = tuple(items)
    origins.set(given)
    origin.set(shared_by(given))


def origin_of(sent: Sequence[str] | None) -> Origin:
    """Return what another process has sent as ``tuple(origin)``; what it has not sent is empty."""
    return Origin(*sent[:3]) if sent else NOBODY


def shared_by(items: Sequence[Origin]) -> Origin:
    """Return the origin of work for several requests at once: their ids, each once, the first few of many."""
    different = set(items)
    if len(different) == 1:
        return different.pop()
    ids = list(dict.fromkeys(each.request_id for each in items if each.request_id))
    more = f"+{len(ids) - MAX_NAMED}" if len(ids) > MAX_NAMED else ""
    return Origin(",".join(ids[:MAX_NAMED]) + more) if ids else NOBODY


class _RequestIds(logging.Filter):
    """Lets every line pass, with the id of the request it was logged for as ``request_id``."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger

    def filter(self, record: Any) -> bool:
        for handler in self._logger.handlers:
            # Behind the filters of Serve, which name a call of its own; it makes new handlers when it is reconfigured.
            if self not in handler.filters:
                handler.addFilter(self)
        if request_id := origin.get().request_id:
            record.request_id = request_id
        return True


def log_request_ids(name: str = "ray.serve") -> None:
    """Have the lines of a logger carry the ids of requests, in the form that Serve has for them: text or JSON."""
    logger = logging.getLogger(name)
    if not any(isinstance(each, _RequestIds) for each in logger.filters):
        logger.addFilter(_RequestIds(logger))
