"""What CLIP says that a keyframe shows, among the labels of ``ZERO_SHOT``; only where real CLIP weights are loaded."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from deployments.serving.handle import StageHandle
from deployments.serving.shared import SharedImage
from graphs.indexing.patience import patiently
from stores.records import Vector
from vision.embed.embedding import ClipEmbedding
from vision.shots.tags import ZERO_SHOT

TEMPERATURE: Final = 100.0
"""What CLIP multiplies cosines by (Radford et al. 2021, section 2.5)."""
SURE: Final = 0.6
"""Share of the probability of its set from which on a label is a tag."""


class Labels:
    """Compares keyframes with the sentences, which are embedded once."""

    def __init__(self, clip: StageHandle[SharedImage | str, ClipEmbedding]) -> None:
        self._clip = clip
        self._sets: Mapping[str, tuple[tuple[str, ...], Vector]] | None = None

    async def of(self, keyframe: Vector) -> list[str]:
        """Tags for a keyframe, float32[512] of unit length: of each set the label that is clearly the likeliest."""
        if self._sets is None:
            self._sets = dict(zip(ZERO_SHOT, await asyncio.gather(*map(self._set, ZERO_SHOT)), strict=True))
        tags = []
        for names, vectors in self._sets.values():
            weights = np.exp(TEMPERATURE * (vectors @ keyframe - (vectors @ keyframe).max()))
            best = int(weights.argmax())
            if weights[best] / weights.sum() >= SURE:
                tags.append(names[best])
        return tags

    async def _set(self, name: str) -> tuple[tuple[str, ...], Vector]:
        sentences = ZERO_SHOT[name]
        found: list[ClipEmbedding] = await asyncio.gather(
            *(patiently(partial(self._clip, sentence)) for sentence in sentences.values())
        )
        return tuple(sentences), np.stack([each.vector for each in found])
