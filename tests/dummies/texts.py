"""Stand-ins for the models that take texts: a text is its words, and a look is the colours it names."""

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deployments.serving.stage import Stage, StageConfig
from vision.embed.embedding import ClipEmbedding, SentenceEmbedding, TextNotSupported
from vision.errors import StageError
from vision.images import Pixels

COLOURS = ("red", "green", "blue")


class DummySentence(Stage[StageConfig, str, str, SentenceEmbedding]):
    """A text is the sum of its words, each of which has a direction of its own."""

    key = "embed/sentence"
    running: ClassVar["DummySentence"]
    """The one loaded last."""

    def load(self) -> None:
        self.version = "dummy@00000000"
        self.texts: list[str] = []
        self.failing: StageError | None = None
        """What every text ends in."""
        DummySentence.running = self

    def predict_batch(self, items: list[str]) -> Sequence[SentenceEmbedding | StageError]:
        self.texts += items
        return [self.failing or SentenceEmbedding(meaning(item), self.version) for item in items]

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": self.version}


def meaning(text: str) -> NDArray[np.float32]:
    """float32[384] of length 1."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.casefold()).split()
    vector = sum(
        (np.random.default_rng(zlib.crc32(word.encode())).normal(size=384) for word in words), start=np.zeros(384)
    )
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class DummyLook(Stage[StageConfig, Pixels | str, Pixels | str, ClipEmbedding]):
    """CLIP for which a text is the first colour that it names."""

    key = "embed/clip"

    def load(self) -> None:
        pass

    def predict_batch(self, items: list[Pixels | str]) -> Sequence[ClipEmbedding | StageError]:
        return [ClipEmbedding(look(next(c for c in COLOURS if c in str(item))), "dummy/clip") for item in items]

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "text": True}


class BlindLook(DummyLook):
    """CLIP without a text tower, as where its weights cannot be had."""

    def predict_batch(self, items: list[Pixels | str]) -> Sequence[ClipEmbedding | StageError]:
        return [TextNotSupported("Texts need another model.") for _ in items]


def look(colour: str) -> NDArray[np.float32]:
    """float32[512] of length 1; pictures of the same colour have a cosine of 1, others of 0."""
    vector = np.zeros(512, np.float32)
    vector[COLOURS.index(colour)] = 1
    return vector
