"""Rank the shots of the library by how well they fit a scene.

A shot's score begins with the text: the cosine of the scene's description and the texts of the shot, not below 0.
Where CLIP serves and the shot has a vector of its keyframe, that cosine counts too, stretched from ``CLIP_RANGE`` to
0-1, as CLIP's cosines of texts and pictures lie in there. What is missing to 1 is then reduced by the share that each
boost has earned: tone, genre, tags. So a score is 0 to 1, and grows with every part.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphs.shots.texts import EncodedQuery
from graphs.web.context import Context
from stores.records import Vector
from stores.shots import Catalogue, ShotLabels, folded

KEYFRAME_WEIGHT: Final = 0.4
"""Of the key frame beside the text."""
CLIP_RANGE: Final = (0.15, 0.35)
TONE_WEIGHT: Final = 0.1
GENRE_WEIGHT: Final = 0.1
TAGS_WEIGHT: Final = 0.3
CATALOGUE_TTL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is wanted besides the description, folded; with ``strict`` a shot must have all of it."""

    emotional_tone: str | None
    genre: str | None
    tags: tuple[str, ...]
    strict: bool = False

    @classmethod
    def of(cls, emotional_tone: str | None, genre: str | None, tags: list[str], *, strict: bool) -> "Criteria":
        """Return those of a request."""
        return cls(
            None if emotional_tone is None else folded(emotional_tone),
            None if genre is None else folded(genre),
            tuple(dict.fromkeys(map(folded, tags))),
            strict,
        )

    def met(self, labels: Sequence[ShotLabels]) -> NDArray[np.float64]:
        """Return float64[n, 3]: shares (0-1) of tone, genre and tags that each shot has; tags may name any of them."""
        shares = np.zeros((len(labels), 3))
        if self.emotional_tone is not None:
            shares[:, 0] = [self.emotional_tone in (each.emotional_tone, *each.tags) for each in labels]
        if self.genre is not None:
            shares[:, 1] = [self.genre in (each.genre, *each.tags) for each in labels]
        if self.tags:
            wanted = frozenset(self.tags)
            shares[:, 2] = [len(wanted & each.tags) / len(wanted) for each in labels]
        return shares

    @property
    def all_met(self) -> tuple[float, float, float]:
        """Return the row of ``met`` of a shot that has everything."""
        return float(self.emotional_tone is not None), float(self.genre is not None), float(bool(self.tags))


@dataclass(frozen=True, slots=True)
class RankedShot:
    """One shot: its score and the parts of it, each 0-1; ``keyframe`` is None where that could not be compared.

    ``ahead``: how far its score is above the median of all that were ranked, as a share of what is possible, 0-1.
    """

    shot_id: str
    score: float
    ahead: float
    text: float
    keyframe: float | None
    emotional_tone: float
    genre: float
    tags: float


class CatalogueCache:
    """Cache the catalogue of the library, which is read anew when the library has changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reading = asyncio.Lock()
        self._key: tuple[int, str, str | None] | None = None
        self._read_at = 0.0
        self._catalogue: Catalogue | None = None

    async def get(self, text_version: str, clip_version: str | None) -> Catalogue:
        """Return all shots with their vectors of these models. Raises StoreError."""
        async with self._reading:
            key = (await self._context.shots.revision(), text_version, clip_version)
            # The age is for a writer that died between its change and the new revision.
            if self._catalogue is None or key != self._key or time.monotonic() - self._read_at > CATALOGUE_TTL_S:
                self._catalogue = await self._context.shots.catalogue(text_version, clip_version)
                self._key, self._read_at = key, time.monotonic()
            return self._catalogue


def rank(catalogue: Catalogue, query: EncodedQuery, criteria: Criteria, limit: int) -> tuple[list[RankedShot], int]:
    """Return the best ``limit`` shots, best first, and how many there were to choose from; equal ones by their ids."""
    boosts = criteria.met(catalogue.labels)
    usable = catalogue.has_text.copy()
    if criteria.strict:
        usable &= (boosts >= criteria.all_met).all(1)
    cosines = catalogue.text @ query.text
    texts = np.clip(cosines, 0, 1)
    keyframes, has_keyframe = _keyframes(catalogue, query)
    base = np.where(has_keyframe, (1 - KEYFRAME_WEIGHT) * texts + KEYFRAME_WEIGHT * keyframes, texts)
    scores = 1 - (1 - base) * (1 - boosts @ (TONE_WEIGHT, GENRE_WEIGHT, TAGS_WEIGHT))
    # Where the clipped scores are equal, the cosines still tell which is farther off.
    scores = np.clip(scores, 0, 1)
    typical = float(np.median(scores[usable])) if usable.any() else 0.0
    order = np.lexsort((np.arange(len(scores)), -cosines, -scores, ~usable))[: min(limit, int(usable.sum()))]
    return [
        RankedShot(
            catalogue.labels[place].shot_id,
            float(scores[place]),
            max(0.0, float(scores[place]) - typical) / (1 - typical) if typical < 1 else 0.0,
            float(texts[place]),
            float(keyframes[place]) if has_keyframe[place] else None,
            *map(float, boosts[place]),
        )
        for place in order
    ], int(usable.sum())


def _keyframes(catalogue: Catalogue, query: EncodedQuery) -> tuple[Vector, NDArray[np.bool_]]:
    if query.clip is None:
        return np.zeros(len(catalogue.labels), np.float32), np.zeros(len(catalogue.labels), np.bool_)
    low, high = CLIP_RANGE
    return np.clip((catalogue.clip @ query.clip - low) / (high - low), 0, 1), catalogue.has_clip
