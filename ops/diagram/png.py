"""SVG to PNG, also where no font is installed."""

import tempfile
from pathlib import Path

import resvg_py
from PIL import ImageFont

ZOOM = 2


def render_png(svg: str, *, system_fonts: bool = True) -> bytes:
    """The picture at twice its size, for screens of fine resolution."""
    with tempfile.TemporaryDirectory() as folder:
        font = _write_font(Path(folder))
        # Where none of the named fonts is installed, everything is taken from the one that comes with Pillow.
        data: bytes = resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=ZOOM,
            font_files=[str(font)],
            skip_system_fonts=not system_fonts,
            sans_serif_family="Aileron",
        )
    return bytes(data)


def _write_font(folder: Path) -> Path:
    font = ImageFont.load_default(size=12)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType and has no font to offer")
    path = folder / "aileron.ttf"
    path.write_bytes(font.font_bytes)
    return path
