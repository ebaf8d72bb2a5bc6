"""What crosses between a gateway and stages of this version and of the one before (``deployments.serving.messages``).

messages.json has the messages of the last version that was released. For one version the two have to understand each
other, as an update replaces one process after another. So a change is refused here that breaks this; make it in two
steps, one a version. When a version is released: ``UPDATE_SNAPSHOTS=1 pytest tests/contract/test_messages.py``.
"""

import inspect
import json
import os
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from deployments.serving.catalog import LocalStages, find_reference, stage_keys
from deployments.serving.messages import NAME, message_classes, shape_of

SNAPSHOT = Path(__file__).with_name("messages.json")


def text_of(kind: Any) -> str:
    return NAME.format(kind) if type(kind) is type else str(kind)


@cache
def now() -> dict[str, Any]:
    references = {key: find_reference(key) for key in stage_keys()}
    classes = {
        kind for ref in references.values() for side in (ref.input, ref.output) for kind in message_classes(side)
    }
    described = {}
    for kind in classes:
        shape, hints = shape_of(kind), get_type_hints(kind)
        described[NAME.format(kind)] = {
            "fields": {name: text_of(hints[name]) for name in shape.names},
            "required": [name for name in shape.names if name not in shape.defaults],
        }
    return {
        "stages": {key: [text_of(ref.input), text_of(ref.output)] for key, ref in references.items()},
        "messages": described,
    }


@cache
def before() -> dict[str, Any]:
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(json.dumps(now(), indent=1, sort_keys=True) + "\n")
    read: dict[str, Any] = json.loads(SNAPSHOT.read_text())
    return read


def faults(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What keeps the two versions from understanding each other, and what to do about it."""
    found = []
    for key in old["stages"].keys() & new["stages"].keys():
        if old["stages"][key] != new["stages"][key]:
            found.append(f"{key} takes or gives another type: add a field to its message, or a stage")
    for name in old["messages"].keys() & new["messages"].keys():
        was, is_ = old["messages"][name], new["messages"][name]
        found += [
            f"{name}.{field} is new: give it a default, for senders of the version before"
            for field in is_["required"]
            if field not in was["fields"]
        ]
        found += [
            f"{name}.{field} is gone: keep it for one version, as readers of the version before need it"
            for field in was["required"]
            if field not in is_["fields"]
        ]
        found += [
            f"{name}.{field} is of another type: add a field of another name"
            for field in was["fields"].keys() & is_["fields"].keys()
            if was["fields"][field] != is_["fields"][field]
        ]
    return sorted(found)


def test_this_version_and_the_one_before_understand_each_other() -> None:
    assert faults(before(), now()) == []


def test_every_message_of_the_version_before_is_found_by_its_name() -> None:
    for name in before()["messages"]:
        module, _, path = name.partition(":")
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        assert isinstance(found, type), name


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a field without a default": ({"fields": {"a": "int", "b": "int"}, "required": ["a", "b"]}, "m:M.b is new"),
    "a field that is gone": ({"fields": {}, "required": []}, "m:M.a is gone"),
    "another type": ({"fields": {"a": "str"}, "required": ["a"]}, "m:M.a is of another type"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_breaks_it_is_refused(change: str) -> None:
    old = {"stages": {}, "messages": {"m:M": {"fields": {"a": "int"}, "required": ["a"]}}}
    message, fault = CHANGES[change]
    assert [each.partition(":")[0] + ":M" for each in faults(old, {"stages": {}, "messages": {"m:M": message}})] == [
        "m:M"
    ]
    assert faults(old, {"stages": {}, "messages": {"m:M": message}})[0].startswith(fault)


def test_a_field_with_a_default_may_come_and_go() -> None:
    old = {"stages": {}, "messages": {"m:M": {"fields": {"a": "int", "old": "int"}, "required": ["a"]}}}
    new = {"stages": {}, "messages": {"m:M": {"fields": {"a": "int", "new": "int"}, "required": ["a"]}}}
    assert faults(old, new) == faults(new, old) == []


def test_another_type_of_a_stage_is_refused() -> None:
    old = {"stages": {"a/b": ["int", "str"]}, "messages": {}}
    assert faults(old, {"stages": {"a/b": ["int", "bytes"]}, "messages": {}}) == [
        "a/b takes or gives another type: add a field to its message, or a stage"
    ]


@pytest.mark.parametrize("method", [LocalStages.run, LocalStages.stream, LocalStages.info])
def test_calls_of_both_versions_reach_a_stage(method: Any) -> None:
    """Called as version 0.1 calls it, and with keywords that a later version adds."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    required = [each.name for each in parameters[:-1] if each.default is inspect.Parameter.empty]
    assert required == {"run": ["key", "items"], "stream": ["key", "item"], "info": ["key"]}[method.__name__]
