"""The videos of all recipes, each made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.unit.vision.media.samples import RECIPES, SUFFIXES, Recipe, write

MakeVideo = Callable[[str | Recipe], Path]


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """Path of the video of a recipe, or of the name of one."""
    folder = tmp_path_factory.mktemp("videos")

    @cache
    def named(name: str) -> Path:
        return made(RECIPES[name])

    def made(recipe: Recipe) -> Path:
        number = len(list(folder.iterdir()))
        return write(recipe, folder / f"{number}.{SUFFIXES.get(recipe.container, recipe.container)}")

    return lambda wanted: named(wanted) if isinstance(wanted, str) else made(wanted)
