"""embed/clip with real weights: the backbone that serves without CLIP, CLIP where it is, and its published tokenizer.

Photos come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import gzip
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from configs import settings as settings_module
from deployments.embed.clip import CLIP_MODEL, ClipEmbedder, Config
from deployments.embed.dinov3 import CHAIN, Dinov3Embedder
from deployments.embed.dinov3 import Config as DinoConfig
from tests.tolerances import BF16_DEEP, FP32, FP32_DEEP, assert_close, decimals, least_cosine
from vision.embed.backbones import Embedding
from vision.embed.clip import ClipEmbedding, ClipTowers, TextNotSupported
from vision.engines import MIN_COSINE
from vision.images import decode
from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.registry import FolderSource, registry
from vision.weights.store import store

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore"),
]  # those of torch.jit, by which OpenVINO converts

Array = NDArray[np.float32]
FAST = "auto"
"""The engine that this machine would serve with."""

NEAR = "near_duplicates/mixed/ukbench00120.jpg"
COPIES = [f"near_duplicates/mixed/ukbench00120_{change}.jpg" for change in ("hflip", "resize", "rotation")]
OTHERS = [
    "near_duplicates/mixed/ukbench09268.jpg",
    *(f"near_duplicates/base/ukbench{number}.jpg" for number in ("01380", "08996", "09012", "09040", "09060", "09348")),
]
GOLDEN = {
    # First five values of NEAR, by torch fp32.
    "dinov2-vits14-lineage@c1325d0c, projected to 512": [0.01782, -0.01230, 0.06075, 0.00019, -0.00437],
}


def models_dir() -> Path:
    root = os.environ.get("VISION_MODELS_DIR")
    if not root:
        pytest.skip("VISION_MODELS_DIR is not set")
    return Path(root)


def here(name: str) -> bool:
    root = os.environ.get("VISION_MODELS_DIR")
    sources = registry().root[name].sources
    return bool(root) and any(isinstance(s, FolderSource) and (Path(root) / s.path).is_dir() for s in sources)


@pytest.fixture(scope="module")
def media() -> Path:
    folder = models_dir().parent / "media"
    if not folder.is_dir():
        pytest.skip("no folder media beside VISION_MODELS_DIR")
    return folder


@pytest.fixture(scope="module")
def cache() -> Iterator[None]:
    """A cache of its own, so that nothing is downloaded for a test or left behind by it."""
    threads = torch.get_num_threads()
    settings_module.settings.cache_clear()
    store.cache_clear()
    yield
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()
    store.cache_clear()


def loaded(model: str) -> dict[str, ClipEmbedder]:
    """The stage by two engines."""
    stages = {}
    for engine in ("torch-fp32", FAST):
        stages[engine] = ClipEmbedder(Config(models=[model], engine=engine, max_batch_size=4, torch_threads=2))
        stages[engine].load()
    stages[FAST].warm_up()
    return stages


@pytest.fixture(scope="module", params=[name for name in CHAIN if here(name)] or [None])
def fallback(request: pytest.FixtureRequest, cache: None) -> dict[str, ClipEmbedder]:
    if request.param is None:
        pytest.skip("no model of embed/dinov3 lies under VISION_MODELS_DIR")
    return loaded(request.param)


@pytest.fixture(scope="module")
def clip(cache: None) -> dict[str, ClipEmbedder]:
    if not here(CLIP_MODEL):
        pytest.skip(f"{CLIP_MODEL} does not lie under VISION_MODELS_DIR")
    return loaded(CLIP_MODEL)


def pixels(path: Path) -> NDArray[np.uint8]:
    return decode(path.read_bytes(), max_pixels=100_000_000)


def embed(stage: ClipEmbedder, items: list[Any], batch: int = 4) -> Array:
    prepared = [stage.prepare(item) for item in items]
    results: list[Any] = []
    for start in range(0, len(prepared), batch):
        results += stage.predict_batch(prepared[start : start + batch])
    assert all(isinstance(result, ClipEmbedding) for result in results)
    return np.stack([result.vector for result in results])


def test_the_numbers_are_what_they_were(fallback: dict[str, ClipEmbedder], media: Path) -> None:
    stage = fallback["torch-fp32"]
    (result,) = stage.predict_batch([stage.prepare(pixels(media / NEAR))])
    assert isinstance(result, ClipEmbedding)
    if result.model not in GOLDEN:
        pytest.skip(f"no numbers are written down for {result.model}")
    np.testing.assert_allclose(result.vector[:5], GOLDEN[result.model], atol=FP32_DEEP + decimals(5))


def test_cosines_are_those_of_dinov3(fallback: dict[str, ClipEmbedder], media: Path) -> None:
    stage = fallback["torch-fp32"]
    name = stage.info()["model"]
    dino = Dinov3Embedder(DinoConfig(models=[name], engine="torch-fp32", torch_threads=2))
    dino.load()
    paths = [media / NEAR, *(media / other for other in COPIES + OTHERS)]
    # As PNG, so that no JPEG is decoded smaller than it is.
    features = dino.predict_batch([dino.prepare(as_png(path)) for path in paths])
    unit = np.stack([feature.unit for feature in features if isinstance(feature, Embedding)])
    vectors = embed(stage, [pixels(path) for path in paths])
    assert (vectors.shape, vectors.dtype) == ((len(paths), 512), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=FP32)
    np.testing.assert_allclose(vectors @ vectors.T, unit @ unit.T, atol=FP32_DEEP)


def as_png(path: Path) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(path)).save(file, "PNG")
    return file.getvalue()


def test_near_duplicates_are_nearest(fallback: dict[str, ClipEmbedder], media: Path) -> None:
    # Measured: 0.91, 0.55 and 0.83 to the copies, 0.38 and less to any other picture.
    for stage in fallback.values():
        (original,) = embed(stage, [pixels(media / NEAR)])
        copies, others = (embed(stage, [pixels(media / name) for name in names]) for names in (COPIES, OTHERS))
        assert (copies @ original).min() > (others @ original).max() + 0.1


def test_a_result_does_not_depend_on_its_batch(fallback: dict[str, ClipEmbedder], media: Path) -> None:
    photos = [pixels(media / name) for name in OTHERS]
    for engine, stage in fallback.items():
        alone, together = embed(stage, photos, 1), embed(stage, photos, 4)
        assert (alone * together).sum(1).min() > least_cosine(BF16_DEEP / 2)
        if engine == "torch-fp32":
            assert_close(together, alone, FP32_DEEP, scale=1)


def test_the_serving_engine_agrees_with_fp32(fallback: dict[str, ClipEmbedder], media: Path) -> None:
    photos = [pixels(media / name) for name in OTHERS]
    exact, fast = (embed(fallback[engine], photos) for engine in ("torch-fp32", FAST))
    assert (exact * fast).sum(1).min() > MIN_COSINE  # measured: 0.9998


def test_a_large_picture_averaged_first_has_the_same_features(fallback: dict[str, ClipEmbedder], media: Path) -> None:
    stage = fallback["torch-fp32"]
    photo = Image.open(media / NEAR).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
    large = np.asarray(photo)
    whole = stage._encoder.preprocess(large)
    served = stage.prepare(large)
    results = stage.predict_batch([whole, served])
    vectors = [result.vector for result in results if isinstance(result, ClipEmbedding)]
    assert float(vectors[0] @ vectors[1]) > 0.998  # measured: 0.9996


def test_the_fallback_says_what_it_is(fallback: dict[str, ClipEmbedder]) -> None:
    stage = fallback[FAST]
    info = stage.info()
    assert info["text"] is False
    assert "not CLIP" in info["accuracy"]
    (result,) = stage.predict_batch([stage.prepare(np.zeros((300, 300, 3), np.uint8))])
    assert isinstance(result, ClipEmbedding)
    assert result.model == f"{info['model_version']}, projected to 512"
    assert (result.fallback, info["fallback"]) == (True, True)
    with pytest.raises(TextNotSupported, match=CLIP_MODEL):
        stage.prepare("a photo of a guitar")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """CLIP's small files, made anew from OpenAI's list of merges."""
    source = models_dir() / "clip_tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
    if not source.exists():
        pytest.skip("clip_tokenizer does not lie under VISION_MODELS_DIR")
    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1:48895]
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [*map(chr, printable), *(chr(256 + index) for index in range(256 - len(printable)))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    vocabulary = {token: code for code, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    preprocess = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    }
    texts = {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")),
        "merges.txt": "\n".join(["#version: 0.2 - Trained by `huggingface/tokenizers`", *merges, ""]),
        "preprocessor_config.json": json.dumps(preprocess, indent=2) + "\n",
    }
    folder = tmp_path_factory.mktemp("published")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: folder / name for name in texts}


def test_the_small_files_are_those_of_the_registry(published: dict[str, Path]) -> None:
    for name, path in published.items():
        spec = registry().root[CLIP_MODEL].files[name]
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (spec.size, spec.sha256)


def test_texts_become_the_published_codes(published: dict[str, Path], tmp_path: Path) -> None:
    # The real vocabulary before a tower of two small layers.
    from transformers import CLIPConfig, CLIPTextModelWithProjection

    size = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(text_config={**size, "projection_dim": 512, "eos_token_id": 2})
    torch.save(CLIPTextModelWithProjection(config.text_config).state_dict(), tmp_path / "pytorch_model.bin")
    config.to_json_file(tmp_path / "config.json")
    files = published | {path.name: path for path in tmp_path.iterdir()}
    tower = ClipTowers(
        Weights(CLIP_MODEL, tmp_path, files, "a test", "MIT", "transformers CLIPModel", f"{CLIP_MODEL}@0")
    ).make_text_tower("cpu")
    assert tower.tokenize("A photo of  a cat").tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tower.tokenize("hello world!").tolist() == [49406, 3306, 1002, 256, 49407]
    assert len(tower.tokenize("word " * 200)) == 77
    preprocess = Preprocess.from_config(json.loads(published["preprocessor_config.json"].read_text()))
    assert preprocess.size == (224, 224)


def test_clip_tells_what_a_photo_shows(clip: dict[str, ClipEmbedder], media: Path) -> None:
    shown = {
        "near_duplicates/base/ukbench09012.jpg": "a photo of an acoustic guitar",
        "iqa/ava/42042.jpg": "a photo of the wheel of a car",
        "iqa/ava/42044.jpg": "a photo of a mushroom",
        "iqa/calibra_ref/I19.bmp": "a photo of a picket fence",
    }
    for stage in clip.values():
        photos = embed(stage, [pixels(media / name) for name in shown])
        texts = embed(stage, list(shown.values()))
        assert (photos @ texts.T).argmax(1).tolist() == [0, 1, 2, 3]
        assert stage.info()["model_version"] == f"{CLIP_MODEL}@a6308213"
