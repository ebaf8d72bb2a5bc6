"""embed/sentence: one 384-d unit vector per text, for finding descriptions that mean the same.

all-MiniLM-L6-v2 of sentence-transformers (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084; Wang et al.
2020, https://arxiv.org/abs/2002.10957): a six-layer BERT whose token outputs are averaged. A text is cut after 256
tokens, of which two mark its ends. English only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.embed.embedding import SentenceEmbedding
from vision.embed.sentence import DIMENSIONS, MAX_TOKENS, Array, Tokens, load_network, load_tokenizer, padded, pooled
from vision.errors import InvalidInput, StageError
from vision.weights import Weights, resolve_first

if TYPE_CHECKING:
    import torch

CHAIN = ["all-minilm-l6-v2"]
MAX_CHARACTERS = 20_000
"""Of one text; far more than 256 tokens, and little enough to be cut into tokens at once."""


class Config(StageConfig):
    """``user_config`` of embed/sentence; all but the batches is read at load."""

    max_batch_size: int = Field(default=32, ge=1)
    models: list[str] = Field(
        default_factory=lambda: list(CHAIN), description="names of models.yaml, first that can be had"
    )
    torch_threads: int = Field(default=1, ge=1, description="threads of torch on the CPU")
    cuda_memory_fraction: float | None = Field(
        default=None, gt=0, le=1, description="share of a GPU this process may take"
    )


SENTENCE: Final = StageRef[str, SentenceEmbedding]("embed/sentence")


class Sentence(Stage[Config, str, Tokens, SentenceEmbedding]):
    """Text → SentenceEmbedding."""

    key = SENTENCE.key
    config_class = Config
    prepare_threads = 1

    _weights: Weights
    _tokenizer: Any
    _network: "torch.nn.Module"
    _device: str

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every model when none can be had."""
        import torch

        torch.set_num_threads(self.config.torch_threads)
        self._weights = resolve_first(self.config.models)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._device == "cuda" and self.config.cuda_memory_fraction is not None:
            torch.cuda.set_per_process_memory_fraction(self.config.cuda_memory_fraction)
        self._tokenizer = load_tokenizer(self._weights)
        self._network = load_network(self._weights).to(self._device)

    def warm_up(self) -> None:
        self.predict_batch([self.prepare("a wide shot of a city at night")])

    def prepare(self, item: str) -> Tokens:
        """int64[n] of a text, 3 ≤ n ≤ 256. Raises InvalidInput for a blank or an endless one."""
        if not item.strip():
            raise InvalidInput("The text is blank; send a few words.")
        if len(item) > MAX_CHARACTERS:
            raise InvalidInput(f"The text has {len(item):,} characters; the limit is {MAX_CHARACTERS:,}.")
        return np.asarray(self._tokenizer.encode(item).ids, np.int64)

    def predict_batch(self, items: list[Tokens]) -> Sequence[SentenceEmbedding | StageError]:
        import torch

        codes, mask = padded(items)
        with torch.inference_mode():
            output: Array = (
                self._network(
                    input_ids=torch.from_numpy(codes).to(self._device),
                    attention_mask=torch.from_numpy(mask).to(self._device),
                )
                .last_hidden_state.cpu()
                .numpy()
            )
        return [SentenceEmbedding(vector, self._weights.version) for vector in pooled(output, mask)]

    def info(self) -> dict[str, Any]:
        return {
            "method": "mean of the token outputs of a BERT trained on pairs of sentences, of unit length",
            "model": self._weights.name,
            "model_version": self._weights.version,
            "architecture": self._weights.architecture,
            "weights": self._weights.source,
            "licence": self._weights.licence,
            "engine": "torch-fp32",
            "device": self._device,
            "max_tokens": MAX_TOKENS,
            "embedding_dim": DIMENSIONS,
            "score": "cosine of unit vectors, -1 to 1, higher is closer in meaning; unrelated texts are near 0",
        }
