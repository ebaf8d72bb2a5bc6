"""Fixtures: a server on loopback, and an environment without the developer's own settings."""

import os
from collections.abc import Iterator

import pytest

from tests.unit.vision.weights.servers import Server, serving


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("VISION_", "HF_", "PIP_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
