"""Rank the shots of the library by how well they fit a scene.

A shot's score begins with the text: the cosine of the scene's description and the texts of the shot, not below 0.
Where CLIP serves and the shot has a vector of its keyframe, that cosine counts too, stretched from ``CLIP_RANGE`` to
0-1, as CLIP's cosines of texts and pictures lie in there. What is missing to 1 is then reduced by the share that each
boost has earned: tone, genre, tags, and the objects that the shot shows of those that the texts name. So a score is 0
to 1, and grows with every part. Where nobody looked for objects, nothing is earned and nothing lost.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphs.shots.schemas import SuggestRequest
from graphs.shots.texts import EncodedQuery
from graphs.web.context import Context
from stores.records import Vector
from stores.shots import Catalogue, folded
from vision.objects.mentions import Vocabulary

KEYFRAME_WEIGHT: Final = 0.4
"""Of the key frame beside the text."""
CLIP_RANGE: Final = (0.15, 0.35)
TONE_WEIGHT: Final = 0.1
GENRE_WEIGHT: Final = 0.1
TAGS_WEIGHT: Final = 0.3
OBJECTS_WEIGHT: Final = 0.2
CATALOGUE_TTL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is wanted besides the description, folded; with ``strict`` a shot must have all of it but ``objects``.

    ``objects``: classes of objects that the tags or the description name, the former by tag in ``tag_classes``.
    """

    emotional_tone: str | None
    genre: str | None
    tags: tuple[str, ...]
    objects: tuple[str, ...] = ()
    tag_classes: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    @classmethod
    def of(cls, wanted: SuggestRequest, labels: Iterable[str]) -> "Criteria":
        """Return those of a request; ``labels``: classes of objects that the library has."""
        vocabulary = Vocabulary(labels)
        tags = tuple(dict.fromkeys(map(folded, wanted.desired_tags or ())))
        classes = {tag: label for tag in tags if (label := vocabulary.class_of(tag.rpartition(":")[2]))}
        named = [*classes.values(), *(label for tag in tags for label in vocabulary.named_in(tag))]
        return cls(
            None if wanted.emotional_tone is None else folded(wanted.emotional_tone),
            None if wanted.genre_context is None else folded(wanted.genre_context),
            tags,
            tuple(dict.fromkeys([*named, *vocabulary.named_in(wanted.scene_description)])),
            classes,
            wanted.strict,
        )

    def met(self, catalogue: Catalogue) -> NDArray[np.float64]:
        """Return float64[n, 4]: shares (0-1) of tone, genre, tags and objects that each shot has.

        Tags may name any of the first three; of an object the share is the confidence.
        """
        labels = catalogue.labels
        shares = np.zeros((len(labels), 4))
        if self.emotional_tone is not None:
            shares[:, 0] = [self.emotional_tone in (each.emotional_tone, *each.tags) for each in labels]
        if self.genre is not None:
            shares[:, 1] = [self.genre in (each.genre, *each.tags) for each in labels]
        if self.tags:
            wanted = frozenset(self.tags)
            shares[:, 2] = [len(wanted & each.tags) / len(wanted) for each in labels]
        for label in self.objects:
            if (showing := catalogue.objects.get(label)) is not None:
                shares[showing.places, 3] += showing.confidences / len(self.objects)
        return shares

    def all_met(self, catalogue: Catalogue, shares: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return bool[n]: which shots have the tone, the genre and every tag, given what ``met`` returned.

        A shot that shows the class that a tag names has that tag.
        """
        everything = np.ones(len(catalogue.labels), np.bool_)
        for column, wanted in enumerate((self.emotional_tone, self.genre)):
            if wanted is not None:
                everything &= shares[:, column] == 1
        seen = {tag: catalogue.objects[label] for tag, label in self.tag_classes.items() if label in catalogue.objects}
        others = frozenset(self.tags) - seen.keys()
        if self.tags and not seen:
            everything &= shares[:, 2] == 1
        elif others:
            everything &= np.array([others <= each.tags for each in catalogue.labels], np.bool_)
        for tag, showing in seen.items():
            has = np.array([tag in each.tags for each in catalogue.labels], np.bool_)
            has[showing.places] = True
            everything &= has
        return everything


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
    objects: float


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
    boosts = criteria.met(catalogue)
    usable = catalogue.has_text.copy()
    if criteria.strict:
        usable &= criteria.all_met(catalogue, boosts)
    cosines = catalogue.text @ query.text
    texts = np.clip(cosines, 0, 1)
    keyframes, has_keyframe = _keyframes(catalogue, query)
    base = np.where(has_keyframe, (1 - KEYFRAME_WEIGHT) * texts + KEYFRAME_WEIGHT * keyframes, texts)
    scores = 1 - (1 - base) * (1 - boosts @ (TONE_WEIGHT, GENRE_WEIGHT, TAGS_WEIGHT, OBJECTS_WEIGHT))
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
