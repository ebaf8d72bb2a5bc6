"""embed/sentence: one 384-d unit vector per text, for finding descriptions that mean the same.

all-MiniLM-L6-v2 of sentence-transformers (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084; Wang et al.
2020, https://arxiv.org/abs/2002.10957): a six-layer BERT whose token outputs are averaged. A text is cut after 256
tokens, of which two mark its ends. English only.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import Field

from deployments.serving.engine_stage import TorchConfig, model_chain
from deployments.serving.stage import HubModels, Stage, StageRef
from vision.embed.sentence import DIMENSIONS, MAX_TOKENS, POOLING, SentenceEmbedding, SentenceEncoder, Tokens
from vision.errors import InvalidInput, StageError
from vision.weights import Weights, resolve_first

CHAIN = ["all-minilm-l6-v2"]
MAX_CHARACTERS = 20_000
"""Of one text; far more than 256 tokens, and few enough to tokenize quickly."""


class Config(TorchConfig):
    """``user_config`` of embed/sentence; all but the batches is read at load."""

    max_batch_size: int = Field(default=32, ge=1)
    models: list[str] = model_chain(CHAIN)


SENTENCE: Final = StageRef[str, SentenceEmbedding]("embed/sentence")


class SentenceEmbedder(Stage[Config, str, Tokens, SentenceEmbedding]):
    """Text → SentenceEmbedding."""

    key = SENTENCE.key
    config_class = Config
    prepare_threads = 1

    hub = HubModels(
        task="sentence-embedding",
        kind="a BERT of sentence-transformers with 384 numbers, whose token outputs are averaged",
        architecture="BertModel",
        files=("config.json", "tokenizer.json"),
        optional=(POOLING,),
        samples=lambda: ["a wide shot of a city at night"],
    )

    _weights: Weights
    _encoder: SentenceEncoder

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every model when none is available."""
        import torch

        torch.set_num_threads(self.config.torch_threads)
        self._weights = resolve_first(self.config.models)
        self._encoder = SentenceEncoder(self._weights, self.config.cuda_memory_fraction)

    def warm_up(self) -> None:
        self.predict_batch([self.prepare("a wide shot of a city at night")])

    def prepare(self, item: str) -> Tokens:
        """Return int64[n] of a text, 3 ≤ n ≤ 256. Raises InvalidInput for a blank or an endless one."""
        if not item.strip():
            raise InvalidInput("The text is blank; send a few words.")
        if len(item) > MAX_CHARACTERS:
            raise InvalidInput(f"The text has {len(item):,} characters; the limit is {MAX_CHARACTERS:,}.")
        return self._encoder.tokenize(item)

    def predict_batch(self, items: list[Tokens]) -> Sequence[SentenceEmbedding | StageError]:
        return [SentenceEmbedding(vector, self._weights.version) for vector in self._encoder(items)]

    def info(self) -> dict[str, Any]:
        return {
            "method": "mean of the token outputs of a BERT trained on pairs of sentences, of unit length",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "engine": "torch-fp32",
            "device": self._encoder.device,
            "max_tokens": MAX_TOKENS,
            "embedding_dim": DIMENSIONS,
            "score": "cosine of unit vectors, -1 to 1, higher is closer in meaning; unrelated texts are near 0",
        }
