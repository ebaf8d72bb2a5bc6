"""Responses with parts that other models make: a part whose model is missing is null, and the response says why.

That is so for parts that the request did not ask for by name; one that it did ask for fails the request. And it is so
for missing models only, which stay missing until an operator acts: a stage that is full, starts or died fails the
request with a 429 or 503, as the same request may have all of its parts a moment later.
"""

from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from pydantic import Field

from vision.errors import ModelNotLoaded

T = TypeVar("T")

UNAVAILABLE: Final = Field(
    default_factory=dict[str, str],
    description="parts without a result as their model is missing, and why; only there where something is missing",
    examples=[{"quality.brisque": "no verified weights for brisque-live; `visiongraph models pull brisque-live` …"}],
    exclude_if=lambda parts: not parts,
)
"""The field ``unavailable`` of a response: a reason for each part, by its name."""

BASED_ON: Final = Field(
    default=None,
    description="scores that the verdict rests on, where a model is missing; absent where none is",
    exclude_if=lambda scores: scores is None,
)
"""The field ``based_on`` of a verdict that is formed of several scores."""


class OptionalParts:
    """The parts of one response that a missing model may cost."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}

    @property
    def unavailable(self) -> dict[str, str]:
        """Return the parts whose model is missing, and why, in the order of their names."""
        return dict(sorted(self._missing.items()))

    @contextmanager
    def optional(self, *names: str, named: bool = False) -> Iterator[None]:
        """Leave the block, with the reason in ``unavailable`` under these names, where a model is missing.

        ``named``: the request asks for the part by its name. Then ModelNotLoaded is raised, as all other errors are.
        """
        try:
            yield
        except ModelNotLoaded as error:
            if named:
                raise
            self._leave_out(names, error)

    async def of(self, name: str, call: Awaitable[T], *, named: bool = False) -> T | None:
        """Return the result of a call; None where its model is missing, as ``optional`` does."""
        try:
            return await call
        except ModelNotLoaded as error:
            if named:
                raise
            self._leave_out([name], error)
            return None

    def leave_out(self, name: str, reason: str) -> None:
        """Have a part named as missing, for this reason."""
        self._missing[name] = reason

    def _leave_out(self, names: Iterable[str], error: ModelNotLoaded) -> None:
        self._missing |= dict.fromkeys(names, error.reason)
