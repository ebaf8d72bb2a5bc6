"""embed/sentence: one 384-d unit vector per text, for finding descriptions that mean the same.

all-MiniLM-L6-v2 of sentence-transformers (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084; Wang et al.
2020, https://arxiv.org/abs/2002.10957): a six-layer BERT whose token outputs are averaged. A text is cut after 256
tokens, of which two mark its ends. English only.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.embed.embedding import SentenceEmbedding
from vision.errors import InvalidInput, StageError
from vision.weights import Weights, resolve_first

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]

CHAIN = ["all-minilm-l6-v2"]
DIMENSIONS = 384
MAX_TOKENS = 256
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


def load_tokenizer(weights: Weights) -> Any:
    """The word pieces of the model, in lower case, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(weights.files["tokenizer.json"].read_text(encoding="utf-8"))
    # The file asks for 128 tokens, all of them always; the model was made for twice as many, and padding is ours.
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def load_network(weights: Weights) -> "torch.nn.Module":
    """A BertModel in fp32. RuntimeError where the weights do not fit."""
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    config = BertConfig.from_dict(json.loads(weights.files["config.json"].read_text(encoding="utf-8")))
    network = BertModel(config, add_pooling_layer=False)
    state = load_file(weights.files["model.safetensors"])
    # The pooler is of BERT's own training; positions 0, 1, 2 … are now made by the module itself.
    network.load_state_dict(
        {name: value for name, value in state.items() if not name.startswith(("pooler.", "embeddings.position_ids"))}
    )
    module: torch.nn.Module = network.eval()
    return module


def padded(texts: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Codes and mask, both int64[N, longest]; the mask is 1 where a text has a token."""
    codes = np.zeros((len(texts), max(len(text) for text in texts)), np.int64)
    mask = np.zeros_like(codes)
    for row, text in enumerate(texts):
        codes[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return codes, mask


def pooled(outputs: Array, mask: Tokens) -> Array:
    """float32[N, d] of unit length: the mean of outputs[N, n, d] over the tokens that mask[N, n] names."""
    means = (outputs * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    units: Array = (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return units
