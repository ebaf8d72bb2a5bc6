"""Stand-ins for the models that take texts: a text is its words, and a look is the colours it names."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.dummies.dummy import Dummy
from vision.embed.clip import ClipEmbedding, TextNotSupported
from vision.embed.sentence import SentenceEmbedding
from vision.errors import InvalidInput, StageError
from vision.images import Pixels

COLOURS = ("red", "green", "blue")


class DummySentence(Dummy[str, SentenceEmbedding]):
    """A text is the sum of its words, each of which has a direction of its own."""

    key = "embed/sentence"

    def load(self) -> None:
        super().load()
        self.texts: list[str] = []
        self.failing: StageError | None = None
        """What every text ends in."""

    def predict(self, item: str) -> SentenceEmbedding:
        self.texts.append(item)
        if self.failing is not None:
            raise self.failing
        return SentenceEmbedding(meaning(item), self.version)


def meaning(text: str) -> NDArray[np.float32]:
    """float32[384] of length 1."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.casefold()).split()
    vector = sum(
        (np.random.default_rng(zlib.crc32(word.encode())).normal(size=384) for word in words), start=np.zeros(384)
    )
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class DummyLook(Dummy[Pixels | str, ClipEmbedding]):
    """CLIP for which a text is the first colour that it names."""

    key = "embed/clip"

    def predict(self, item: Pixels | str) -> ClipEmbedding:
        return ClipEmbedding(look(next(colour for colour in COLOURS if colour in str(item))), "dummy/clip")

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "text": True}


class PictureLook(DummyLook):
    """The same for pictures too: one is the colour that it has most of; one that is too wide cannot be taken."""

    widest = 400

    def predict(self, item: Pixels | str) -> ClipEmbedding:
        if isinstance(item, str):
            return super().predict(item)
        if item.shape[1] > self.widest:
            raise InvalidInput("This picture is too wide.")
        return ClipEmbedding(look(COLOURS[int(item.mean((0, 1)).argmax())]), "dummy/clip")


class BlindLook(DummyLook):
    """CLIP without a text tower, as where its weights are not available."""

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "text": False}

    def predict(self, item: Pixels | str) -> ClipEmbedding:
        raise TextNotSupported("Texts need another model.")


def look(colour: str) -> NDArray[np.float32]:
    """float32[512] of length 1; pictures of the same colour have a cosine of 1, others of 0."""
    vector = np.zeros(512, np.float32)
    vector[COLOURS.index(colour)] = 1
    return vector
