"""Serve's controller builds each application once itself; whatever else is built in a process of its own."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml
from ray.serve._private import application_state
from ray.serve.schema import LoggingConfig

from graphs.web.api import find_apis
from ops.building import FirstBuilds, build_here
from ops.check import CONFIGS
from ops.cli.main import COMMANDS, commands

ROOM = {"packs": {"pack": ["analysis/clusters", "analysis/groups"]}, "stages": ["analysis/anomalies"]}


class Task:
    """Serve's remote function: called here, or sent to a process."""

    def __init__(self, module: SimpleNamespace) -> None:
        self.module = module
        self.here: list[str] = []
        self.sent: list[tuple[dict[str, Any], str]] = []
        self.error: Exception | None = None

    def _function(self, import_path: str, code_version: str, name: str, *_: Any) -> str:
        self.module.configure_component_logger(component_name="controller", component_id="build")
        if self.error is not None:
            raise self.error
        self.here.append(name)
        return f"{name} of {import_path}"

    def options(self, **options: Any) -> Any:
        def remote(*arguments: Any) -> str:
            self.sent.append((options, arguments[2]))
            return "a reference of a process"

        return SimpleNamespace(remote=remote)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    def configured(**_: Any) -> None:
        raise AssertionError("the log of the controller was given away")

    monkeypatch.setattr(ray, "put", lambda value: ("put", value))
    return Task(SimpleNamespace(configure_component_logger=configured))


def test_an_application_is_built_here_once(task: Task) -> None:
    builds = FirstBuilds(task, task.module)
    configure = task.module.configure_component_logger
    options = {"runtime_env": {}, "label_selector": None}
    assert builds.options(**options).remote("a:b", "1", "gateway", {}) == ("put", "gateway of a:b")
    assert builds.options(**options).remote("c:d", "1", "pixels", {}) == ("put", "pixels of c:d")
    assert (task.here, task.sent) == (["gateway", "pixels"], [])
    assert task.module.configure_component_logger is configure
    # By now its code may be newer than what this process has imported.
    assert builds.options(**options).remote("a:b", "2", "gateway", {}) == "a reference of a process"
    assert (task.here, task.sent) == (["gateway", "pixels"], [(options, "gateway")])


def test_one_with_an_environment_of_its_own_is_not(task: Task) -> None:
    options = {"runtime_env": {"env_vars": {"VISION_HOME": "/home"}}}
    assert FirstBuilds(task, task.module).options(**options).remote("a:b", "1", "gateway") == "a reference of a process"
    assert (task.here, task.sent) == ([], [(options, "gateway")])


def test_one_that_cannot_be_built_is_left_to_serve(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    task.error = RuntimeError("no such API: cats")
    configure = task.module.configure_component_logger
    with caplog.at_level(logging.WARNING, "ray.serve"):
        assert FirstBuilds(task, task.module).options().remote("a:b", "1", "gateway") == "a reference of a process"
    assert task.sent == [({}, "gateway")]
    assert task.module.configure_component_logger is configure
    assert [record.message for record in caplog.records] == ["gateway is built in a process of its own"]


def test_serve_builds_the_same_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(
        ray, "get_runtime_context", lambda: SimpleNamespace(runtime_env={}, get_job_id=lambda: "01000000")
    )
    monkeypatch.setattr(application_state, "build_serve_application", application_state.build_serve_application)
    serves: Any = application_state.build_serve_application
    build_here()
    ours: Any = application_state.build_serve_application
    assert isinstance(ours, FirstBuilds)
    policy, deployments, error = ours.options(runtime_env={}).remote(
        "deployments.serving.catalog:room", "1", "analysis", ROOM, LoggingConfig(), None, {}, {}, {}
    )
    assert (policy, error) == (None, None)
    assert [each["deployment_name"] for each in deployments] == ["anomalies", "pack"]

    monkeypatch.setattr(application_state, "build_serve_application", SimpleNamespace(unlike=serves))
    build_here()  # Serve has changed, so it is left as it is
    assert not isinstance(application_state.build_serve_application, FirstBuilds)


@pytest.mark.parametrize("chosen", [COMMANDS, *[(name,) for name in COMMANDS]])
def test_the_command_line_has_the_commands_that_are_asked_for(chosen: tuple[str, ...]) -> None:
    app = commands(chosen)
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    assert sorted(names + [group.name or "" for group in app.registered_groups]) == sorted(chosen)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_a_gateway_waits_for_is_loaded_first(path: Path) -> None:
    needed = {ref.key for api in find_apis().values() for ref in api.ready_stages}
    for app in yaml.safe_load(path.read_text())["applications"]:
        for keys in app.get("args", {}).get("packs", {}).values():
            places = [keys.index(key) for key in keys if key in needed]
            assert places == list(range(len(places))), f"{app['name']} loads other stages before"
