"""embed/sentence on a small generated checkpoint of the real architecture: pooling, batches, bounds."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from deployments.embed import sentence
from deployments.embed.sentence import MAX_CHARACTERS, Config, SentenceEmbedder
from tests.tolerances import FP32, FP32_NETWORK, assert_close
from vision.embed.sentence import SentenceEmbedding, padded, pooled
from vision.errors import InvalidInput
from vision.weights import Weights

pytestmark = pytest.mark.numeric

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "city", "at", "night", "chase", "of", "two"]
VOCABULARY = {word: code for code, word in enumerate(WORDS)}
FILES = ("model.safetensors", "config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("tiny")
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = BertModel(config)  # with a pooler, as the published file has one
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    save_file({**network.state_dict(), "embeddings.position_ids": torch.arange(512)[None]}, folder / FILES[0])
    config.to_json_file(folder / FILES[1])
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / FILES[2]))
    files = {name: folder / name for name in FILES}
    return Weights("tiny", folder, files, "a test", "none", "BertModel", "tiny@00000000")


@pytest.fixture
def stage(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> SentenceEmbedder:
    monkeypatch.setattr(sentence, "resolve_first", lambda names: weights)
    made = SentenceEmbedder(Config())
    made.load()
    return made


def vectors(stage: SentenceEmbedder, *texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    results = stage.predict_batch([stage.prepare(text) for text in texts])
    return np.stack([result.vector for result in results if isinstance(result, SentenceEmbedding)])


def test_pooling_is_the_mean_of_the_tokens_that_are_there() -> None:
    outputs = np.array([[[3, 0], [0, 4], [9, 9]], [[0, 2], [50, 50], [50, 50]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(pooled(outputs, mask), [[0.6, 0.8], [0, 1]], atol=FP32)


def test_padding_is_masked() -> None:
    codes, mask = padded([np.array([2, 5, 3]), np.array([2, 3])])
    assert codes.tolist() == [[2, 5, 3], [2, 3, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_result_does_not_depend_on_the_batch(stage: SentenceEmbedder) -> None:
    texts = ["night", "a chase at night", "two of a city at night at night at night"]
    alone = np.concatenate([vectors(stage, text) for text in texts])
    together = vectors(stage, *texts)
    assert_close(together, alone, FP32_NETWORK, scale=1)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=FP32)
    assert together[0] @ together[1] < 0.999


def test_the_limits_of_the_file_are_not_those_of_the_stage(stage: SentenceEmbedder) -> None:
    assert stage.prepare("A City").tolist() == [2, 4, 5, 3]
    assert len(stage.prepare("night " * 1000)) == 256


def test_blank_and_endless_texts_are_refused(stage: SentenceEmbedder) -> None:
    with pytest.raises(InvalidInput, match="blank"):
        stage.prepare(" \n")
    with pytest.raises(InvalidInput, match="20,001 characters"):
        stage.prepare("a" * (MAX_CHARACTERS + 1))


def test_it_says_what_it_is(stage: SentenceEmbedder) -> None:
    info = stage.info()
    assert (info["model_version"], info["embedding_dim"], info["max_tokens"]) == ("tiny@00000000", 384, 256)
    results = stage.predict_batch([stage.prepare("night")])
    assert isinstance(results[0], SentenceEmbedding)
    assert results[0].model_version == "tiny@00000000"
