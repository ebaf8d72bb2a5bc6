"""embed/dinov3 with real weights: numbers, engines, batches, shrunk decoding, near-duplicates.

Runs once for each model of the chain that lies under VISION_MODELS_DIR.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from configs import settings as settings_module
from deployments.embed.dinov3 import CHAIN, Config, Dinov3Embedder, Embedding
from tests.tolerances import BF16_DEEP, FP32, FP32_DEEP, assert_close, least_cosine
from vision.engines import MIN_COSINE
from vision.images import decode
from vision.weights.registry import FolderSource, registry
from vision.weights.store import store

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore"),
]  # those of torch.jit, by which OpenVINO converts

Array = NDArray[np.float32]
FAST = "auto"
"""The engine that this machine would serve with."""

GOLDEN = {
    # First five raw values of scene(0) and the length of all 384, by transformers' own processor and model.
    "dinov2-vits14-lineage@c1325d0c": ([-1.67261, 0.23928, 0.75699, -0.06723, 0.74526], 42.21990),
}


def models_here() -> list[str]:
    """Models of the chain that lie under VISION_MODELS_DIR; nothing is downloaded for a test."""
    root = os.environ.get("VISION_MODELS_DIR")
    folders = {
        name: source.path
        for name in CHAIN
        for source in registry().root[name].sources
        if isinstance(source, FolderSource)
    }
    return [name for name, path in folders.items() if root and (Path(root) / path).is_dir()]


@pytest.fixture(scope="module", params=models_here() or [None])
def stages(request: pytest.FixtureRequest) -> Iterator[dict[str, Dinov3Embedder]]:
    """The stage loaded by two engines."""
    if request.param is None:
        pytest.skip("no model of embed/dinov3 lies under VISION_MODELS_DIR")
    threads = torch.get_num_threads()
    settings_module.settings.cache_clear()
    store.cache_clear()
    loaded = {}
    for engine in ("torch-fp32", FAST):
        loaded[engine] = Dinov3Embedder(
            Config(models=[request.param], engine=engine, max_batch_size=2, torch_threads=2)
        )
        loaded[engine].load()
    loaded[FAST].warm_up()
    yield loaded
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()
    store.cache_clear()


def scene(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A drawn picture: soft colours behind discs, boxes and lines."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    image = colours.resize(size, Image.Resampling.BICUBIC)
    draw, (width, height) = ImageDraw.Draw(image), size
    for _ in range(rng.integers(5, 20)):
        x, y, half = rng.random() * width, rng.random() * height, (0.02 + 0.13 * rng.random()) * width
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - half, y - half, x + half, y + half), fill=tuple(rng.integers(0, 256, 3).tolist()))
    for _ in range(rng.integers(0, 10)):
        ends = rng.random((2, 2)) * size
        draw.line(
            [tuple(end) for end in ends.tolist()],
            fill=tuple(rng.integers(0, 256, 3).tolist()),
            width=width // 100,
        )
    return image


def jpeg(image: Image.Image, quality: int = 92) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def variants(image: Image.Image) -> dict[str, bytes]:
    """What becomes of a picture on its way through the web."""
    width, height = image.size
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return {
        "quality 30": jpeg(image, 30),
        "half the size": jpeg(image.resize((width // 2, height // 2))),
        "cropped": jpeg(image.crop((width // 20, height // 20, width * 19 // 20, height * 19 // 20))),
        "brighter": jpeg(ImageEnhance.Brightness(image).enhance(1.25)),
        "noisy": jpeg(Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))),
    }


def embed(stage: Dinov3Embedder, pictures: list[bytes], batch: int = 8) -> list[Embedding]:
    prepared = [stage.prepare(picture) for picture in pictures]
    results: list[Any] = []
    for start in range(0, len(prepared), batch):
        results += stage.predict_batch(prepared[start : start + batch])
    assert all(isinstance(result, Embedding) for result in results)
    return results


def cosines(a: list[Embedding], b: list[Embedding]) -> Array:
    """Of the raw features, pair by pair."""
    raw = [np.stack([embedding.raw for embedding in side]).astype(np.float64) for side in (a, b)]
    cosine: Array = (raw[0] * raw[1]).sum(1) / np.linalg.norm(raw[0], axis=1) / np.linalg.norm(raw[1], axis=1)
    return cosine


PICTURES = [png(scene(seed)) for seed in range(8)]


def test_the_numbers_are_what_they_were(stages: dict[str, Dinov3Embedder]) -> None:
    (embedding,) = embed(stages["torch-fp32"], PICTURES[:1])
    if embedding.model_version not in GOLDEN:
        pytest.skip(f"no numbers are written down for {embedding.model_version}")
    first, length = GOLDEN[embedding.model_version]
    assert_close(embedding.raw[:5], first, FP32_DEEP, scale=length)
    assert float(np.linalg.norm(embedding.raw)) == pytest.approx(length, rel=FP32_DEEP)
    (fast,) = embed(stages[FAST], PICTURES[:1])
    # Four deviations of a number whose share of the error of all 384 is as large as that of the others.
    assert_close(fast.raw[:5], first, 4 * BF16_DEEP / 384**0.5, scale=length)


def test_features_have_their_form(stages: dict[str, Dinov3Embedder]) -> None:
    for stage in stages.values():
        info = stage.info()
        (embedding,) = embed(stage, PICTURES[:1])
        assert embedding.raw.shape == embedding.unit.shape == (384,)
        assert embedding.raw.dtype == embedding.unit.dtype == np.float32
        assert float(np.linalg.norm(embedding.unit)) == pytest.approx(1, rel=FP32)
        assert embedding.model_version == info["model_version"]
        assert info["engine"] in ("torch-fp32", "torch-bf16", "openvino-bf16", "openvino-fp32")


def test_a_result_does_not_depend_on_its_batch(stages: dict[str, Dinov3Embedder]) -> None:
    for engine, stage in stages.items():
        alone, together = embed(stage, PICTURES, 1), embed(stage, PICTURES, 8)
        assert cosines(alone, together).min() > least_cosine(BF16_DEEP / 2)
        if engine == "torch-fp32":
            for one, other in zip(alone, together, strict=True):
                assert_close(other.raw, one.raw, FP32_DEEP, scale=float(np.linalg.norm(one.raw)))


def test_the_serving_engine_agrees_with_fp32(stages: dict[str, Dinov3Embedder]) -> None:
    exact, fast = (embed(stages[engine], PICTURES) for engine in ("torch-fp32", FAST))
    assert cosines(exact, fast).min() > MIN_COSINE


def test_near_duplicates_rank_first(stages: dict[str, Dinov3Embedder]) -> None:
    # Measured: 0.90 and more to their original, 0.76 and less to any other picture.
    stage = stages[FAST]
    library = np.stack([embedding.unit for embedding in embed(stage, PICTURES)])
    for seed in (0, 3, 6):
        changed = variants(scene(seed))
        for name, embedding in zip(changed, embed(stage, list(changed.values())), strict=True):
            similar = library @ embedding.unit
            assert similar[seed] > np.delete(similar, seed).max() + 0.05, name


def test_a_large_jpeg_decoded_small_has_the_same_features(stages: dict[str, Dinov3Embedder]) -> None:
    # Measured: 0.99999 on drawings, 0.9999 on photos scaled up, 0.9997 where they are decoded to less than
    # twice the model's input.
    stage = stages["torch-fp32"]
    preprocess = stage._backbone.preprocess
    for seed in (1, 2):
        data = jpeg(scene(seed, (4000, 3000)))
        full = decode(data, max_pixels=20_000_000)
        small = decode(data, max_pixels=20_000_000, shrink_to=stage.shrink * min(preprocess.size))
        assert small.shape[0] <= full.shape[0] // 2  # it was decoded small
        whole, shrunk = stage.predict_batch([preprocess(full), preprocess(small)])
        (served,) = embed(stage, [data])
        assert isinstance(whole, Embedding)
        assert isinstance(shrunk, Embedding)
        assert cosines([served], [shrunk])[0] > 0.99999  # this is what is served
        assert cosines([whole], [served])[0] > 0.995
        assert float(whole.unit @ served.unit) > 0.995
