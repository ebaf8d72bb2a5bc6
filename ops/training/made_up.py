"""Pictures that show nothing: blank, noise, gradients and text; what the domain check must refuse whatever else."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from vision.images import Pixels

WIDTH, HEIGHT = 480, 400
COLOURS: Final = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (110, 90, 75), (190, 140, 125), (60, 50, 45))
LINE: Final = "Ear tag 0400 was read by the gate on Monday; its muzzle was not."


def made_up() -> Iterator[tuple[str, Pixels]]:
    """(what it is, uint8 (400, 480, 3)), always the same ones."""
    rng = np.random.default_rng(0)
    for colour in COLOURS:
        yield f"blank {colour}", np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    for colour in COLOURS[2:]:
        for deviation in (5, 20, 60):
            grey = rng.normal(0, deviation, (HEIGHT, WIDTH, 1))
            yield f"noise {deviation} on {colour}", (np.array(colour) + grey).clip(0, 255).astype(np.uint8)
    yield "noise in colours", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for cells in (12, 30, 60, 120):
        for low, high, channels in ((0, 256, 3), (60, 160, 1)):
            small = rng.integers(low, high, (cells, cells, channels), dtype=np.uint8)
            image = Image.fromarray(np.broadcast_to(small, (cells, cells, 3)).astype(np.uint8))
            yield f"clouds {cells} {high}", np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    ramp = np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None]
    yield "gradient", np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).copy()
    for paper, ink in (("white", "black"), ("black", "white"), ((150, 110, 90), "black")):
        for size in (11, 24, 60):
            yield f"text {size} on {paper}", text(paper, ink, size)


def text(paper: str | tuple[int, int, int], ink: str, size: int) -> Pixels:
    """A page of one line over and over; ``size`` is the height of the letters in pixels."""
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    draw = ImageDraw.Draw(image)
    for top in range(4, HEIGHT, round(1.4 * size)):
        draw.text((6, top), LINE, fill=ink, font_size=size)
    return np.asarray(image)
