"""Classes of objects as clients name them, in lists and in texts with commas."""

from collections.abc import Collection, Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints

from deployments.objects.detector import OBJECTS
from graphs.web.context import Context
from vision.errors import InvalidInput
from vision.objects.classes import class_name

MOST_TEXT: Final = 2000
"""Characters of a list of classes in a URL."""

ClassName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), AfterValidator(class_name)
]
"""Of a JSON body."""


def classes_of(text: str | None, parameter: str = "classes") -> tuple[str, ...] | None:
    """Return the classes in a text that separates them by commas, each once; None for no text.

    Raises InvalidInput, naming the parameter, where there is none.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(name for each in text.split(",") if (name := class_name(each))))
    if not names:
        raise InvalidInput(f"{parameter} names no class; leave it out for all of them.")
    return names


async def check_classes(context: Context, wanted: Iterable[str], others: Collection[str] = ()) -> None:
    """Raise InvalidInput for a class that neither the detector knows nor is among ``others``.

    Where no detector serves, nothing is known of classes, and none is refused.
    """
    if OBJECTS.key not in context.stages:  # a configuration that is older than the stage
        return
    info = (await context.states.stages([OBJECTS.key]))[OBJECTS.key]
    known: list[str] = info.get("classes") or []
    unknown = [name for name in wanted if name not in known and name not in others]
    if known and unknown:
        raise InvalidInput(f"There is no class {unknown[0]!r}; there are {', '.join(sorted({*known, *others}))}.")
