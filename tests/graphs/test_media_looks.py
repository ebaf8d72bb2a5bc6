"""One pass over a stored video: the frames that are looked at are the ones they say, upright, also from the middle."""

from pathlib import Path

import numpy as np
import pytest

from deployments.errors import InvalidMedia, MediaNotFound
from graphs.media.looks import Look, Watch
from ops.stores.open import open_objects
from tests.unit.media.samples import RECIPES, TICKS, X264, Recipe, number_in, shown, write

KEY = "a" * 32


async def watching(recipe: Recipe, folder: Path) -> Watch:
    objects = open_objects(f"file://{folder}/objects")
    await objects.put_file(KEY, write(recipe, folder / f"video.{recipe.container}"), "video/mp4")
    return await Watch.opened(objects, KEY)


async def looks_from(watch: Watch, frame: int) -> list[Look]:
    watch.start(frame)
    found = []
    while (look := await watch.next()) is not None:
        found.append(look)
    return found


@pytest.mark.parametrize("name", ["b-frames", "open gop", "vfr", "60 fps", "rotated 90", "mirrored", "edit list"])
async def test_looks_are_the_frames_they_say(name: str, tmp_path: Path) -> None:
    watch = await watching(RECIPES[name], tmp_path)
    expected = shown(name)
    step = 3 if name == "60 fps" else 2
    assert watch.step == step
    looks = await looks_from(watch, 0)
    last = len(expected) - 1
    assert [look.frame for look in looks] == sorted({*range(0, last, step), last})
    assert [number_in(look.image) for look in looks] == [expected[look.frame] for look in looks]
    assert {look.scale for look in looks} == {1.0}
    assert (watch.changes[1:, 0] > 0).all()
    whole = watch.changes.copy()
    watch.changes[:] = 0
    middle = 24
    assert [look.frame for look in await looks_from(watch, middle)] == sorted({*range(middle, last, step), last})
    np.testing.assert_array_equal(watch.changes[middle:], whole[middle:])
    assert (watch.changes[:middle] == 0).all()
    await watch.close()


async def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    watch = await watching(RECIPES["vfr"], tmp_path)
    ticks = np.array(RECIPES["vfr"].ticks)
    np.testing.assert_allclose(watch.times, (ticks - ticks[0]) / TICKS, atol=1e-6)
    await watch.close()


async def test_large_frames_are_shrunk(tmp_path: Path) -> None:
    watch = await watching(Recipe(size=(720, 1920), rotation=90, frames=4, encoder=X264), tmp_path)
    first, second, _ = await looks_from(watch, 0)
    assert (watch.facts.width, watch.facts.height) == (720, 1920)
    assert first.image.shape == (1280, 480, 3)
    assert first.scale == second.scale == 1.5
    await watch.close()


@pytest.mark.parametrize(("fps", "step"), [(10, 1), (15, 1), (24, 2), (30, 2), (50, 3), (60, 3), (120, 3)])
async def test_looks_are_two_frames_or_less_behind(fps: int, step: int, tmp_path: Path) -> None:
    watch = await watching(Recipe(fps=fps, frames=6, encoder=X264), tmp_path)
    assert watch.step == step
    await watch.close()


async def test_what_cannot_be_opened(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}/objects")
    with pytest.raises(MediaNotFound, match="upload it again"):
        await Watch.opened(objects, KEY)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 1000)
    await objects.put_file(KEY, broken, "video/mp4")
    with pytest.raises(InvalidMedia):
        await Watch.opened(objects, KEY)
