"""Pictures for benchmarks: 640×480 JPEGs of about 70 kB, each different, made from nothing but a seed."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def jpeg(seed: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """One picture: smooth colour fields with grain, so that a JPEG decoder has a photograph's work to do."""
    rng = np.random.default_rng(seed)
    fields = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 9, (size[1], size[0], 1))
    pixels = (np.asarray(fields, np.float32) + grain).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


def jpegs(count: int, first_seed: int = 0) -> list[bytes]:
    """``count`` different pictures."""
    return [jpeg(first_seed + index) for index in range(count)]


def resized(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """``count`` JPEGs from the photos of a folder, over and over, each with other grain; read by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        with Image.open(paths[index % len(paths)]) as image:
            pixels = np.asarray(ImageOps.fit(image.convert("RGB"), size), np.float32)
        file = io.BytesIO()
        grained = (pixels + rng.normal(0, 2, (size[1], size[0], 1))).clip(0, 255).astype(np.uint8)
        Image.fromarray(grained).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made
