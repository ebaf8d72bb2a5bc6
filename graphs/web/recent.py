"""The last faults of this process, for whoever runs the service: failed answers, and warnings and errors of the log."""

import logging
from collections import deque
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, Field

from graphs.web.access_log import Exchange

MOST: Final = 50
MAX_TEXT: Final = 300
LOGGERS: Final = ("ray.serve", "stores", "vision", "graphs", "deployments")
"""Those of this software, whose lines have no secrets."""


class Fault(BaseModel):
    """A failed answer, or a line of the log."""

    at: datetime
    source: str = Field(description="route of an answer, or name of a logger")
    message: str


class RecentFaults(logging.Handler):
    """Keeps the last ``MOST`` faults; ``attach`` makes it listen to the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._faults: deque[Fault] = deque(maxlen=MOST)

    @property
    def faults(self) -> list[Fault]:
        """Return them, the latest first."""
        return list(reversed(self._faults))

    def add(self, source: str, message: str) -> None:
        """Keep a fault; of its text one line, and only so much of it."""
        shown = " ".join("".join(each if each.isprintable() else " " for each in message).split())
        self._faults.append(Fault(at=datetime.now(UTC), source=source, message=shown[:MAX_TEXT]))

    def ended(self, exchange: Exchange) -> None:
        """Keep an answer that says that the service failed."""
        if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            route = f"{exchange.method} {exchange.route or 'no route'}"
            self.add(route, f"answered {exchange.status}, request {exchange.request_id}")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of the log, without its traceback but with the class of its exception."""
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            message += f" ({record.exc_info[0].__name__})"
        self.add(record.name, message)

    def attach(self) -> None:
        """Begin to listen."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def detach(self) -> None:
        """Stop listening."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
