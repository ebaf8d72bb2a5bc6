"""The typed references that graphs call stages by say what their stages say."""

import importlib
import types
import typing
from typing import Any

import pytest

from deployments.serving.catalog import find_stages
from deployments.serving.stage import SharedImage, SharedPixels, Stage, StageRef
from vision.images import Pixels

STAGES = find_stages()


def declared(stage: type[Any]) -> tuple[Any, Any]:
    """(type of an item, type of a result) of the nearest base that says so."""
    for base in (base for cls in stage.__mro__ for base in getattr(cls, "__orig_bases__", ())):
        origin, arguments = typing.get_origin(base), typing.get_args(base)
        if isinstance(origin, type) and issubclass(origin, Stage) and len(arguments) == 4:
            return arguments[1], arguments[3]
    raise AssertionError(f"{stage} is no Stage[...]")


def resolved(item: Any) -> Any:
    """An item as its stage receives it: pixels where a caller passes a shared image."""
    if item == SharedImage:
        return Pixels
    arguments = typing.get_args(item)
    if SharedPixels in arguments:  # a union flattens what it is made of
        rest = tuple(resolved(each) for each in arguments if each is not SharedPixels)
        return rest[0] if len(rest) == 1 else typing.Union[rest]  # noqa: UP007 (made at run time)
    if typing.get_origin(item) is tuple:
        return tuple[tuple(map(resolved, arguments))]  # type: ignore[misc]
    return item


def kinds(item: Any) -> set[Any]:
    """What a union is made of."""
    return set(typing.get_args(item)) if typing.get_origin(item) in (typing.Union, types.UnionType) else {item}


@pytest.mark.parametrize("key", sorted(STAGES))
def test_a_reference_names_its_stage_with_its_types(key: str) -> None:
    module = importlib.import_module(f"deployments.{key.replace('/', '.')}")
    references = [value for value in vars(module).values() if isinstance(value, StageRef) and value.key == key]
    item, result = declared(STAGES[key])
    assert {(reference.output, STAGES[key].key) for reference in references} == {(result, key)}
    # One that came later names what earlier versions of the stage do not take.
    taken = set().union(*(kinds(resolved(reference.input)) for reference in references))
    if "__orig_bases__" in vars(STAGES[key]):
        assert taken == kinds(item)
    else:  # it derives from another stage, and takes all that this does, and perhaps more
        assert kinds(item) <= taken
