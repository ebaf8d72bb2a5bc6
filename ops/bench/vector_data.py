"""Make many vectors like those of real pictures: ``python -m ops.bench.vector_data --media FOLDER --out FILE``.

There are few pictures at hand, and a library has a million. So features are computed of varied crops of real pictures
and frames, half of them mixed from two pictures (one beside the other, or one through the other), with their colours,
brightness, sharpness and sides changed. These are the *seeds*. The rest is drawn around them: a seed, plus a normal
combination of the differences to its ``NEIGHBOURS`` nearest seeds, which is as long as those on average, all on the
unit sphere. Intrinsic dimensions are the maximum likelihood estimate of Levina and Bickel (2004) from the distances to
the 20 nearest among equally many; that of what is drawn is larger than that of the seeds, so it is harder to index.
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from configs.settings import settings
from deployments.embed.dinov3 import CHAIN
from stores.records import Vector
from vision.embed.backbones import load_backbone
from vision.engines import build_engine
from vision.weights import resolve_first

NEIGHBOURS = 24
"""Seeds whose differences to a seed span what is drawn around it."""
OF_DIMENSION = 20
"""Nearest neighbours in the estimate of the intrinsic dimension."""
BATCH = 32
FRAMES_PER_FILM = 40
PICTURES, FILMS = {".jpg", ".png", ".bmp", ".gif"}, {".mp4", ".avi"}


def pictures(media: Path) -> list[Image.Image]:
    """Return the pictures of a folder and frames of its films, of at most 640 pixels a side."""
    images = []
    for path in sorted(media.rglob("*")):
        if path.suffix.lower() in PICTURES:
            images.append(_small(Image.open(path).convert("RGB")))
        elif path.suffix.lower() in FILMS:
            images += [_small(frame) for frame in _frames(path)]
    return images


def _frames(path: Path) -> Iterator[Image.Image]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        every = max(1, (stream.frames or 1000) // FRAMES_PER_FILM)
        for number, frame in enumerate(container.decode(stream)):
            if number % every == 0:
                yield frame.to_image()


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((640, 640))
    return image


def varied(images: list[Image.Image], rng: random.Random) -> Image.Image:
    """Return a new picture made of one or two of them, 224 × 224."""
    picture = _crop(rng.choice(images), rng)
    if rng.random() < 0.5:
        other = _crop(rng.choice(images), rng)
        if rng.random() < 0.5:
            picture = Image.blend(picture, other, rng.uniform(0.15, 0.5))
        else:
            size = rng.randint(70, 180)
            picture.paste(other.resize((size, size)), (rng.randint(0, 224 - size), rng.randint(0, 224 - size)))
    for enhance in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        if rng.random() < 0.5:
            picture = enhance(picture).enhance(rng.uniform(0.5, 1.6))
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3)))
    return ImageOps.mirror(picture) if rng.random() < 0.5 else picture


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    share, aspect = rng.uniform(0.08, 1.0), rng.uniform(0.7, 1.4)
    width = min(image.width, max(16, round((share * image.width * image.height * aspect) ** 0.5)))
    height = min(image.height, max(16, round((share * image.width * image.height / aspect) ** 0.5)))
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height)).resize((224, 224), Image.Resampling.BICUBIC)


def features(media: Path, seconds: float) -> Vector:
    """Return unit vectors float32[n, 384] of as many varied pictures as this processor time allows."""
    backbone = load_backbone(resolve_first(CHAIN))
    size, cache = backbone.preprocess.size, settings().models_cache.expanduser()
    engine = build_engine("openvino-bf16", backbone.make_module, version=backbone.version, input_size=size, cache=cache)
    images, rng, units = pictures(media), random.Random(0), []
    end = time.process_time() + seconds
    while time.process_time() < end:
        batch = [backbone.preprocess(np.asarray(varied(images, rng))) for _ in range(BATCH)]
        units.append(unit(backbone.project(engine(np.stack(batch))) - backbone.mean))
    return np.concatenate(units)


def unit(vectors: Vector) -> Vector:
    """Return the rows divided by their lengths."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def nearest_rows(queries: Vector, rows: Vector, k: int) -> NDArray[np.int64]:
    """Return int64[n, k]: the row numbers of the ``k`` nearest by cosine, nearest first."""
    found = []
    for first in range(0, len(queries), 1000):
        cosines = queries[first : first + 1000] @ rows.T
        top = np.argpartition(-cosines, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosines, top, 1), axis=1)
        found.append(np.take_along_axis(top, order, 1))
    return np.concatenate(found)


def intrinsic_dimension(units: Vector, rng: np.random.Generator, sample: int = 1000) -> float:
    """Return the estimate of Levina and Bickel for a set, averaged over ``sample`` of its rows."""
    chosen = units[rng.choice(len(units), min(sample, len(units)), replace=False)]
    near = nearest_rows(chosen, units, OF_DIMENSION + 1)[:, 1:]
    distances = np.linalg.norm(units[near] - chosen[:, None], axis=2).clip(1e-6)
    logs = np.log(distances[:, -1:] / distances[:, :-1])
    return float(1 / (logs.sum(1) / (OF_DIMENSION - 2)).mean())


def drawn(seeds: Vector, near: NDArray[np.int64], rows: int, rng: np.random.Generator) -> Vector:
    """Return ``rows`` unit vectors around the seeds, of which ``near`` are the neighbours."""
    out = np.empty((rows, seeds.shape[1]), np.float32)
    for first in range(0, rows, 5000):
        chosen = rng.integers(len(seeds), size=min(5000, rows - first))
        weights = rng.standard_normal((len(chosen), 1, NEIGHBOURS), dtype=np.float32) / np.float32(NEIGHBOURS**0.5)
        steps = weights @ (seeds[near[chosen]] - seeds[chosen][:, None])
        out[first : first + len(chosen)] = unit(seeds[chosen] + steps[:, 0])
    return out


def real_like(seeds: Vector, rows: int, rng: np.random.Generator) -> tuple[Vector, dict[str, float]]:
    """Return ``rows`` unit vectors, the seeds and those drawn around them, and intrinsic dimensions of both."""
    near = nearest_rows(seeds, seeds, NEIGHBOURS + 1)[:, 1:]
    facts = {
        "seeds": float(len(seeds)),
        "their dimension": intrinsic_dimension(seeds, rng),
        "dimension of as many drawn": intrinsic_dimension(drawn(seeds, near, len(seeds), rng), rng),
    }
    made = np.concatenate([seeds[:rows], drawn(seeds, near, max(0, rows - len(seeds)), rng)])
    return made[rng.permutation(len(made))], facts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--media", type=Path, required=True, help="folder of pictures and films")
    parser.add_argument("--seconds", type=float, default=600, help="of processor time")
    parser.add_argument("--out", type=Path, required=True, help="file.npy for the unit vectors")
    options = parser.parse_args()
    np.save(options.out, features(options.media, options.seconds))


if __name__ == "__main__":
    main()
