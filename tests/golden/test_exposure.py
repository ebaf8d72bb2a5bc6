"""quality/exposure on real photos: every stop away from a good exposure scores lower."""

import os
from pathlib import Path

import numpy as np
import pytest

from deployments.quality.exposure import Config, ExposureAnalyzer
from vision.images import Pixels, decode
from vision.quality.exposure import Lighting

PHOTOS = ("calibra_ref/I06.bmp", "calibra_ref/I08.bmp", "calibra_ref/I19.bmp", "ava/42042.jpg", "ava/42044.jpg")


def exposed(photo: Pixels, stops: float) -> Pixels:
    """The photo as if exposed that much longer, by a gamma of 2.2."""
    light = (photo / 255) ** 2.2 * 2**stops
    return np.rint(light.clip(0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", PHOTOS)
def test_under_and_overexposure_score_lower(name: str) -> None:
    path = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / "iqa" / name
    if not path.is_file():
        pytest.skip(f"no media/iqa/{name} beside VISION_MODELS_DIR")
    photo = decode(path.read_bytes(), max_pixels=10**7)
    stage = ExposureAnalyzer(Config())
    darker, brighter = (
        [
            result
            for result in stage.predict_batch([stage.prepare(exposed(photo, sign * stops)) for stops in range(6)])
            if isinstance(result, Lighting)
        ]
        for sign in (-1, 1)
    )
    for results in (darker, brighter):
        scores = [result.score for result in results]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > 0.9
        assert scores[-1] < 0.6
    assert [result.mean for result in darker] == sorted((result.mean for result in darker), reverse=True)
    assert [result.shadows_clipped for result in darker] == sorted(result.shadows_clipped for result in darker)
    assert [result.highlights_clipped for result in brighter] == sorted(r.highlights_clipped for r in brighter)
    assert brighter[-1].highlights_clipped > 0.2
