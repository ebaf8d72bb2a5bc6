"""Digital source types: how a picture, film or sound came to be, in the words of IPTC and C2PA.

The vocabulary is http://cv.iptc.org/newscodes/digitalsourcetype/, and C2PA's own http://c2pa.org/digitalsourcetype/.
"""

import re
from typing import Final, Literal

Kind = Literal["generated", "partly_generated", "created", "edited", "composite", "captured"]
"""``created``: drawn or rendered by people with software. ``composite``: of several pictures, none generated."""

KINDS: Final[dict[str, Kind]] = {
    "trainedAlgorithmicMedia": "generated",
    "trainedAlgorithmicData": "generated",
    "algorithmicMedia": "generated",
    "compositeWithTrainedAlgorithmicMedia": "partly_generated",
    "compositeSynthetic": "partly_generated",
    "digitalCreation": "created",
    "digitalArt": "created",
    "softwareImage": "created",
    "dataDrivenMedia": "created",
    "virtualRecording": "created",
    "screenCapture": "created",
    "humanEdits": "edited",
    "minorHumanEdits": "edited",
    "algorithmicallyEnhanced": "edited",
    "composite": "composite",
    "compositeCapture": "composite",
    "digitalCapture": "captured",
    "computationalCapture": "captured",
    "negativeFilm": "captured",
    "positiveFilm": "captured",
    "print": "captured",
}
_LOWER: Final = {name.lower(): kind for name, kind in KINDS.items()}
RANK: Final[tuple[Kind, ...]] = ("generated", "partly_generated", "composite", "edited", "created", "captured")
"""The one that says most comes first."""
LONGEST: Final = 300
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]+")


def source_name(value: str) -> str:
    """Return the last part of a digital source type, which may be a whole URI or a name alone."""
    return value.strip().rstrip("/").rpartition("/")[2]


def source_kind(value: str) -> Kind | None:
    """Return what a digital source type says; None for one that is not in the vocabulary."""
    return _LOWER.get(source_name(value).lower())


def clean(text: object, longest: int = LONGEST) -> str:
    """Return a text of a file in one line, without control characters, cut to ``longest`` characters."""
    line = " ".join(_CONTROL.sub(" ", str(text)[: 4 * longest]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
