"""What all tests share: one cache of compiled engines, how modules are spread over processes, and patience."""

import os
from typing import Any

import pytest

from stores import cache


@pytest.fixture
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let caches made in a test wait for their server as long as a busy machine takes."""
    for wait in ("POOL_WAIT_S", "CONNECT_TIMEOUT_S", "REPLY_TIMEOUT_S"):
        monkeypatch.setattr(cache, wait, 60.0)


def pytest_configure(config: pytest.Config) -> None:
    # Kept between runs: a compiled engine is keyed by its weights, its settings and the version of its library.
    os.environ.setdefault("VISION_MODELS_CACHE", str(config.rootpath / ".cache" / "models"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the cluster first: they take the longest."""
    items.sort(key=lambda item: "cluster" not in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a module in one process, for its fixtures, and all that start Ray in one, since they share a machine."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "cluster" if module.startswith("tests/cluster/") else module

    return ByModule(config, log)
