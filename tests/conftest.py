"""What all tests share: one cache of compiled engines, and how they are spread over processes."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Kept between runs: a compiled engine is keyed by its weights, its settings and the version of its library.
    os.environ.setdefault("VISION_MODELS_CACHE", str(config.rootpath / ".cache" / "models"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module in one process, for its fixtures, and those of the cluster in one, first."""
    items.sort(key=lambda item: "cluster" not in item.path.parts)
    for item in items:
        name = "cluster" if "cluster" in item.path.parts else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(name))
