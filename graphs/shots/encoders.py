"""Texts as vectors: of what they mean, and of what a picture of it would look like."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from deployments.embed.clip import CLIP
from deployments.embed.sentence import SENTENCE
from graphs.web.context import Context
from stores.records import Vector
from vision.embed.embedding import ClipEmbedding, SentenceEmbedding
from vision.errors import ModelNotLoaded, StageUnavailable

AT_ONCE: Final = 64
"""Texts of one request on their way to a stage, whose queue is bounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A text as float32[384] of one model and, where a model for texts and pictures serves, float32[512] of that.

    ``no_clip`` says why there is none.
    """

    text: Vector
    text_version: str
    clip: Vector | None
    clip_version: str | None
    no_clip: str | None


class Encoders:
    """The two stages that take texts."""

    def __init__(self, context: Context) -> None:
        self._sentence = context.stage(SENTENCE)
        self._clip = context.stage(CLIP)

    async def sentences(self, texts: Sequence[str]) -> list[SentenceEmbedding]:
        """One vector per text; a text that is there twice is embedded once. Raises StageError, as ModelNotLoaded."""
        different = list(dict.fromkeys(texts))
        vectors: dict[str, SentenceEmbedding] = {}
        for start in range(0, len(different), AT_ONCE):
            part = different[start : start + AT_ONCE]
            vectors |= zip(part, await asyncio.gather(*map(self._sentence, part)), strict=True)
        if len({vector.model_version for vector in vectors.values()}) > 1:
            raise StageUnavailable(f"The model of {SENTENCE.key} is being changed; try again in a few seconds.")
        return [vectors[text] for text in texts]

    async def means(self, things: Sequence[Sequence[tuple[str, float]]]) -> list[SentenceEmbedding]:
        """Of each thing the weighted mean of its texts, of unit length. Raises as ``sentences`` does."""
        found = iter(await self.sentences([text for parts in things for text, _ in parts]))
        return [_mean([(next(found), weight) for _, weight in parts]) for parts in things]

    async def query(self, text: str) -> Query:
        """A text to search with; without CLIP's text tower by its meaning only."""
        (meaning,), look = await asyncio.gather(self.sentences([text]), self._look(text))
        if isinstance(look, str):
            return Query(meaning.vector, meaning.model_version, None, None, look)
        return Query(meaning.vector, meaning.model_version, look.vector, look.model, None)

    async def _look(self, text: str) -> ClipEmbedding | str:
        try:
            embedding: ClipEmbedding = await self._clip(text)
        except ModelNotLoaded as missing:
            return missing.message
        return embedding


def _mean(parts: Sequence[tuple[SentenceEmbedding, float]]) -> SentenceEmbedding:
    total = np.sum([embedding.vector * np.float32(weight) for embedding, weight in parts], axis=0)
    return SentenceEmbedding(total / np.maximum(np.linalg.norm(total), np.float32(1e-12)), parts[0][0].model_version)
