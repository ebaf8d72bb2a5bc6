"""Pictures that show the same and are stored otherwise have the same features, by real weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cases.files import CASES
from tests.golden.test_dinov3 import models_here
from vision.embed.backbones import Backbone, load_backbone
from vision.images import decode
from vision.weights import resolve_first

pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore")]

PAIRS = [
    ("long_text", "long_ztxt.png", "plain.png", 99.99),
    ("long_text", "long_itxt.png", "plain.png", 99.99),
    ("long_text", "long_icc.png", "plain.png", 99.99),
    ("no_end", "no_end.jpg", "whole.jpg", 99.99),
    ("profiles", "colours_p3.png", "colours_srgb.png", 99.97),
    ("profiles", "colours_adobe.png", "colours_srgb.png", 99.97),
    ("profiles", "colours_linear.png", "colours_srgb.png", 99.97),
    ("hdr_heic", "hdr_pq.heic", "hdr_as_srgb.png", 95.0),
]
"""Maker, two files, and the least similarity in per cent, (cosine + 1) * 50."""


def test_similarities(tmp_path: Path) -> None:
    names = models_here()
    if not names:
        pytest.skip("no model of embed/dinov3 lies under VISION_MODELS_DIR")
    for maker in {pair[0] for pair in PAIRS}:
        CASES[maker](tmp_path)
    backbone = load_backbone(resolve_first(names))
    module = backbone.make_module().eval()
    files = sorted({name for _, *pair, _ in PAIRS for name in pair})
    units = dict(zip(files, unit_features(backbone, module, [tmp_path / name for name in files]), strict=True))
    for _, left, right, least in PAIRS:
        assert 50 * (float(units[left] @ units[right]) + 1) >= least, left


def unit_features(backbone: Backbone, module: torch.nn.Module, paths: list[Path]) -> np.ndarray:
    side = 2 * min(backbone.preprocess.size)
    pictures = [decode(path.read_bytes(), max_pixels=1_000_000, shrink_to=side) for path in paths]
    inputs = torch.from_numpy(np.stack([backbone.preprocess(picture) for picture in pictures]))
    with torch.inference_mode():
        raw = backbone.project(module(inputs).numpy())
    centred = raw - backbone.mean
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))
