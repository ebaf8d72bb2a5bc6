"""embed/clip on a small generated checkpoint of the real architecture: towers, tokens, mixed batches, the fallback."""

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import CLIPConfig, CLIPModel

from configs import settings as settings_module
from deployments.embed import dinov3
from deployments.embed.clip import BACKBONES, CHAIN, CLIP_MODEL, ClipEmbedder, Config, no_text
from deployments.serving.catalog import local_handle
from tests.tolerances import FP32, FP32_DOT, FP32_NETWORK, assert_close, decimals
from vision.embed.clip import ClipEmbedding, ClipTowers, TextNotSupported, check_clip_model, isometry, shrink
from vision.engines import MIN_COSINE, EngineName
from vision.errors import InvalidInput, ModelNotLoaded
from vision.weights import Registry, RegistryInvalid, Weights, registry
from vision.weights.store import Store

pytestmark = pytest.mark.numeric

NAME = "clip-tiny"
SIDE = 64
MERGES = ["a t</w>", "c at</w>", "p h", "o t", "ph ot", "phot o</w>"]
PREPROCESS = {"feature_extractor_type": "CLIPFeatureExtractor", "size": SIDE, "crop_size": SIDE}


def byte_letters() -> list[str]:
    """How byte-level BPE writes each of the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def vocabulary() -> dict[str, int]:
    letters = byte_letters()
    joined = ["".join(merge.split()) for merge in MERGES]
    ends = ["<|startoftext|>", "<|endoftext|>"]
    return {
        token: code for code, token in enumerate([*letters, *(letter + "</w>" for letter in letters), *joined, *ends])
    }


@pytest.fixture(scope="module")
def model() -> CLIPModel:
    size = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        projection_dim=512,
        # end token 2 is what the published configuration says; it means the highest code of the text
        text_config={
            **size,
            "vocab_size": len(vocabulary()),
            "projection_dim": 512,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        vision_config={**size, "image_size": SIDE, "patch_size": 32, "projection_dim": 512},
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = CLIPModel(config).eval()
        for parameter in model.parameters():
            # As they are made, scales are all one and biases all zero: that would hide a mistake.
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def folder(model: CLIPModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as the hub has them."""
    folder = tmp_path_factory.mktemp("models") / NAME
    folder.mkdir()
    positions = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    torch.save({**model.state_dict(), **positions}, folder / "pytorch_model.bin")
    model.config.to_json_file(folder / "config.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESS))
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return folder


def registry_of(folder: Path, name: str = NAME, architecture: str = "transformers CLIPModel") -> Registry:
    order = ["pytorch_model.bin", "config.json", "preprocessor_config.json", "vocab.json", "merges.txt"]
    files = {
        file: {
            "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
            "size": (folder / file).stat().st_size,
        }
        for file in order
    }
    return Registry.model_validate(
        {
            name: {
                "task": "image-text-embedding",
                "licence": "none",
                "commercial": True,
                "description": "a test",
                "architecture": architecture,
                "vram_mb": 1,
                "files": files,
                "sources": [{"folder": {"path": name}}],
            }
        }
    )


@pytest.fixture
def models(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that has the checkpoint and nothing else; on a machine with a GPU too these tests are about the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("VISION_MODELS_CACHE", str(tmp_path))
    settings_module.settings.cache_clear()
    store = Store(registry_of(folder), tmp_path / "models", folder.parent)
    # the package has a function of the module's name
    monkeypatch.setattr(import_module("vision.weights.store"), "store", lambda: store)
    threads = torch.get_num_threads()
    yield store
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()


@pytest.fixture
def stage(models: Store) -> ClipEmbedder:
    stage = ClipEmbedder(Config(models=["absent", NAME], engine="torch-fp32", max_batch_size=2))
    stage.load()
    stage.warm_up()
    return stage


def pictures(count: int, height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    pixels.flags.writeable = False  # as it lies in the object store
    return pixels


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    normed: NDArray[np.float32] = torch.nn.functional.normalize(vectors, dim=1).numpy()
    return normed


def embed(stage: ClipEmbedder, items: list[Any]) -> NDArray[np.float32]:
    results = stage.predict_batch([stage.prepare(item) for item in items])
    assert all(isinstance(result, ClipEmbedding) for result in results)
    return np.stack([result.vector for result in results if isinstance(result, ClipEmbedding)])


def test_the_image_tower_is_that_of_transformers(stage: ClipEmbedder, model: CLIPModel) -> None:
    images = pictures(3)
    batch = torch.from_numpy(np.stack([stage.prepare(image) for image in images]))
    with torch.inference_mode():
        expected = unit(model.get_image_features(pixel_values=batch).pooler_output)
    got = embed(stage, list(images))
    assert (got.shape, got.dtype) == ((3, 512), np.float32)
    assert_close(got, expected, FP32_NETWORK, scale=1)
    assert (expected @ expected.T)[0, 1] < 0.999  # it does look at the picture


def test_the_text_tower_is_that_of_transformers(stage: ClipEmbedder, model: CLIPModel) -> None:
    texts = ["a cat", "photo of a cat, at night", "CAT", "é" * 200]
    vocab = vocabulary()
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    tokens = [stage.prepare(text).tolist() for text in texts]
    assert tokens[0] == [start, vocab["a</w>"], vocab["cat</w>"], end]
    assert tokens[1][1] == vocab["photo</w>"]
    assert tokens[2] == [start, vocab["cat</w>"], end]  # lower case
    assert (len(tokens[3]), tokens[3][-1]) == (77, end)
    # The way of transformers: everything padded to 77, with a mask.
    padded = torch.tensor([row + [end] * (77 - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (77 - len(row)) for row in tokens])
    with torch.inference_mode():
        expected = unit(model.get_text_features(input_ids=padded, attention_mask=mask).pooler_output)
    assert_close(embed(stage, texts), expected, FP32_NETWORK, scale=1)
    assert (expected @ expected.T)[0, 1] < 0.999


def test_a_mixed_batch_keeps_its_order(stage: ClipEmbedder) -> None:
    first, second = pictures(2)
    items = ["a cat", first, "photo", second, "a cat"]
    together = embed(stage, items)
    alone = np.concatenate([embed(stage, [item]) for item in items])
    assert_close(together, alone, FP32_NETWORK, scale=1)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=FP32)
    np.testing.assert_array_equal(together[0], together[4])
    assert np.abs(together[1] - together[3]).max() > 0.01


@pytest.mark.filterwarnings("ignore")  # those of tracing are no business of ours
@pytest.mark.parametrize("engine", ["openvino-fp32", pytest.param("openvino-bf16", marks=pytest.mark.native)])
def test_openvino_takes_the_image_tower(models: Store, stage: ClipEmbedder, engine: EngineName) -> None:
    other = ClipEmbedder(Config(models=[NAME], engine=engine, max_batch_size=2))
    other.load()
    assert other.info()["engine"] == engine
    exact, got = embed(stage, list(pictures(5))), embed(other, list(pictures(5)))
    assert (exact * got).sum(1).min() > MIN_COSINE


def test_what_the_stage_says_of_itself(stage: ClipEmbedder, folder: Path) -> None:
    info = stage.info()
    sha = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    assert info["model_version"] == f"{NAME}@{sha[:8]}"
    assert (info["text"], info["embedding_dim"], info["input_size"]) == (True, 512, [SIDE, SIDE])
    (result,) = stage.predict_batch([stage.prepare("a cat")])
    assert isinstance(result, ClipEmbedding)
    assert result.model == info["model_version"]


def test_the_published_model_has_its_public_name(folder: Path) -> None:
    files = {path.name: path for path in folder.iterdir()}
    weights = Weights(CLIP_MODEL, folder, files, "a test", "MIT", "transformers CLIPModel", f"{CLIP_MODEL}@00000000")
    assert ClipTowers(weights).model == "openai/clip-vit-base-patch32"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_blank_text_is_refused(stage: ClipEmbedder, text: str) -> None:
    with pytest.raises(InvalidInput, match="blank"):
        stage.prepare(text)


def test_weights_that_do_not_fit_are_no_weights(model: CLIPModel, folder: Path, tmp_path: Path) -> None:
    state = model.state_dict()
    del state["visual_projection.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    files = {path.name: path for path in folder.iterdir()} | {"pytorch_model.bin": tmp_path / "pytorch_model.bin"}
    towers = ClipTowers(Weights(NAME, folder, files, "a test", "none", "transformers CLIPModel", f"{NAME}@0"))
    with pytest.raises(ModelNotLoaded, match=r"1 missing \(visual_projection\.weight\)"):
        towers.make_image_module()


async def test_one_bad_item_fails_alone(models: Store) -> None:
    handle = await local_handle(ClipEmbedder, {"models": [NAME], "engine": "torch-fp32"})
    with pytest.raises(InvalidInput, match="long side"):
        await handle(pictures(1, 2, 400)[0])
    assert (await handle("a cat")).vector.shape == (512,)


async def test_without_weights_there_is_no_answer(models: Store) -> None:
    handle = await local_handle(ClipEmbedder, {"models": ["absent"]})
    with pytest.raises(ModelNotLoaded, match="absent: not registered"):
        await handle("a cat")


def test_the_chain_ends_with_that_of_dinov3() -> None:
    assert [CLIP_MODEL, *dinov3.CHAIN] == CHAIN


@pytest.mark.parametrize("name", ["clip-mine", "someone/clip-mine"])
def test_a_setting_chooses_among_the_models_of_the_registry(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = registry().root[CLIP_MODEL].model_dump(mode="json", exclude_none=True)
    pinned = {"repo": "someone/clip-mine", "revision": "0" * 40}
    mine = {**shipped, "sources": [{"hub": pinned}]}
    (tmp_path / "models.yaml").write_text(json.dumps({"clip-mine": mine}))
    monkeypatch.setenv("VISION_MODELS_FILE", str(tmp_path / "models.yaml"))
    monkeypatch.setenv("CLIP_MODEL_NAME", name)
    settings_module.settings.cache_clear()
    check_clip_model(settings_module.settings().clip_model_name)
    assert Config().models == ["clip-mine", *BACKBONES]
    assert ClipEmbedder.model_chains(Config()) == [["clip-mine", *BACKBONES]]
    assert Config(models=["absent"]).models == ["absent"]
    assert "visiongraph models pull clip-mine" in no_text()
    settings_module.settings.cache_clear()


@pytest.mark.parametrize("name", ["openai/clip-vit-large-patch14", "dinov2-small", "x" * 5000])
def test_a_model_that_is_not_pinned_or_no_clip_is_refused(name: str) -> None:
    with pytest.raises(RegistryInvalid) as refused:
        check_clip_model(name)
    for part in ("CLIP_MODEL_NAME", CLIP_MODEL, f"openai/{CLIP_MODEL}", "visiongraph models add"):
        assert part in str(refused.value)
    assert len(str(refused.value)) < 400


def test_answers_say_which_model_is_no_clip(models: Store, stage: ClipEmbedder) -> None:
    assert stage.info()["fallback"] is False
    (embedding,) = stage.predict_batch([stage.prepare(pictures(1)[0])])
    assert isinstance(embedding, ClipEmbedding)
    assert embedding.fallback is False


def test_the_isometry_keeps_cosines_and_is_the_same_everywhere() -> None:
    matrix = isometry()
    assert (matrix.shape, matrix.dtype) == ((384, 512), np.float32)
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((50, 384)).astype(np.float32)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    projected = raw @ matrix
    np.testing.assert_allclose(projected @ projected.T, raw @ raw.T, atol=FP32_DOT)
    assert np.abs(projected).min(0).max() > 0  # every dimension is used
    np.testing.assert_allclose(matrix[0, :3], [0.05800641, 0.00051302, 0.00816039], atol=decimals(8))
    np.testing.assert_allclose(matrix[-1, -3:], [0.00109525, 0.05144757, -0.08384372], atol=decimals(8))


def test_a_large_picture_is_averaged_first() -> None:
    blocks = np.repeat(np.repeat(pictures(1, 30, 40)[0], 7, 0), 7, 1)
    blocks.flags.writeable = False
    np.testing.assert_array_equal(shrink(blocks, 30), pictures(1, 30, 40)[0])
    assert shrink(blocks, 106) is blocks  # 210 / 106 is less than two
    for height, width in ((3000, 4001), (899, 5000), (10_000, 901)):
        small = shrink(np.zeros((height, width, 3), np.uint8), 448)
        assert 448 <= min(small.shape[:2]) < 2 * 448
        ratio = small.shape[1] / small.shape[0]
        assert ratio == pytest.approx(width / height, rel=0.002)  # whole pixels of 448 and more


def test_the_fallback_answers_pictures_only(stage: ClipEmbedder) -> None:
    stage._texts = None
    assert isinstance(stage.prepare(pictures(1)[0]), np.ndarray)
    with pytest.raises(TextNotSupported, match=f"visiongraph models pull {CLIP_MODEL}") as refused:
        stage.prepare("a cat")
    assert (refused.value.code, refused.value.status) == ("MODEL_NOT_LOADED", 503)
