"""Stages declare the stores that they open: read from the code that their methods reach."""

import ast
import inspect
import sys
import textwrap
from functools import cached_property

import pytest

from configs.settings import Settings
from deployments.serving.catalog import find_stages
from stores.open import Stores

STORES = {name for name, value in vars(Stores).items() if isinstance(value, cached_property)}


def stores_opened_by(stage: type, package: str = "deployments.") -> set[str]:
    """Return the stores that a class takes from ``Stores``, in all code of the package that its methods reach."""
    waiting = [method for _, method in inspect.getmembers(stage, inspect.isfunction)]
    names: set[str] = set()
    reached: set[object] = set()
    while waiting:
        function = inspect.unwrap(waiting.pop())
        generated = function.__code__.co_filename == "<string>"  # by a dataclass
        if function in reached or generated or not function.__module__.startswith(package):
            continue
        reached.add(function)
        source = textwrap.dedent(inspect.getsource(function))
        if "super()" in source:
            waiting += [vars(base)[function.__name__] for base in stage.__mro__ if function.__name__ in vars(base)]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and node.attr in STORES and are_stores(ast.unparse(node.value)):
                names.add(node.attr)
            elif isinstance(node, ast.Name):
                value = function.__globals__.get(node.id)
                if inspect.isfunction(value):
                    waiting.append(value)
                elif inspect.isclass(value):
                    waiting += [method for _, method in inspect.getmembers(value, inspect.isfunction)]
    return names


def are_stores(expression: str) -> bool:
    return expression in ("stores", "self._stores") or expression.startswith("Stores.open(")


@pytest.mark.parametrize("key", sorted(find_stages()))
def test_a_stage_declares_the_stores_that_it_opens(key: str) -> None:
    stage = find_stages()[key]
    assert set(stage.stores) == stores_opened_by(stage), f"{key} must name the stores that it opens in `stores`"


@pytest.mark.parametrize("key", sorted(find_stages()))
def test_no_stage_opens_stores_in_a_way_that_is_not_noticed(key: str) -> None:
    stage = find_stages()[key]
    modules = {base.__module__ for base in stage.__mro__ if base.__module__.startswith("deployments.")}
    imported = {vars(sys.modules[name]).get("Stores") for name in modules}
    assert bool(stage.stores) or Stores not in imported


def test_a_store_that_a_stage_does_not_declare_is_noticed() -> None:
    class Undeclared:
        def load(self) -> None:
            self._objects = Stores.open(Settings()).objects

        def tick(self) -> None:
            stores = Stores.open(Settings())
            self._jobs = stores.jobs

    assert stores_opened_by(Undeclared, __name__) == {"objects", "jobs"}
