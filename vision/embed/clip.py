"""CLIP's two towers, and the encoder that serves images in their place when the weights of CLIP are missing.

CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020) embeds images and texts in one space. A vector is the
pooled output of its tower through that tower's linear projection. Without CLIP, a backbone of embed/dinov3 is projected
to the same 512 dimensions; it takes no texts.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.embed.backbones import Backbone, load_backbone
from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.preprocess import Preprocess
from vision.weights import RegistryInvalid, Weights, registry
from vision.weights.checkpoint import load_checkpoint, output_module, read_json

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]

MODEL_IDS = {"clip-vit-base-patch32": "openai/clip-vit-base-patch32"}
"""Names that answers of the API give to models of models.yaml."""
ACCURACY = {"clip-vit-base-patch32": "ViT-B/32: 63.2 % of ImageNet without training on it (paper, table 11)"}
FROM, TO = 384, 512
SEED = 384_512


@dataclass(frozen=True, slots=True, eq=False)
class ClipEmbedding:
    """``vector``: float32[512] of length 1; ``model``: what made it. Vectors of different models are not comparable.

    ``fallback``: it is no CLIP, and serves in its place.
    """

    vector: NDArray[np.float32]
    model: str
    fallback: bool = False


class TextNotSupported(ModelNotLoaded):
    """A text cannot be embedded because the loaded model has no text tower."""


def clip_models() -> dict[str, str]:
    """Return the models that CLIP_MODEL_NAME may name: those of the registry by their name, and by their repository.

    Raises RegistryInvalid.
    """
    clips = {name: model for name, model in registry().root.items() if "CLIPModel" in model.architecture}
    hubs = {source.repo: name for name, model in clips.items() for source in model.sources if source.kind == "hub"}
    return {name: name for name in clips} | hubs


def check_clip_model(name: str) -> None:
    """Raise RegistryInvalid, with those that there are, unless CLIP_MODEL_NAME names a model of the registry."""
    if name in MODEL_IDS.values():
        return
    models = clip_models()
    if name not in models:
        raise RegistryInvalid(
            f"CLIP_MODEL_NAME: no model {name[:100]!r} with pinned weights; it may be {', '.join(sorted(models))}, or "
            "one that `visiongraph models add` has added."
        )


class ClipTowers:
    """The encoder of images and texts from the verified weights of a transformers CLIPModel."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    @property
    def model(self) -> str:
        """Return the name of the model in answers."""
        return MODEL_IDS.get(self._weights.name, self.version)

    @property
    def fallback(self) -> bool:
        """Return False: it is a CLIP."""
        return False

    @property
    def version(self) -> str:
        """Return name and hash of the weights."""
        return self._weights.version

    @cached_property
    def preprocess(self) -> Preprocess:
        """Return the model's own preprocessing with the faster of its two kernels."""
        return Preprocess.from_config(read_json(self._weights, "preprocessor_config.json"), fast=True)

    def make_image_module(self) -> "torch.nn.Module":
        """Return a new torch module, float32[N, 3, H, W] → float32[N, 512].

        Raises ModelNotLoaded when the checkpoint does not fit.
        """
        from transformers import CLIPVisionModelWithProjection

        tower = load_checkpoint(
            CLIPVisionModelWithProjection,
            self._weights,
            part="vision_config",
            unused=("text_model.", "text_projection.", "logit_scale"),
        )
        return output_module(tower, lambda output: output.image_embeds)

    def make_text_tower(self, device: str) -> "TextTower":
        """Return the text tower in fp32 on ``device``. Raises ModelNotLoaded when the checkpoint does not fit."""
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        tower = load_checkpoint(
            CLIPTextModelWithProjection,
            self._weights,
            part="text_config",
            unused=("vision_model.", "visual_projection.", "logit_scale"),
        )
        # From the verified files: the tokenizer's own loader prefers a tokenizer.json that lies beside them.
        merges = self._weights.files["merges.txt"].read_text(encoding="utf-8").splitlines()[1:]
        vocabulary = read_json(self._weights, "vocab.json")
        tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(line.split(" ")) for line in merges])
        backend = tokenizer.backend_tokenizer
        backend.enable_truncation(tower.config.max_position_embeddings)
        return TextTower(tower.to(device), backend, device)

    def finish(self, output: Array) -> Array:
        """Return the output float32[N, 512] of the image module unchanged."""
        return output

    def info(self) -> dict[str, Any]:
        """Return what model-info reports about the weights."""
        return {
            "method": "CLIP, image and text tower",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "accuracy": ACCURACY.get(self._weights.name, "as its model card says"),
            "input_size": list(self.preprocess.size),
            "preprocess": read_json(self._weights, "preprocessor_config.json"),
        }


