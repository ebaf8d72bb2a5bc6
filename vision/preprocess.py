"""Preprocessing of images for a model, as in its Hugging Face ``preprocessor_config.json``.

Results equal those of transformers' own image processors (a test compares them) in a fraction of their time: rescaling
and normalisation are one multiply-add, written directly into the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.errors import InvalidInput
from vision.images import Pixels

Tensor = NDArray[np.float32]
Size = tuple[int, int]

_IMAGENET: Final = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_HALF: Final = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_OPENAI: Final = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_SQUARE: Final = {"height": 224, "width": 224}
_CROPPED: Final = {
    "resample": 3,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": _SQUARE,
}

# Class attributes of transformers' processors, which a config may omit or set to null.
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "Bit": _OPENAI | _CROPPED,
    "CLIP": _OPENAI | _CROPPED,
    "ViT": _HALF | {"resample": 2, "size": _SQUARE},
    "Siglip": _HALF | {"resample": 3, "size": _SQUARE},
    "RTDetr": _IMAGENET | {"resample": 2, "size": {"height": 640, "width": 640}, "do_normalize": False},
    "DINOv3ViT": _IMAGENET | {"resample": 2, "size": _SQUARE},
}
_EVERY: Final = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
_SUFFIXES: Final = ("Fast", "Pil", "ImageProcessor", "FeatureExtractor")
# Without a bound, a strip of 1 x 80,000,000 pixels would be resized to 256 rows of 20 billion.
_MAX_ASPECT: Final = 50
_TORCH_MODES: Final = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop, rescale and normalise images. Sizes are (height, width) in pixels.

    ``resize``: a size, the length of the shortest edge, or None. ``in_float``: resize without rounding to 8 bits, as
    processors do that rescale first (DINOv3). ``fast``: resize 8-bit pixels by torch's SIMD kernel, five times as fast;
    no value changes by more than two grey levels. ``reducing_gap``: Pillow's, for very large inputs.
    """

    resize: Size | int | None
    crop: Size | None
    resample: int
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_float: bool = False
    fast: bool = False
    reducing_gap: float | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, fast: bool = False) -> "Preprocess":
        """Create it from a config. Raises ValueError for a processor, or an option of one, that is not supported."""
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
        for suffix in _SUFFIXES:
            kind = kind.removesuffix(suffix)
        if kind not in _DEFAULTS:
            raise ValueError(f"image processor {kind!r} is unknown; known are {', '.join(_DEFAULTS)}")
        given = {key: value for key, value in config.items() if value is not None}
        if given.get("do_pad"):
            raise ValueError("do_pad is not supported")
        values = _EVERY | _DEFAULTS[kind] | given
        normalize, crop = values["do_normalize"], values.get("do_center_crop")
        shortest = "shortest_edge" in _DEFAULTS[kind]["size"]
        return cls(
            resize=_size(values["size"], shortest) if values["do_resize"] else None,
            crop=_square(values["crop_size"]) if crop else None,
            resample=int(values["resample"]),
            rescale=float(values["rescale_factor"]) if values["do_rescale"] else 1.0,
            mean=tuple(values["image_mean"]) if normalize else (0.0,) * 3,
            std=tuple(values["image_std"]) if normalize else (1.0,) * 3,
            in_float=kind == "DINOv3ViT",
            fast=fast,
        )

    def __call__(self, image: Pixels, out: Tensor | None = None) -> Tensor:
        """Return float32 (3, h, w) for an image, uint8 (H, W, 3) RGB, written into ``out`` when given.

        Raises ``InvalidInput`` for an image too elongated to be resized by its shortest edge.
        """
        planes = self._resized(image)
        height, width = size = planes.shape[1:]
        if out is None:
            out = np.empty((3, *(self.crop or size)), np.float32)
        elif out.shape[1:] != (self.crop or size):
            raise ValueError(f"out is {out.shape}; this image gives (3, {height}, {width})")
        scale, bias = self._affine
        if self.crop is None:
            target = out
        else:
            rows, into_rows = _centred(height, self.crop[0])
            columns, into_columns = _centred(width, self.crop[1])
            planes, target = planes[:, rows, columns], out[:, into_rows, into_columns]
            if target.shape != out.shape:
                out[:] = bias  # what a zero pixel becomes
        np.multiply(planes, scale, out=target)
        np.add(target, bias, out=target)
        return out

    @property
    def size(self) -> Size:
        """Return (height, width) of every output. Raises ValueError when it depends on the image."""
        size = self.crop or self.resize
        if size is None or isinstance(size, int):
            raise ValueError("this preprocessing keeps the aspect ratio, so its output has no fixed size")
        return size

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        mean, std = np.array(self.mean), np.array(self.std)
        scale, bias = self.rescale / std, -mean / std
        return scale.astype(np.float32)[:, None, None], bias.astype(np.float32)[:, None, None]

    def _resized(self, image: Pixels) -> NDArray[Any]:
        """Return the resized image, uint8 or float32 (3, h, w) in 0..255, of uint8 (H, W, 3)."""
        height, width = image.shape[:2]
        if self.resize is None:
            return image.transpose(2, 0, 1)
        if isinstance(self.resize, int):
            short, long = sorted((height, width))
            if long > _MAX_ASPECT * short:
                raise InvalidInput(
                    f"This image has {width} x {height} pixels; its long side may be at most {_MAX_ASPECT} "
                    "times its short side. Send a crop of it."
                )
            longer = int(self.resize * long / short)  # truncated, not rounded, like transformers
            height, width = (longer, self.resize) if width <= height else (self.resize, longer)
        else:
            height, width = self.resize
        if self.fast and self.resample in _TORCH_MODES:
            return _resize_by_torch(image, height, width, _TORCH_MODES[self.resample])
        picture = Image.fromarray(image)
        if not self.in_float:
            return self._resize_by_pillow(picture, height, width).transpose(2, 0, 1)
        bands = (band.convert("F") for band in picture.split())
        return np.stack([self._resize_by_pillow(band, height, width) for band in bands])

    def _resize_by_pillow(self, picture: Image.Image, height: int, width: int) -> NDArray[Any]:
        how = Image.Resampling(self.resample)
        return np.asarray(picture.resize((width, height), how, reducing_gap=self.reducing_gap))


def _resize_by_torch(image: Pixels, height: int, width: int, mode: str) -> Pixels:
    """Resize by the kernel that torchvision (and transformers through it) uses on uint8 pixels."""
    import torch  # only paid by processes that use it

    planes = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, size=(height, width), mode=mode, antialias=True)
    pixels: Pixels = resized[0].numpy()
    return pixels


def _centred(length: int, wanted: int) -> tuple[slice, slice]:
    """Return the part of ``length`` to read and the part of ``wanted`` that it fills; the rest is padding."""
    if length >= wanted:
        start = (length - wanted) // 2
        return slice(start, start + wanted), slice(None)
    start = ceil((wanted - length) / 2)
    return slice(None), slice(start, start + length)


def _square(size: Any) -> Size:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _size(size: Any, shortest: bool) -> Size | int:
    """Parse a size; ``shortest``: a bare number of an old config is the shortest edge, not a square."""
    if isinstance(size, int):
        return size if shortest else (size, size)
    if set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"])
    if set(size) == {"height", "width"}:
        return _square(size)
    raise ValueError(f"size {dict(size)} is not supported; use height and width, or shortest_edge")
