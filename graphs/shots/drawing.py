"""Draws a contact sheet: the keyframes of a video in order, each with its times and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from stores.shots import Shot
from vision.media.overlay import timecode
from vision.quality.framing import UNDETERMINED

COLUMNS: Final = 5
PICTURE: Final = (320, 180)
GAP: Final = 12
LINE: Final = 20
TEXT: Final = 14
HEADER: Final = 44
PAPER: Final = (250, 250, 248)
INK: Final = (24, 24, 24)
FADED: Final = (110, 110, 110)
NOTHING: Final = (222, 222, 220)


@dataclass(frozen=True, slots=True)
class Cell:
    """One shot of a sheet; ``jpeg`` is its keyframe, None where it cannot be made."""

    shot: Shot
    jpeg: bytes | None


def sheet(title: str, cells: Sequence[Cell]) -> bytes:
    """PNG of the keyframes in rows of five, under a title."""
    from PIL import Image, ImageDraw, ImageFont

    width = COLUMNS * (PICTURE[0] + GAP) + GAP
    cell_height = PICTURE[1] + 3 * LINE + GAP
    rows = -(-len(cells) // COLUMNS)
    page = Image.new("RGB", (width, HEADER + rows * cell_height + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text(
        (GAP, GAP), _fitted(pen, title, width - 2 * GAP, ImageFont.load_default(18)), INK, ImageFont.load_default(18)
    )
    font = ImageFont.load_default(TEXT)
    for place, cell in enumerate(cells):
        left = GAP + place % COLUMNS * (PICTURE[0] + GAP)
        top = HEADER + place // COLUMNS * cell_height
        pen.rectangle((left, top, left + PICTURE[0] - 1, top + PICTURE[1] - 1), NOTHING)
        if cell.jpeg is not None:
            with Image.open(BytesIO(cell.jpeg)) as keyframe:
                scale = min(PICTURE[0] / keyframe.width, PICTURE[1] / keyframe.height)
                picture = keyframe.resize(
                    (max(1, round(keyframe.width * scale)), max(1, round(keyframe.height * scale)))
                )
                page.paste(
                    picture, (left + (PICTURE[0] - picture.width) // 2, top + (PICTURE[1] - picture.height) // 2)
                )
        for line, (text, colour) in enumerate(zip(words(cell.shot), (INK, INK, FADED), strict=True)):
            fitted = _fitted(pen, text, PICTURE[0], font)
            pen.text((left, top + PICTURE[1] + 4 + line * LINE), fitted, colour, font)
    file = BytesIO()
    # A palette is a third of the size, and no worse for pictures this small.
    page.quantize(256).save(file, "PNG", optimize=True)
    return file.getvalue()


def words(shot: Shot) -> tuple[str, str, str]:
    """Three lines: when it is, what the camera does and how near it is, and the tags that say something else."""
    measured = [shot.camera_movement, shot.shot_size, shot.shot_angle, shot.framing]
    said = [word for word in measured if word != UNDETERMINED]
    tags = [tag for tag in shot.tags if tag not in said]
    when = f"{shot.shot_index + 1}   {timecode(shot.start_timestamp)}   {shot.duration:.2f} s"
    return when, " · ".join(said) or UNDETERMINED, " · ".join(tags)


def _fitted(pen: object, text: str, width: int, font: object) -> str:
    """As much of a text as fits into a line."""
    from PIL import ImageDraw

    assert isinstance(pen, ImageDraw.ImageDraw)
    if pen.textlength(text, font) <= width:  # type: ignore[arg-type]
        return text
    while text and pen.textlength(f"{text}…", font) > width:  # type: ignore[arg-type]
        text = text[:-1]
    return f"{text}…"
