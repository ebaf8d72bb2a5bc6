"""What crosses between processes that run different versions of this program, as while one replaces the other.

A dataclass or named tuple that a stage takes or gives goes as its name and its fields by name, not as Python pickles it
by itself, which is by position where it has slots. So the version before may read what this one writes, and the
reverse:

- a field that the reader does not know is left out;
- a field that the writer did not know has its default;
- what is still not complete, or of a class that the reader does not have, is ``Unreadable``.

Calls grow by keywords, which a reader that does not know them ignores (``LocalStages.run``), and a ``StageError`` of an
unknown class becomes its nearest known base (``vision.errors``). tests/contract/messages.json has the messages of the
last version, and the rules that keep this true for one version.
"""

import copyreg
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, Final, NamedTuple, NoReturn, get_args, get_type_hints

from vision.errors import StageUnavailable

NAME: Final = "{0.__module__}:{0.__qualname__}"


class OtherVersion(StageUnavailable):
    """What the other side sent is of a version of this program that this one does not understand."""


class Unreadable:
    """Stands for a message that could not be read; whoever looks into it gets an ``OtherVersion``."""

    def __init__(self, reason: str) -> None:
        self._error = OtherVersion(
            f"Parts of the service run different versions, which do not understand each other ({reason}). "
            "They are being updated; try again in a minute."
        )

    @property
    def error(self) -> OtherVersion:
        """Return why it could not be read, and what to do."""
        return self._error

    def __getattr__(self, name: str) -> NoReturn:
        # Python itself asks for such names, before there is an error and to see what an object can do.
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._error

    def __iter__(self) -> NoReturn:
        raise self._error

    def __getitem__(self, index: object) -> NoReturn:
        raise self._error


def unreadable(item: Any) -> OtherVersion | None:
    """Return why an item, or a part of it where it is a tuple, could not be read; None where it could."""
    if isinstance(item, Unreadable):
        return item.error
    if type(item) is tuple:
        return next((part.error for part in item if isinstance(part, Unreadable)), None)
    return None


def message_classes(kind: Any) -> Iterator[type]:
    """Yield the dataclasses and named tuples of a type, and of their fields, each once."""
    seen: set[Any] = set()
    left = [kind]
    while left:
        each = left.pop()
        if each in seen or isinstance(each, str):
            continue
        seen.add(each)
        left += get_args(each)
        if isinstance(each, type) and (is_dataclass(each) or (issubclass(each, tuple) and hasattr(each, "_fields"))):
            yield each
            left += [hint for name, hint in get_type_hints(each).items() if name in shape_of(each).names]


def register(kind: Any) -> None:
    """Have the messages of a type pickled by the names of their fields, by this process."""
    for each in message_classes(kind):
        copyreg.pickle(each, _writer(each))


class Shape(NamedTuple):
    """The fields of a message class in order, and how those that are missing are made."""

    names: tuple[str, ...]
    defaults: dict[str, Callable[[], Any]]


@cache
def shape_of(kind: Any) -> Shape:
    """Return the fields of a message class."""
    if not is_dataclass(kind):
        return Shape(kind._fields, {name: _constant(value) for name, value in kind._field_defaults.items()})
    defaults = {}
    for field in fields(kind):
        if field.default is not MISSING:
            defaults[field.name] = _constant(field.default)
        elif field.default_factory is not MISSING:
            defaults[field.name] = field.default_factory
    return Shape(tuple(field.name for field in fields(kind)), defaults)


def read(name: str, names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    """Return the message of a class, ``module:name``, or why it is ``Unreadable``; pickle calls this."""
    kind = _find(name)
    if isinstance(kind, Unreadable):
        return kind
    wanted, defaults = shape_of(kind)
    if names != wanted:
        given = dict(zip(names, values, strict=True))
        if missing := [each for each in wanted if each not in given and each not in defaults]:
            return Unreadable(f"{kind.__name__} without {', '.join(missing)}")
        values = tuple([given[each] if each in given else defaults[each]() for each in wanted])
    if issubclass(kind, tuple):
        return kind(*values)
    made = object.__new__(kind)
    for each, value in zip(wanted, values, strict=True):
        object.__setattr__(made, each, value)  # it may be frozen, and have slots
    return made


@cache
def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return Unreadable(f"no {path.rpartition('.')[2]}")
    return found


def _writer(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    name, names = NAME.format(kind), shape_of(kind).names
    if len(names) > 1:
        values: Callable[[Any], Any] = attrgetter(*names)
    else:
        values = _one_of(names)

    def write(message: Any) -> tuple[Any, ...]:
        return read, (name, names, values(message))

    return write


def _one_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    def values(message: Any) -> tuple[Any, ...]:
        return tuple([getattr(message, name) for name in names])

    return values


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
