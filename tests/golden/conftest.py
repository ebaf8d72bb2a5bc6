"""What several of these tests look at: photographs beside VISION_MODELS_DIR, and the faces in them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from deployments.people.faces import Config, FaceDetector
from deployments.serving.stage import Stage
from vision.errors import ModelNotLoaded

S = TypeVar("S", bound=Stage[Any, Any, Any, Any])


@contextmanager
def loaded(stage: S) -> Iterator[S]:
    """The stage with real weights, else the test is skipped; torch has its threads back at the end."""
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    threads = torch.get_num_threads()
    try:
        stage.load()
    except ModelNotLoaded as error:
        pytest.skip(error.message)
    yield stage
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def detector() -> Iterator[FaceDetector]:
    with loaded(FaceDetector(Config())) as stage:
        yield stage


def media_folder(name: str = "") -> Path:
    """A folder of ``media``, which lies beside VISION_MODELS_DIR, else the test is skipped."""
    folder = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / name
    if not folder.is_dir():
        pytest.skip("no folder media beside VISION_MODELS_DIR")
    return folder
