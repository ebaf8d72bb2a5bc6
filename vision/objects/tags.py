"""Tags of what was seen: the classes of objects in a picture, in a film, or in a stretch of one.

An object of a film has one track for each uninterrupted stretch, so tracks are not counted: who comes back is no second
one. What can be said for certain is how long a class was seen, and how many of it at once.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision.objects.detection import DetectedObject


@dataclass(frozen=True, slots=True)
class Tag:
    """A class that was seen.

    ``confidence``: of the surest object, 0 to 1; ``at_once``: most of them in one frame; ``screen_time``: seconds with
    at least one of them, None for a picture.
    """

    label: str
    confidence: float
    at_once: int
    screen_time: float | None = None


@dataclass(frozen=True, slots=True)
class Appearance:
    """One object in one stretch of a film: seconds from ``start`` up to ``end``, which it is not seen at any more."""

    label: str
    confidence: float
    start: float
    end: float


def tags_of_picture(objects: "Iterable[DetectedObject]") -> tuple[Tag, ...]:
    """Return the tags of a picture, surest first."""
    confidences = defaultdict[str, list[float]](list)
    for each in objects:
        confidences[each.label].append(each.confidence)
    return _in_order(Tag(label, max(values), len(values)) for label, values in confidences.items())


def tags_of_stretch(appearances: Iterable[Appearance], start: float, end: float) -> tuple[Tag, ...]:
    """Return the tags of a film between two times in seconds, longest seen first."""
    inside = defaultdict[str, list[Appearance]](list)
    for each in appearances:
        if each.start < end and each.end > start:
            inside[each.label].append(each)
    return _in_order(
        Tag(
            label,
            max(each.confidence for each in them),
            *_overlaid([(max(each.start, start), min(each.end, end)) for each in them]),
        )
        for label, them in inside.items()
    )


def _overlaid(stretches: Iterable[tuple[float, float]]) -> tuple[int, float]:
    """Return how many stretches there are at once at most, and the length of what they cover together."""
    # Where one ends as another begins, they do not overlap: -1 sorts before 1.
    edges = sorted(edge for start, end in stretches for edge in ((start, 1), (end, -1)))
    at_once, most, covered, since = 0, 0, 0.0, 0.0
    for moment, step in edges:
        if at_once:
            covered += moment - since
        at_once, since = at_once + step, moment
        most = max(most, at_once)
    return most, covered


def _in_order(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    return tuple(sorted(tags, key=lambda tag: (-(tag.screen_time or 0.0), -tag.confidence, tag.label)))