class TextTower:
    """Embeds texts, in lower case and cut after 77 tokens."""

    def __init__(self, tower: Any, tokenizer: Any, device: str) -> None:
        self._tower = tower
        self._tokenizer = tokenizer
        self._device = device

    def tokenize(self, text: str) -> Tokens:
        """Return int64[n], 2 ≤ n ≤ 77: start, byte-pair codes, end."""
        return np.asarray(self._tokenizer.encode(text).ids, np.int64)

    def __call__(self, texts: list[Tokens]) -> Array:
        """Return float32[N, 512], not normalised."""
        import torch

        # Attention is causal and the output is read at the end token, so padding after it changes nothing.
        codes = np.full((len(texts), max(len(text) for text in texts)), texts[0][-1], np.int64)
        for row, text in zip(codes, texts, strict=True):
            row[: len(text)] = text
        with torch.inference_mode():
            embeds: Array = self._tower(input_ids=torch.from_numpy(codes).to(self._device)).text_embeds.cpu().numpy()
        return embeds


def isometry() -> Array:
    """Return a fixed matrix float32[384, 512] with orthonormal rows, the same on every machine.

    ``x @ isometry()`` preserves distances and cosines. It is computed in float64, where the rounding of any linear
    algebra library is far below a float32; the sign of each row is fixed.
    """
    gaussian = np.random.Generator(np.random.PCG64(SEED)).standard_normal((TO, FROM))
    q, r = np.linalg.qr(gaussian)
    return np.asarray((q * np.sign(np.diag(r))).T, dtype=np.float32)


class ProjectedBackbone:
    """The encoder of images from a backbone: features less their reference mean, isometrically in 512 dimensions."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    @property
    def model(self) -> str:
        """Return the name of the model in answers."""
        return f"{self.version}, projected to {TO}"

    @property
    def fallback(self) -> bool:
        """Return True: it serves in the place of CLIP."""
        return True

    @property
    def version(self) -> str:
        """Return name and hash of the weights."""
        return self._backbone.version

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocessing of the backbone."""
        return self._backbone.preprocess

    def make_image_module(self) -> "torch.nn.Module":
        """Return a new torch module, float32[N, 3, H, W] → float32[N, d]."""
        return self._backbone.make_module()

    def make_text_tower(self, device: str) -> None:
        """Return None: texts cannot be embedded in the space of these vectors."""

    def finish(self, output: Array) -> Array:
        """Return the vectors float32[N, 512] for outputs float32[N, d] of the image module."""
        centred: Array = self._backbone.project(output) - self._backbone.mean
        projected: Array = centred @ self._isometry
        return projected

    @cached_property
    def _isometry(self) -> Array:
        return isometry()

    def info(self) -> dict[str, Any]:
        """Return what model-info reports about the weights."""
        return {
            **self._backbone.info(),
            "method": f"features of {self._backbone.weights.name}, centred, projected isometrically to {TO} dimensions",
            "accuracy": (
                "not CLIP: cosines are those of embed/dinov3, and an eps chosen for CLIP's does not hold for them"
            ),
        }


class Encoder(Protocol):
    """Embeds pictures, and perhaps texts: ClipTowers or ProjectedBackbone."""

    @property
    def model(self) -> str: ...
    @property
    def fallback(self) -> bool: ...
    @property
    def version(self) -> str: ...
    @property
    def preprocess(self) -> Preprocess: ...
    def make_image_module(self) -> "torch.nn.Module": ...
    def make_text_tower(self, device: str) -> TextTower | None: ...
    def finish(self, output: Array) -> Array: ...
    def info(self) -> dict[str, Any]: ...


def load_encoder(weights: Weights) -> Encoder:
    """Return the encoder for a model of models.yaml."""
    return ClipTowers(weights) if "CLIPModel" in weights.architecture else ProjectedBackbone(load_backbone(weights))


def shrink(image: Pixels, side: int) -> Pixels:
    """Return the image with whole blocks of pixels averaged, its short side still ``side`` pixels or more."""
    import cv2

    height, width = image.shape[:2]
    block = min(height, width) // side
    if block < 2:
        return image
    size = (round(width / block), round(height / block))
    averaged: NDArray[np.uint8] = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return averaged
