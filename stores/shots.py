"""Shots of videos: those of the last analysis, and the library of shots that people search."""

import hashlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from stores.records import Vector, from_blob, from_micros, to_blob, to_micros
from vision.objects.tags import Tag

ID_LENGTH: Final = 32
TEXT_SIZE: Final = 384
CLIP_SIZE: Final = 512
VECTORS: Final = ("features", "clip", "text")
BESIDE: Final = (*VECTORS, "objects")
"""Fields of a shot that are stored beside its record."""


def shot_id_of(video_asset_id: str, start_frame: int, end_frame: int) -> str:
    """Return 32 hex digits derived from the video and the frames: the same stretch is the same shot."""
    return hashlib.sha256(f"{video_asset_id}:{start_frame}:{end_frame}".encode()).hexdigest()[:ID_LENGTH]


def folded(word: str) -> str:
    """Return a word as it is compared: casefolded, with single blanks as the only separators."""
    return " ".join(word.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True, slots=True)
class Transition:
    """How a shot begins: ``kind`` (cut, dissolve, fade, …), its first and last frame, and how sure it is, 0-1."""

    kind: str
    first_frame: int
    last_frame: int
    probability: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shot:
    """Frames ``start_frame`` to ``end_frame``, both inclusive, counted from 0; times are seconds from frame 0.

    ``movement_intensity`` is a share of the frame's size per second. ``features`` (float32[384]) and ``clip``
    (float32[512], unit length) embed the key frame; ``text`` (float32[384], unit length) embeds a description of the
    shot. Each comes with the version of its model, and is None if it was not computed. Only shots of the library have
    descriptions by people (``manual_tags`` to ``usage_situations``), ``stored_at``, and ``objects``: tags of what is
    seen in it, None where nobody looked. Those of an analysis are not stored, as they follow of the video's index.
    """

    video_asset_id: str
    shot_index: int
    start_frame: int
    end_frame: int
    start_timestamp: float
    end_timestamp: float
    keyframe_frame: int
    keyframe_time: float
    camera_movement: str
    movement_intensity: float
    shot_size: str
    shot_angle: str
    framing: str
    analysis_timestamp: datetime
    transition_in: Transition | None = None
    auto_tags: tuple[str, ...] = ()
    features: Vector | None = None
    features_version: str | None = None
    clip: Vector | None = None
    clip_version: str | None = None
    manual_tags: tuple[str, ...] = ()
    emotional_tone: str | None = None
    genre: str | None = None
    scene_context: str | None = None
    usage_situations: tuple[str, ...] = ()
    text: Vector | None = None
    text_version: str | None = None
    stored_at: datetime | None = None
    objects: tuple[Tag, ...] | None = None

    @property
    def shot_id(self) -> str:
        """See ``shot_id_of``."""
        return shot_id_of(self.video_asset_id, self.start_frame, self.end_frame)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end_timestamp - self.start_timestamp

    @property
    def tags(self) -> tuple[str, ...]:
        """The manual tags if there are any, else the automatic ones."""
        return self.manual_tags or self.auto_tags


