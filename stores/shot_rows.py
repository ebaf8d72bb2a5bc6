"""A shot as plain values, the same for every backend."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stores.records import Vector, from_blob, from_micros, to_blob, to_micros
from stores.shots import Catalogue, Shot, ShotLabels, Transition, folded

VECTORS: Final = ("features", "clip", "text")
MOMENTS: Final = ("analysis_timestamp", "stored_at")
LISTS: Final = ("auto_tags", "manual_tags", "usage_situations")
TEXT_SIZE: Final = 384
CLIP_SIZE: Final = 512
PLAIN: Final = tuple(field.name for field in fields(Shot) if field.name not in VECTORS)


def to_json(shot: Shot) -> str:
    """All but the vectors."""
    values = {name: getattr(shot, name) for name in PLAIN}
    for name in MOMENTS:
        values[name] = None if values[name] is None else to_micros(values[name])
    values["transition_in"] = None if shot.transition_in is None else asdict(shot.transition_in)
    return json.dumps(values)


def to_blobs(shot: Shot) -> dict[str, bytes | None]:
    """The vectors."""
    return {name: None if (vector := getattr(shot, name)) is None else to_blob(vector) for name in VECTORS}


def from_row(record: str, blobs: Mapping[str, bytes | None]) -> Shot:
    """The shot of ``to_json`` and ``to_blobs``."""
    values: dict[str, Any] = json.loads(record)
    for name in MOMENTS:
        values[name] = None if values[name] is None else from_micros(values[name])
    for name in LISTS:
        values[name] = tuple(values[name])
    if values["transition_in"] is not None:
        values["transition_in"] = Transition(**values["transition_in"])
    values |= {name: None if (blob := blobs[name]) is None else from_blob(blob) for name in VECTORS}
    return Shot(**values)


def labels_of(shot: Shot) -> ShotLabels:
    """What it can be chosen by."""
    return ShotLabels(
        shot.shot_id,
        None if shot.emotional_tone is None else folded(shot.emotional_tone),
        None if shot.genre is None else folded(shot.genre),
        frozenset(form for tag in shot.tags for form in tag_forms(tag)),
    )


def tag_forms(tag: str) -> set[str]:
    """How a tag may be asked for: whole, and where it names its category (movement:pan_left), without that."""
    _, _, value = tag.partition(":")
    return {folded(tag), folded(value)} - {""} if value else {folded(tag)}


def stored_moment(shot: Shot) -> int:
    """When it was stored, in microseconds. Raises ValueError when that is not said."""
    if shot.stored_at is None:
        raise ValueError("a shot of the library says when it was stored")
    return to_micros(shot.stored_at)


def catalogue_of(
    labels: Sequence[ShotLabels], texts: Sequence[bytes | None], clips: Sequence[bytes | None]
) -> Catalogue:
    """The catalogue of shots in order, each with its two vectors or None."""
    return Catalogue(tuple(labels), *_matrix(texts, TEXT_SIZE), *_matrix(clips, CLIP_SIZE))


def _matrix(blobs: Sequence[bytes | None], size: int) -> tuple[Vector, NDArray[np.bool_]]:
    there = np.array([blob is not None for blob in blobs], np.bool_)
    rows = np.zeros((len(blobs), size), np.float32)
    if there.any():
        rows[there] = from_blob(b"".join(blob for blob in blobs if blob is not None)).reshape(-1, size)
    return rows, there
