"""Tell in which pictures people are whose identities are known, by the stored vectors of their faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stores.people import Identity
from vision.faces.calibration import face_cosine

SAME_COSINE: Final = face_cosine(75.0)
"""Least cosine of two faces of one person, as of the asset API."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who is looked for: ``wanted`` is the name or uuid that was given, all of the ``identities`` are that person."""

    wanted: str
    identities: tuple[Identity, ...]

    @property
    def uuids(self) -> list[str]:
        """Return the uuids of the identities."""
        return [identity.identity_uuid for identity in self.identities]


class Recognizer:
    """Compares faces with some people, and with all others who have a name.

    ``models``: those of the faces; identities of another recognizer cannot be compared, and are not found. A face is
    that of whom it is most alike, as in films, unless somebody said of a face like it that it is not.
    """

    def __init__(self, people: Sequence[Person], known: Sequence[Identity], models: str) -> None:
        self._people = people
        wanted = {identity.identity_uuid: identity for person in people for identity in person.identities}
        named = {identity.identity_uuid: identity for identity in known if identity.name}
        self._identities = [each for each in (named | wanted).values() if models.endswith(f"+{each.models}")]
        places = {each.identity_uuid: place for place, each in enumerate(self._identities)}
        self._places = [[places[each] for each in person.uuids if each in places] for person in people]

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n, people] of float32[n, d]: how alike a face is to each person whose it is, else 0."""
        result = np.zeros((len(vectors), len(self._people)), np.float32)
        if not self._identities or not len(vectors):
            return result
        cosines = vectors @ np.stack([each.vector for each in self._identities]).T
        likely = np.flatnonzero((cosines >= SAME_COSINE).any(1))
        for place, identity in enumerate(self._identities):
            if len(identity.rejected):
                others = (vectors[likely] @ identity.rejected.T).max(1)
                cosines[likely[others >= cosines[likely, place]], place] = 0
        for row in likely:
            best = int(cosines[row].argmax())
            if cosines[row, best] >= SAME_COSINE:
                for person, own in enumerate(self._places):
                    result[row, person] = cosines[row, best] if best in own else 0
        return result
