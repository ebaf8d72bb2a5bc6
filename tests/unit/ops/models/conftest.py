"""An installation of its own: a local models file, a cache, and a hub on loopback."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from configs import settings as settings_module
from tests.unit.vision.weights.conftest import clean_environment, server
from tests.unit.vision.weights.servers import Server
from vision.weights import Store, registry, store
from vision.weights.hub import Hub

__all__ = ["clean_environment", "server"]  # fixtures


@dataclass
class Place:
    """``local``: its models file, which does not exist yet."""

    hub: Server
    local: Path
    cache: Path

    def store(self, token: str = "") -> Store:
        """A store of the models that are registered now."""
        return Store(registry(), self.cache / "models", hub=Hub(token, self.hub.base))


@pytest.fixture
def place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Iterator[Place]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("VISION_MODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VISION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VISION_MODELS_FILE", str(tmp_path / "own" / "models.yaml"))
    threads = torch.get_num_threads()
    for cached in (settings_module.settings, store):
        cached.cache_clear()
    yield Place(server, (tmp_path / "own" / "models.yaml").resolve(), tmp_path / "cache")
    torch.set_num_threads(threads)
    for cached in (settings_module.settings, store):
        cached.cache_clear()
