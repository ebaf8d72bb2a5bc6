"""Objects are not looked for twice in what shows the same."""

import numpy as np
import pytest

from deployments.objects.detector import OBJECTS
from graphs.indexing.decode import FaceFrame
from graphs.indexing.inference import ChunkInference
from vision.errors import InvalidInput
from vision.images import Pixels
from vision.objects.detection import DetectedObject, Detections

GROUND = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)


class Detector:
    """A stage that tells of an object as wide as the number of the call."""

    def __init__(self, *failures: int) -> None:
        self.seen: list[Pixels] = []
        self.failures = failures

    async def __call__(self, image: Pixels) -> Detections:
        self.seen.append(image)
        if len(self.seen) in self.failures:
            raise InvalidInput("No objects can be looked for in this one.")
        return Detections((DetectedObject(0, 0, len(self.seen), 10, 0.5, "dog"),), "test")


async def looked(images: list[Pixels], *, begins: tuple[int, ...] = (), detector: Detector) -> list[tuple[int, float]]:
    """Frame and width of all objects in every third frame."""
    frames = [FaceFrame(3 * place, image, 1.5, place in begins, True) for place, image in enumerate(images)]
    without = FaceFrame(100, GROUND, 1.5)
    inference = ChunkInference({OBJECTS.key: detector}, "film", shared=False, things=True)  # type: ignore[dict-item]
    found = await inference.objects([*frames, without])
    assert all(each.scale == 1.5 for each in found)
    return [(each.frame, each.objects[0].width) for each in found]


def with_thing(x: int) -> Pixels:
    image = GROUND.copy()
    image[300:340, x : x + 40] = 128
    return image


async def test_a_still_picture_is_looked_at_once() -> None:
    detector = Detector()
    noise = np.random.default_rng(1).normal(0, 6, (4, *GROUND.shape))
    images = [np.clip(GROUND + each, 0, 255).astype(np.uint8) for each in noise]
    assert await looked(images, detector=detector) == [(0, 1), (3, 1), (6, 1), (9, 1)]
    assert len(detector.seen) == 1


async def test_a_shot_is_looked_at_anew_where_it_begins() -> None:
    assert await looked([GROUND] * 4, begins=(0, 2), detector=Detector()) == [(0, 1), (3, 1), (6, 2), (9, 2)]


async def test_a_small_thing_that_moves_is_looked_for_in_each_frame() -> None:
    detector = Detector()
    assert await looked([with_thing(x) for x in (100, 110, 120, 300)], detector=detector) == [
        *((0, 1), (3, 2), (6, 3), (9, 4))
    ]


@pytest.mark.parametrize("step", [0.7, -0.7])
async def test_little_steps_add_up(step: float) -> None:
    """No frame differs much from the one before; that four steps away does."""
    images = [np.clip(GROUND * 0.5 + 60 + step * place, 0, 255).round().astype(np.uint8) for place in range(12)]
    widths = [width for _, width in await looked(images, detector=Detector())]
    assert widths == sorted(widths)
    assert 2 <= widths[-1] <= 4


async def test_where_the_stage_fails_what_shows_the_same_has_no_objects_either() -> None:
    images = [GROUND, GROUND, with_thing(100)]
    assert await looked(images, detector=Detector(1)) == [(6, 2)]
