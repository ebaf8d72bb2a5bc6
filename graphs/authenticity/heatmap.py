"""Heat maps: where the error level and the noise of an image stand out, as colours over it, and its faces."""

from io import BytesIO
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deployments.forensics.signal import Signals
from graphs.authenticity.findings import ImageFindings
from vision.faces.face import Face
from vision.images import Pixels, decode

SIDE: Final = 640
"""Pixels of the longer side of each panel."""
GAP: Final = 8
CAPTION: Final = 22
STRENGTH: Final = 0.6
Panel = Literal["error_level", "noise"]
PANELS: Final[tuple[Panel, ...]] = ("error_level", "noise")
QUALITY: Final = 85
COLOURS: Final = np.array([(13, 8, 135), (156, 23, 158), (237, 121, 83), (240, 249, 33)], np.float32)
"""From levels that are common in the image to those that stand out."""


def draw_heat_map(pixels: Pixels, findings: ImageFindings) -> bytes:
    """Return a WebP of two panels side by side, error level and noise; without forensic measures, of the image alone.

    ``pixels``: the judged image, uint8 (H, W, 3) RGB.
    """
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX if scale < 1 else None)
    panels = [("picture", picture)]
    if isinstance(findings.signals, Signals):
        panels = [
            ("error level", _over(picture, findings.signals.errors)),
            ("noise", _over(picture, findings.signals.noise)),
        ]
    size = len(panels) * (width + GAP) - GAP, height + CAPTION
    whole = Image.new("RGB", size, "black")
    draw = ImageDraw.Draw(whole)
    for place, (caption, panel) in enumerate(panels):
        left = place * (width + GAP)
        whole.paste(panel, (left, CAPTION))
        draw.text((left + 4, 5), caption, fill="white")
        for face in findings.faces:
            _box(draw, face, scale, left)
    file = BytesIO()
    whole.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def as_png(heat_map: bytes, panel: Panel | None = None) -> bytes:
    """Return a stored heat map as PNG, or one of its two panels without the caption."""
    image = Image.fromarray(decode(heat_map, max_pixels=16 * SIDE * SIDE))
    if panel is not None:
        width = (image.width - GAP) // 2
        left = PANELS.index(panel) * (width + GAP)
        image = image.crop((left, CAPTION, left + width, image.height))
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _over(picture: Image.Image, level: NDArray[np.float32]) -> Image.Image:
    low, high = np.percentile(level, [50, 99.5])
    share = np.clip((level - low) / max(float(high - low), 1e-6), 0, 1)
    smooth = Image.fromarray(share.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    heat = np.asarray(smooth)[..., None]
    places = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(heat[..., 0], places, COLOURS[:, channel]) for channel in range(3)], axis=-1)
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32)
    opacity = STRENGTH * (0.25 + 0.75 * heat)
    mixed = grey * (1 - opacity) + colours * opacity
    return Image.fromarray(mixed.astype(np.uint8))


def _box(draw: Any, face: Face, scale: float, left: int) -> None:
    x, y = left + face.x * scale, CAPTION + face.y * scale
    draw.rectangle((x, y, x + face.width * scale, y + face.height * scale), outline=(0, 255, 120), width=2)
