"""Texts of shots: how a shot is described for a model that compares meanings, and texts as vectors."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from deployments.embed.clip import CLIP
from deployments.embed.sentence import SENTENCE
from graphs.web.context import Context
from graphs.web.parts import OptionalParts
from stores.records import Vector
from stores.shots import Shot, folded
from vision.embed.sentence import SentenceEmbedding
from vision.errors import StageUnavailable
from vision.quality.framing import UNDETERMINED

AT_ONCE: Final = 64
"""Texts of one request on their way to a stage, whose queue is bounded."""
NO_TEXT: Final = "shot"
"""The text of a shot about which nothing is said."""
_WORD: Final = re.compile(r"[^\W_]+")
_ENDINGS: Final = ("ings", "ing", "ies", "ed", "es", "s")
_LEAST_STEM: Final = 3
_STOP_TEXT: Final = """
    a an and are as at be been being but by for from had has have he her hers him his i in into is it its me my of off
    on onto or our out over she so some that the their them then there these they this those to under up was we were
    what when where which while who with you your shot shots scene camera need want
"""
_STOP_WORDS: Final = frozenset(_STOP_TEXT.split())


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuery:
    """A text as float32[384] of one model and, where a model for texts and pictures serves, float32[512] of that.

    ``missing`` says why there is none, as ``keyframe``: texts are then not compared with keyframes.
    """

    text: Vector
    text_version: str
    clip: Vector | None
    clip_version: str | None
    missing: Mapping[str, str] = field(default_factory=dict)


class TextEncoders:
    """Encode texts by the two stages that take them: by their meaning, and by how a picture of it would look."""

    def __init__(self, context: Context) -> None:
        self._sentence = context.stage(SENTENCE)
        self._clip = context.stage(CLIP)

    async def sentences(self, texts: Sequence[str]) -> list[SentenceEmbedding]:
        """Return one vector per text; repeated texts are embedded once. Raises StageError, such as ModelNotLoaded."""
        different = list(dict.fromkeys(texts))
        vectors: dict[str, SentenceEmbedding] = {}
        for start in range(0, len(different), AT_ONCE):
            part = different[start : start + AT_ONCE]
            vectors |= zip(part, await asyncio.gather(*map(self._sentence, part)), strict=True)
        if len({vector.model_version for vector in vectors.values()}) > 1:
            raise StageUnavailable(f"The model of {SENTENCE.key} is being changed; try again in a few seconds.")
        return [vectors[text] for text in texts]

    async def means(self, things: Sequence[Sequence[tuple[str, float]]]) -> list[SentenceEmbedding]:
        """Return of each thing the weighted mean of its texts, of unit length. Raises as ``sentences`` does."""
        embeddings = iter(await self.sentences([text for parts in things for text, _ in parts]))
        return [_mean([(next(embeddings), weight) for _, weight in parts]) for parts in things]

    async def query(self, text: str) -> EncodedQuery:
        """Return a text to search with; without CLIP's text tower by its meaning only."""
        parts = OptionalParts()
        (meaning,), look = await asyncio.gather(self.sentences([text]), parts.of("keyframe", self._clip(text)))
        if look is None:
            return EncodedQuery(meaning.vector, meaning.model_version, None, None, parts.unavailable)
        return EncodedQuery(meaning.vector, meaning.model_version, look.vector, look.model)


def _mean(parts: Sequence[tuple[SentenceEmbedding, float]]) -> SentenceEmbedding:
    total = np.sum([embedding.vector * np.float32(weight) for embedding, weight in parts], axis=0)
    return SentenceEmbedding(total / np.maximum(np.linalg.norm(total), np.float32(1e-12)), parts[0][0].model_version)


def text_parts(shot: Shot) -> list[tuple[str, float]]:
    """Return what is said about a shot and how it was filmed, each part with its weight; there is always one.

    The parts are compared as the weighted mean of their vectors. In one text, a list of tags would drown the
    description, or the other way round: over the scenes of ``ops.bench.shot_search``, 30 of 41 right shots come first
    with these weights, 27 of 41 with one text for all, 25 with descriptions alone.
    """
    tags = dict.fromkeys(folded(tag.rpartition(":")[2]) for tag in shot.tags)
    filmed = [
        f"{folded(value)}{noun}"
        for value, noun in ((shot.shot_size, " shot"), (shot.shot_angle, ""), (shot.camera_movement, " camera"))
        if value != UNDETERMINED
    ]
    parts = [
        (_sentences(shot.scene_context, *shot.usage_situations), 1.0),
        (" ".join(word for word in (shot.emotional_tone, shot.genre) if word), 0.5),
        (", ".join(tags), 0.5),
        (", ".join(filmed), 0.2),
    ]
    return [(text, weight) for text, weight in parts if text] or [(NO_TEXT, 1.0)]


def text_of(shot: Shot) -> str:
    """Return all parts in one text."""
    return _sentences(*(text for text, _ in text_parts(shot)))


def _sentences(*texts: str | None) -> str:
    return ". ".join(text.strip().rstrip(".") for text in texts if text and text.strip())


def shared_words(wanted: str, text: str) -> list[str]:
    """Return words of ``wanted`` that ``text`` has too, in any grammatical form, without stop words."""
    stems = {_stem(word) for word in _words(text)}
    return list(dict.fromkeys(word for word in _words(wanted) if _stem(word) in stems))


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS and len(word) > 1]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word.removesuffix(ending).removesuffix("e")
    return word.removesuffix("e") if len(word) > _LEAST_STEM else word
