"""media/sharpness: blurred pictures have wider edges."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from deployments.media.sharpness import BlurScore, SharpnessMeter
from deployments.serving.catalog import local_handle
from vision.errors import InvalidInput, InvalidMedia
from vision.images import Pixels
from vision.quality.blur import edge_width


def drawing(radius: float = 0, size: tuple[int, int] = (240, 200)) -> Image.Image:
    image = Image.new("RGB", size, "grey")
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(3)
    for _ in range(12):
        x, y, side = *(rng.random(2) * size), 20 + 40 * rng.random()
        draw.rectangle((x, y, x + side, y + side), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image.filter(ImageFilter.GaussianBlur(radius))


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)


def test_the_more_blurred_the_higher() -> None:
    scores = [edge_width(pixels(drawing(radius))) for radius in (0, 1, 2, 4, 6)]
    assert all(score is not None for score in scores)
    assert scores == sorted(scores, key=float)  # type: ignore[arg-type]
    assert float(scores[-1] or 0) > 2 * float(scores[0] or 99)


def test_without_edges_there_is_no_score() -> None:
    assert edge_width(np.full((64, 64, 3), 77, np.uint8)) is None


@pytest.mark.parametrize("size", [(17, 33), (101, 67), (640, 16)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    noise.flags.writeable = False
    assert edge_width(noise) is not None


async def test_the_stage_takes_pixels_and_files() -> None:
    file = io.BytesIO()
    drawing(2).save(file, "PNG")
    handle = await local_handle(SharpnessMeter)
    from_pixels, from_file = await handle(pixels(drawing(2))), await handle(file.getvalue())
    assert isinstance(from_pixels, BlurScore)
    assert from_pixels == from_file
    with pytest.raises(InvalidInput, match="16 pixels"):
        await handle(np.zeros((15, 100, 3), np.uint8))
    with pytest.raises(InvalidMedia):
        await handle(b"no picture")
    assert "blurdetect" in (await handle.info())["method"]