@dataclass(frozen=True, slots=True, eq=False)
class ShotAnalysis:
    """The shots of one video in order; ``models`` is a fingerprint of the models and the procedure."""

    asset_id: str
    models: str
    analyzed_at: datetime
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class ShotFilter:
    """Conditions that shots of the library must all meet; words are compared as by ``folded``.

    ``movement`` is a movement (pan_left) or its first words (pan); a shot must have all ``tags``, and show all
    ``objects``, which are compared as they are.
    """

    movement: str | None = None
    emotional_tone: str | None = None
    genre: str | None = None
    tags: tuple[str, ...] = ()
    video_asset_id: str | None = None
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ShotLabels:
    """The folded words of a shot that a search can filter by."""

    shot_id: str
    emotional_tone: str | None
    genre: str | None
    tags: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class ShotSpan:
    """Where a shot of the library is, as ``Shot`` has it, and the tags of its objects."""

    shot_id: str
    start_frame: int
    end_frame: int
    start_timestamp: float
    end_timestamp: float
    objects: tuple[Tag, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Showing:
    """Shots that show a class of objects: their places in a catalogue, int64[k], and confidences, float64[k], 0-1."""

    places: NDArray[np.int64]
    confidences: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The columns of all shots of the library that a search needs, in the order of their ids.

    ``text`` is float32[n, 384] and ``clip`` float32[n, 512], rows of unit length, zeros if the shot has no vector
    of that model version; ``has_text`` and ``has_clip`` are bool[n]. ``objects`` has the shots of each class by its
    label; in ``not_looked`` shots nobody looked for objects.
    """

    labels: tuple[ShotLabels, ...]
    text: Vector
    has_text: NDArray[np.bool_]
    clip: Vector
    has_clip: NDArray[np.bool_]
    objects: Mapping[str, Showing] = field(default_factory=dict)
    not_looked: int = 0


class Shots(Protocol):
    """Analyses and the library; every write that returned is durable."""

    async def put_analysis(self, analysis: ShotAnalysis) -> None:
        """Replace the analysis of a video. Readers see the old analysis or the new one, never a mixture."""
        ...

    async def get_analysis(self, asset_id: str) -> ShotAnalysis | None:
        """Return the analysis of a video, None if there is none."""
        ...

    async def put_shots(self, shots: Sequence[Shot]) -> None:
        """Add shots to the library, replacing those with the same ids. Raises ValueError without ``stored_at``."""
        ...

    async def get_shots(self, shot_ids: Iterable[str]) -> dict[str, Shot]:
        """Return those that are in the library, by id."""
        ...

    async def list_shots(self, shot_filter: ShotFilter, *, offset: int = 0, limit: int | None = None) -> list[Shot]:
        """Return shots of the library, latest stored first, then by video and start."""
        ...

    async def count_shots(self, shot_filter: ShotFilter) -> int:
        """Count the shots of the library that meet the conditions."""
        ...

    async def spans(self, asset_id: str) -> list[ShotSpan]:
        """Return where the shots of a video are that are in the library, in no order."""
        ...

    async def set_objects(self, objects: Mapping[str, tuple[Tag, ...] | None]) -> None:
        """Replace the tags of objects of shots of the library, by shot id; ids that are not there change nothing."""
        ...

    async def revision(self) -> int:
        """Return a number that changes with every change of the library."""
        ...

    async def catalogue(self, text_version: str, clip_version: str | None) -> Catalogue:
        """Return the whole library for a search by these models."""
        ...

    async def delete_shot(self, shot_id: str) -> bool:
        """Remove a shot from the library; False if it was not there."""
        ...

    async def delete_video(self, asset_id: str) -> int:
        """Remove the analysis and all shots of a video; return how many records there were."""
        ...

    def owner_ids(self) -> AsyncIterator[str]:
        """Yield the ids of all videos with an analysis or shots, some perhaps twice."""
        ...


_MOMENTS: Final = ("analysis_timestamp", "stored_at")
_LISTS: Final = ("auto_tags", "manual_tags", "usage_situations")
_PLAIN: Final = tuple(each.name for each in fields(Shot) if each.name not in BESIDE)


def to_json(shot: Shot) -> str:
    """Return everything but the vectors and the objects as JSON, the stored form of every backend."""
    values = {name: getattr(shot, name) for name in _PLAIN}
    for name in _MOMENTS:
        values[name] = None if values[name] is None else to_micros(values[name])
    values["transition_in"] = None if shot.transition_in is None else asdict(shot.transition_in)
    return json.dumps(values)


def to_blobs(shot: Shot) -> dict[str, bytes | None]:
    """Return the vectors by name, in the stored form of every backend."""
    return {name: None if (vector := getattr(shot, name)) is None else to_blob(vector) for name in VECTORS}


def from_row(record: str, blobs: Mapping[str, bytes | None], objects: tuple[Tag, ...] | None = None) -> Shot:
    """Return the shot of ``to_json`` and ``to_blobs``."""
    values: dict[str, Any] = json.loads(record)
    for name in _MOMENTS:
        values[name] = None if values[name] is None else from_micros(values[name])
    for name in _LISTS:
        values[name] = tuple(values[name])
    if values["transition_in"] is not None:
        values["transition_in"] = Transition(**values["transition_in"])
    values |= {name: None if (blob := blobs[name]) is None else from_blob(blob) for name in VECTORS}
    return Shot(**values, objects=objects)


def span_of(shot_id: str, record: str, objects: tuple[Tag, ...] | None) -> ShotSpan:
    """Return where the shot of ``to_json`` is."""
    values: dict[str, Any] = json.loads(record)
    frames, times = (values["start_frame"], values["end_frame"]), (values["start_timestamp"], values["end_timestamp"])
    return ShotSpan(shot_id, *frames, *times, objects)


def labels_of(shot: Shot) -> ShotLabels:
    """Return the words of a shot that a search can filter by."""
    return ShotLabels(
        shot.shot_id,
        None if shot.emotional_tone is None else folded(shot.emotional_tone),
        None if shot.genre is None else folded(shot.genre),
        frozenset(form for tag in shot.tags for form in tag_forms(tag)),
    )


def tag_forms(tag: str) -> set[str]:
    """Return the forms that match a tag: the whole, and without its category if it has one (movement:pan_left)."""
    _, _, value = tag.partition(":")
    return {folded(tag), folded(value)} - {""} if value else {folded(tag)}


def stored_moment(shot: Shot) -> int:
    """Return when a shot was stored, in microseconds since 1970. Raises ValueError without ``stored_at``."""
    if shot.stored_at is None:
        raise ValueError("a shot of the library needs the time when it was stored (stored_at)")
    return to_micros(shot.stored_at)


def catalogue_of(
    labels: Sequence[ShotLabels],
    texts: Sequence[bytes | None],
    clips: Sequence[bytes | None],
    objects: Iterable[Mapping[str, float] | None],
) -> Catalogue:
    """Return the catalogue of shots in order.

    Each with the stored forms of its two vectors or None, and the confidence of each class that it shows, None where
    nobody looked.
    """
    showing, not_looked = defaultdict[str, tuple[list[int], list[float]]](lambda: ([], [])), 0
    for place, shown in enumerate(objects):
        not_looked += shown is None
        for label, confidence in (shown or {}).items():
            places, confidences = showing[label]
            places.append(place)
            confidences.append(confidence)
    return Catalogue(
        tuple(labels),
        *_matrix(texts, TEXT_SIZE),
        *_matrix(clips, CLIP_SIZE),
        {label: Showing(np.array(places), np.array(confidences)) for label, (places, confidences) in showing.items()},
        not_looked,
    )


def _matrix(blobs: Sequence[bytes | None], size: int) -> tuple[Vector, NDArray[np.bool_]]:
    there = np.array([blob is not None for blob in blobs], np.bool_)
    rows = np.zeros((len(blobs), size), np.float32)
    if there.any():
        rows[there] = from_blob(b"".join(blob for blob in blobs if blob is not None)).reshape(-1, size)
    return rows, there
