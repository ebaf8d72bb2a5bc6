"""Records of the document store and their stored forms, the same for every backend."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.uploads import Uploads
from vision.media.sniff import MediaKind
from vision.objects.detection import DetectedObject
from vision.objects.tags import Tag, tags_of_picture

Vector = NDArray[np.float32]

PLACE_COLUMNS = 16
PLACE_BYTES = 4 * PLACE_COLUMNS
OBJECT_COLUMNS = 5

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asset:
    """One uploaded file.

    ``asset_id`` is the first 32 hex digits of the SHA-256 of its bytes and its object key. ``filename`` and
    ``uploaded_at`` are those of one of the ``uploads``, by default of the earliest; a store fills these in.
    """

    asset_id: str
    filename: str
    kind: MediaKind
    format: str
    content_type: str
    file_size: int
    uploaded_at: datetime
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    fps: float | None = None
    frame_count: int | None = None
    rotation: int | None = None
    has_audio: bool | None = None
    deleting: bool = False
    error_message: str | None = None
    uploads: Uploads = field(default=(), compare=False)

    def seen_by(self, owner: str) -> "Asset | None":
        """Return the asset with the name and time of a client's own upload, if any; None where it withdrew that."""
        if len(self.uploads) < 2:
            return self
        own = next((upload for upload in self.uploads if upload.owner == owner), None)
        if own is None:
            return self
        return None if own.withdrawn else replace(self, filename=own.filename, uploaded_at=own.uploaded_at)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of one asset by one model version.

    ``raw`` is the output of the model (float32[d]); ``unit`` is the same, centred if the model needs it and
    L2-normalised (float32[d]), the space of all similarities.
    """

    asset_id: str
    model_version: str
    kind: MediaKind
    raw: Vector
    unit: Vector
    created_at: datetime = field(compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class PictureFaces:
    """Faces of the picture of one asset, detected and embedded by one pair of models; there may be none.

    ``places`` is float32[n, 16]: x, y, width, height in pixels of the picture, confidence 0-1, five landmarks x, y,
    quality 0-1. ``vectors`` is float32[n, d], each row of length 1.
    """

    asset_id: str
    model_version: str
    places: Vector
    vectors: Vector
    created_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class PictureObjects:
    """Objects in the picture of one asset, or in a video's poster, by the detector that looked last; there may be none.

    ``model_version`` is that of its weights and its threshold. ``width`` and ``height`` are pixels of the picture,
    upright. ``labels`` are classes, ``places`` float32[n, 5]: x, y, width, height in pixels, confidence 0-1.
    """

    asset_id: str
    model_version: str
    kind: MediaKind
    width: int
    height: int
    labels: tuple[str, ...]
    places: Vector
    created_at: datetime

    @property
    def objects(self) -> tuple[DetectedObject, ...]:
        """Return the objects in their order, surest first."""
        # Rounded, as a confidence of 0.9 is not less than 0.9 after it was stored.
        return tuple(
            DetectedObject(x, y, width, height, round(confidence, 6), label)
            for label, (x, y, width, height, confidence) in zip(self.labels, self.places.tolist(), strict=True)
        )

    @property
    def tags(self) -> tuple[Tag, ...]:
        """Return the classes of the objects, surest first."""
        return tags_of_picture(self.objects)


@dataclass(frozen=True, slots=True)
class ClassCount:
    """In how many assets of one kind a class of objects is, and how many of it: in pictures objects, in films tracks.

    ``screen_time``: seconds with at least one of them in sight, of all films together.
    """

    label: str
    assets: int
    objects: int
    screen_time: float = 0.0


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970, the lossless and sortable form of a time in every backend.

    :raises ValueError: the time has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a stored time needs a time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the UTC time of ``to_micros``."""
    return _EPOCH + timedelta(microseconds=micros)


def optional_micros(moment: datetime | None) -> int | None:
    """Return ``to_micros`` of a moment, None of none."""
    return None if moment is None else to_micros(moment)


def optional_moment(micros: int | None) -> datetime | None:
    """Return what ``optional_micros`` was made of."""
    return None if micros is None else from_micros(micros)


def to_blob(vector: Vector) -> bytes:
    """Return a vector as little-endian float32."""
    return vector.astype("<f4", copy=False).tobytes()


def from_blob(blob: bytes) -> Vector:
    """Return the vector of ``to_blob``; read-only, as it shares the bytes."""
    return np.frombuffer(blob, "<f4")


def from_face_blobs(places: bytes, vectors: bytes) -> tuple[Vector, Vector]:
    """Return ``places`` and ``vectors`` of PictureFaces, read-only, from the ``to_blob`` of each."""
    rows, flat = from_blob(places).reshape(-1, PLACE_COLUMNS), from_blob(vectors)
    return rows, flat.reshape(len(rows), flat.size // max(1, len(rows)))


def stacked_faces(pictures: Iterable[tuple[str, int, bytes]]) -> tuple[list[str], Vector]:
    """Return the asset id of each face and float32[n, d], a row for each, of ids, numbers of faces and vectors."""
    ids, blobs = list[str](), list[bytes]()
    for asset_id, count, blob in pictures:
        ids += [asset_id] * count
        blobs.append(blob)
    flat = from_blob(b"".join(blobs))
    return ids, flat.reshape(len(ids), flat.size // max(1, len(ids)))


def tags_by_asset(rows: Iterable[tuple[Any, ...]]) -> dict[str, tuple[Tag, ...]]:
    """Return tags by asset of rows with its id and the fields of a tag, whose label is None where it has none."""
    tags: dict[str, list[Tag]] = {}
    for asset_id, label, *values in rows:
        own = tags.setdefault(asset_id, [])
        if label is not None:
            own.append(Tag(label, *values))
    return {asset_id: tuple(own) for asset_id, own in tags.items()}
