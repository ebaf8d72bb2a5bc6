"""Sentence embeddings: a BERT whose token outputs are averaged.

all-MiniLM-L6-v2 of sentence-transformers (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084; Wang et al.
2020, https://arxiv.org/abs/2002.10957).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.engines import has_cuda, limit_cuda_memory
from vision.errors import ModelNotLoaded
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint, read_json

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]

DIMENSIONS: Final = 384
POOLING: Final = "1_Pooling/config.json"
"""Where sentence-transformers says how token outputs become one vector."""
MAX_TOKENS: Final = 256
"""Tokens of a text, its two ends included; what comes after them is cut off."""


@dataclass(frozen=True, slots=True, eq=False)
class SentenceEmbedding:
    """``vector``: float32[384] of length 1; ``model_version``: name and hash of the weights that made it."""

    vector: NDArray[np.float32]
    model_version: str


class SentenceEncoder:
    """The tokenizer and the network of a model, by torch in fp32: on CUDA where there is one, else on the CPU."""

    def __init__(self, weights: Weights, cuda_memory_fraction: float | None = None) -> None:
        """Raises as ``load_network``, and ModelNotLoaded for a model of other sizes."""
        config = read_json(weights, "config.json")
        length, longest = config.get("hidden_size"), config.get("max_position_embeddings", 0)
        if length != DIMENSIONS:
            raise ModelNotLoaded(f"{weights.name} gives vectors of {length} numbers; {DIMENSIONS} are stored here.")
        if longest < MAX_TOKENS:
            raise ModelNotLoaded(f"{weights.name} takes {longest} tokens; texts here have up to {MAX_TOKENS}.")
        self.device = "cuda" if has_cuda() else "cpu"
        if self.device == "cuda":
            limit_cuda_memory(cuda_memory_fraction)
        self._tokenizer = load_tokenizer(weights)
        self._network = load_network(weights).to(self.device)

    def tokenize(self, text: str) -> Tokens:
        """Return int64[n], 3 ≤ n ≤ 256 for a text that is not blank."""
        return np.asarray(self._tokenizer.encode(text).ids, np.int64)

    def __call__(self, texts: Sequence[Tokens]) -> Array:
        """Return float32[N, 384] of unit length."""
        import torch

        codes, mask = (torch.from_numpy(values).to(self.device) for values in padded(texts))
        with torch.inference_mode():
            outputs: Array = self._network(input_ids=codes, attention_mask=mask).last_hidden_state.cpu().numpy()
        return pooled(outputs, mask.cpu().numpy())


def load_tokenizer(weights: Weights) -> Any:
    """Return the tokenizer of the model: word pieces in lower case, cut after 256 tokens, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(weights.files["tokenizer.json"].read_text(encoding="utf-8"))
    # The file cuts and pads to 128 tokens; the model was trained for 256, and batches are padded here.
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def load_network(weights: Weights) -> "torch.nn.Module":
    """Return the BertModel in fp32, in eval mode.

    Raises ModelNotLoaded when the checkpoint does not fit, and when its token outputs are not to be averaged.
    """
    from transformers import BertModel

    if POOLING in weights.files:
        modes = [key for key, value in read_json(weights, POOLING).items() if key.startswith("pooling_mode") and value]
        if modes != ["pooling_mode_mean_tokens"]:
            raise ModelNotLoaded(
                f"{weights.name} has {', '.join(modes) or 'no pooling'}; here token outputs are averaged."
            )
    # The pooler belongs to BERT's own training objective.
    network = load_checkpoint(BertModel, weights, unused=("pooler.",), add_pooling_layer=False)
    module: torch.nn.Module = network
    return module


def padded(texts: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Return codes and mask, both int64[N, longest]; the mask is 1 where a text has a token."""
    codes = np.zeros((len(texts), max(len(text) for text in texts)), np.int64)
    mask = np.zeros_like(codes)
    for row, text in enumerate(texts):
        codes[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return codes, mask


def pooled(outputs: Array, mask: Tokens) -> Array:
    """Return float32[N, d] of unit length: the mean of outputs[N, n, d] over the tokens in mask[N, n]."""
    means = (outputs * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    units: Array = (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return units
