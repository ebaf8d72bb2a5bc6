"""CLIP's two towers: how the checkpoint is read, fed and tokenised.

CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020) puts pictures and texts into one space. A vector is the
pooled output of its tower through that tower's linear projection.
"""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision.preprocess import Preprocess
from vision.weights import Weights

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]

MODEL_IDS = {"clip-vit-base-patch32": "openai/clip-vit-base-patch32"}
"""By what name a model of models.yaml is known to the clients of the API."""


class ClipTowers:
    """Verified weights of a transformers CLIPModel."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    @property
    def model(self) -> str:
        """What answers call the model."""
        return MODEL_IDS.get(self._weights.name, self.version)

    @property
    def version(self) -> str:
        """Name and hash of the weights."""
        return self._weights.version

    @cached_property
    def preprocess(self) -> Preprocess:
        """The model's own preprocessing, by the faster of its two kernels."""
        return Preprocess.from_config(self._read("preprocessor_config.json"), fast=True)

    def make_image_module(self) -> "torch.nn.Module":
        """A fresh torch module float32[N, 3, H, W] → float32[N, 512]. RuntimeError where the weights do not fit."""
        import torch
        from transformers import CLIPConfig, CLIPVisionModelWithProjection

        class ImageEmbeds(torch.nn.Module):
            def __init__(self, tower: torch.nn.Module) -> None:
                super().__init__()
                self.tower = tower

            def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
                embeds: torch.Tensor = self.tower(pixel_values=pixel_values).image_embeds
                return embeds

        config = CLIPConfig.from_dict(self._read("config.json"))
        tower = CLIPVisionModelWithProjection(config.vision_config)
        tower.load_state_dict(self._state("vision_model.", "visual_projection."))
        return ImageEmbeds(tower)

    def make_text_tower(self, device: str) -> "TextTower":
        """The text tower on ``device``, in fp32. RuntimeError where the weights do not fit."""
        from transformers import CLIPConfig, CLIPTextModelWithProjection, CLIPTokenizer

        config = CLIPConfig.from_dict(self._read("config.json"))
        tower = CLIPTextModelWithProjection(config.text_config)
        tower.load_state_dict(self._state("text_model.", "text_projection."))
        # From the verified files themselves: from_pretrained would prefer a tokenizer.json that lies beside them.
        merges = self._weights.files["merges.txt"].read_text(encoding="utf-8").splitlines()[1:]
        tokenizer = CLIPTokenizer(vocab=self._read("vocab.json"), merges=[tuple(line.split(" ")) for line in merges])
        backend = tokenizer.backend_tokenizer
        backend.enable_truncation(config.text_config.max_position_embeddings)
        return TextTower(tower.eval().to(device), backend, device)

    def finish(self, output: Array) -> Array:
        """float32[N, 512] of the image module, as it is."""
        return output

    def info(self) -> dict[str, Any]:
        """What model-info says of the weights."""
        return {
            "method": "CLIP, image and text tower",
            "model": self._weights.name,
            "model_version": self.version,
            "architecture": self._weights.architecture,
            "weights": self._weights.source,
            "licence": self._weights.licence,
            "accuracy": "ViT-B/32: 63.2 % of ImageNet without training on it (paper, table 11)",
            "input_size": list(self.preprocess.size),
            "preprocess": self._read("preprocessor_config.json"),
        }

    def _read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._weights.files[name].read_text(encoding="utf-8"))
        return content

    def _state(self, *prefixes: str) -> "dict[str, torch.Tensor]":
        import torch

        state: dict[str, torch.Tensor] = torch.load(
            self._weights.files["pytorch_model.bin"], map_location="cpu", weights_only=True, mmap=True
        )
        # Checkpoints of 2021 carry the numbers 0, 1, 2 … of the positions, which the modules now make themselves.
        return {
            name: value
            for name, value in state.items()
            if name.startswith(prefixes) and not name.endswith(".position_ids")
        }


class TextTower:
    """Texts in lower case, cut after 77 tokens → float32[512]."""

    def __init__(self, tower: Any, tokenizer: Any, device: str) -> None:
        self._tower = tower
        self._tokenizer = tokenizer
        self._device = device

    def tokenize(self, text: str) -> Tokens:
        """int64[n], 2 ≤ n ≤ 77: start, byte-pair codes, end."""
        return np.asarray(self._tokenizer.encode(text).ids, np.int64)

    def __call__(self, texts: list[Tokens]) -> Array:
        """float32[N, 512], not yet of unit length."""
        import torch

        # Attention looks back only and the end token is what is read, so padding after it changes nothing.
        codes = np.full((len(texts), max(len(text) for text in texts)), texts[0][-1], np.int64)
        for row, text in zip(codes, texts, strict=True):
            row[: len(text)] = text
        with torch.inference_mode():
            embeds: Array = self._tower(input_ids=torch.from_numpy(codes).to(self._device)).text_embeds.cpu().numpy()
        return embeds
