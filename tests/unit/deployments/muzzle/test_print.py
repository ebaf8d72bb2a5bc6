"""muzzle/print on encoded photos: matches, kept prints, the picture, qualities, and files that cannot be read."""

import cv2
import numpy as np
import pytest

from deployments.muzzle.print import MuzzlePrint, PrintPhoto, PrintQuery
from deployments.serving.stage import StageConfig
from tests.unit.vision.muzzle.textures import moved, muzzle
from vision.errors import InvalidInput, InvalidMedia
from vision.images import Pixels
from vision.muzzle.prints import MIN_INLIERS


def photo(image: Pixels, suffix: str = ".jpg") -> PrintPhoto:
    return PrintPhoto(cv2.imencode(suffix, image[..., ::-1])[1].tobytes())


@pytest.fixture(scope="module")
def stage() -> MuzzlePrint:
    made = MuzzlePrint(StageConfig())
    made.load()
    made.warm_up()
    return made


COW, OTHER = muzzle(1), muzzle(2)


def test_a_probe_is_compared_with_photos_and_kept_prints(stage: MuzzlePrint) -> None:
    kept = stage.prepare(PrintQuery((photo(moved(COW, 1.1, 5)), photo(OTHER)), keep=True))
    assert (len(kept.prints), len(kept.qualities), kept.matches, kept.picture) == (2, 2, (), None)
    query = PrintQuery((photo(moved(COW, 1.1, 5)), photo(OTHER)), photo(COW, ".png"), kept.prints)
    answer = stage.predict(stage.prepare(query))
    inliers = [each.inliers for each in answer.matches]
    assert inliers[:2] == inliers[2:]  # a kept print is as good as its photo
    assert inliers[0] > 3 * MIN_INLIERS > MIN_INLIERS > inliers[1]
    assert len(answer.qualities) == 3
    assert answer.prints == ()
    again = stage.prepare(PrintQuery(probe=kept.prints[0], prints=kept.prints))
    assert [each.inliers >= MIN_INLIERS for each in again.matches] == [True, False]
    assert again.qualities == ()


def test_the_best_reference_is_drawn(stage: MuzzlePrint) -> None:
    query = PrintQuery((photo(OTHER), photo(moved(COW, degrees=8))), photo(COW), picture=True)
    answer = stage.prepare(query)
    assert answer.picture is not None
    drawn = cv2.imdecode(np.frombuffer(answer.picture, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape[1] == 2 * 512 + 12
    assert (drawn.max(2) - drawn.min(2) > 100).sum() > 100 * MIN_INLIERS  # many coloured circles and lines


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff and then nothing", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(stage: MuzzlePrint, data: bytes) -> None:
    with pytest.raises(InvalidMedia):
        stage.prepare(PrintQuery(probe=PrintPhoto(data)))


def test_what_is_no_print_is_refused(stage: MuzzlePrint) -> None:
    with pytest.raises(InvalidInput, match="enrol the animal again"):
        stage.prepare(PrintQuery(probe=photo(COW), prints=(b"other",)))
