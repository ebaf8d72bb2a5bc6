"""Sentence embeddings: a BERT whose token outputs are averaged.

all-MiniLM-L6-v2 of sentence-transformers (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084; Wang et al.
2020, https://arxiv.org/abs/2002.10957).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]

DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256
"""Tokens of a text, its two ends included; what comes after them is cut off."""


def load_tokenizer(weights: Weights) -> Any:
    """Return the tokenizer of the model: word pieces in lower case, cut after 256 tokens, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(weights.files["tokenizer.json"].read_text(encoding="utf-8"))
    # The file asks for 128 tokens, all of them always; the model was made for twice as many, and padding is ours.
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def load_network(weights: Weights) -> "torch.nn.Module":
    """Return the BertModel in fp32, in eval mode. Raises ModelNotLoaded when the checkpoint does not fit."""
    from transformers import BertModel

    # The pooler is of BERT's own training.
    network: torch.nn.Module = load_checkpoint(BertModel, weights, unused=("pooler.",), add_pooling_layer=False)
    return network


def padded(texts: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Return codes and mask, both int64[N, longest]; the mask is 1 where a text has a token."""
    codes = np.zeros((len(texts), max(len(text) for text in texts)), np.int64)
    mask = np.zeros_like(codes)
    for row, text in enumerate(texts):
        codes[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return codes, mask


def pooled(outputs: Array, mask: Tokens) -> Array:
    """Return float32[N, d] of unit length: the mean of outputs[N, n, d] over the tokens that mask[N, n] names."""
    means = (outputs * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    units: Array = (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return units
