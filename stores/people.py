"""The people of indexed videos: traces of faces, the identities that traces of all videos belong to, and objects."""

import io
import math
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stores.records import ClassCount, Vector
from vision.objects.tags import Appearance, Tag, tags_of_stretch


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """How one video was indexed, and when.

    ``models`` is the version of the models that found the people, empty where nobody was looked for; ``cuts`` are the
    first frames of all shots but the first; faces were detected on every ``step``-th frame; ``duration`` is in seconds.
    ``objects`` is the version of the model that found the objects, None where none were looked for.
    """

    asset_id: str
    models: str
    width: int
    height: int
    fps: float
    frame_count: int
    duration: float
    step: int
    cuts: tuple[int, ...]
    trace_count: int
    indexed_at: datetime
    objects: str | None = None
    object_count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TraceBoxes:
    """A trace, or the track of an object, frame by frame.

    ``frames`` int64[n], ascending; ``boxes`` float32[n, 4] as x, y, width, height in pixels of the upright frame;
    ``confidences`` float32[n], 0-1; ``detected`` bool[n], False for interpolated boxes.
    """

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    detected: NDArray[np.bool_]

    def packed(self) -> bytes:
        """Return the arrays as one compressed ``.npz``."""
        file = io.BytesIO()
        np.savez_compressed(
            file, frames=self.frames, boxes=self.boxes, confidences=self.confidences, detected=self.detected
        )
        return file.getvalue()

    @classmethod
    def unpacked(cls, data: bytes) -> "TraceBoxes":
        """Return the boxes of ``packed``."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(arrays["frames"], arrays["boxes"], arrays["confidences"], arrays["detected"])


@dataclass(frozen=True, slots=True, eq=False)
class TraceRecord:
    """One person in one stretch of a video. ``face_count`` counts detections; times are seconds from the first frame.

    ``vector`` is the mean face vector, of length 1, or less where the faces were of low quality; ``identity_uuid`` is
    None for an unknown person.
    """

    asset_id: str
    trace_id: int
    first_frame: int
    last_frame: int
    first_time: float
    last_time: float
    face_count: int
    identity_uuid: str | None
    vector: Vector


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object in one stretch of a video; times are seconds from the first frame.

    ``label`` is its class; ``sightings`` counts detections, ``confidence`` is their mean, 0-1; ``screen_time`` is in
    seconds; ``trace_id`` is that of the face trace inside a person's track.
    """

    asset_id: str
    track_id: int
    label: str
    first_frame: int
    last_frame: int
    first_time: float
    last_time: float
    sightings: int
    confidence: float
    screen_time: float
    trace_id: int | None

    @property
    def appearance(self) -> Appearance:
        """Return when it is in sight."""
        return Appearance(self.label, self.confidence, self.first_time, self.first_time + self.screen_time)


def summary(objects: Iterable[ObjectRecord]) -> list[tuple[Tag, int]]:
    """Return the classes of the objects of a film, longest seen first, and how many tracks each has."""
    records = list(objects)
    tracks = Counter(each.label for each in records)
    tags = tags_of_stretch((each.appearance for each in records), 0.0, math.inf)
    return [(tag, tracks[tag.label]) for tag in tags]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A person across videos. ``vector`` is the mean of ``weight`` face vectors, of unit length.

    ``models`` is the version of the model that made the vector; ``references`` are asset ids of reference photos.
    ``rejected`` float32[n, d]: vectors of traces of which somebody said that they are another person.
    """

    identity_uuid: str
    name: str | None
    models: str
    vector: Vector
    weight: float
    references: tuple[str, ...]
    created_at: datetime
    rejected: Vector = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class People(Protocol):
    """Traces, objects and identities; every write that returned is durable."""

    async def put_index(
        self,
        index: VideoIndex,
        traces: Sequence[tuple[TraceRecord, TraceBoxes]],
        objects: Sequence[tuple[ObjectRecord, TraceBoxes]] = (),
    ) -> None:
        """Replace the index, traces and objects of a video. Readers see the old or the new ones, never a mixture."""
        ...

    async def put_objects(self, index: VideoIndex, objects: Sequence[tuple[ObjectRecord, TraceBoxes]]) -> bool:
        """Replace the objects of a video alone, and what its index says of them.

        False, changing nothing, where the index of the moment ``indexed_at`` is gone or replaced.
        """
        ...

    async def list_objects(
        self,
        asset_id: str,
        *,
        after: int = -1,
        limit: int | None = None,
        labels: Sequence[str] = (),
        least: float = 0.0,
    ) -> list[ObjectRecord]:
        """Return objects of a video with ids above ``after``, in order of ids.

        Those of ``labels``, where any are given, and of at least the confidence ``least``.
        """
        ...

    async def count_objects(self, asset_id: str) -> dict[str, int]:
        """Return how many objects of each class a video has, by label."""
        ...

    async def get_object(self, asset_id: str, track_id: int) -> tuple[ObjectRecord, TraceBoxes] | None:
        """Return one object with its boxes, None if there is none."""
        ...

    async def film_tags(self, asset_ids: Iterable[str]) -> dict[str, tuple[Tag, ...]]:
        """Return the classes of objects of videos, longest seen first; of those where objects were looked for."""
        ...

    async def films_with(self, labels: Sequence[str], least: float = 0.0) -> set[str]:
        """Return videos that have objects of all of these classes, one of each with at least this confidence."""
        ...

    async def films_of(self, identity_uuids: Sequence[str]) -> set[str]:
        """Return videos in which one of these identities is seen."""
        ...

    async def objects_in(self, asset_ids: Sequence[str], labels: Sequence[str]) -> list[ObjectRecord]:
        """Return the objects of these classes in some videos, in each in order of ids."""
        ...

    async def traces_in(self, asset_ids: Sequence[str], identity_uuids: Sequence[str]) -> list[TraceRecord]:
        """Return the traces of these identities in some videos, in each in order of ids."""
        ...

    async def count_classes(self, without: Collection[str] = ()) -> tuple[list[ClassCount], int]:
        """Return the classes of objects in videos, by label, and in how many videos objects were looked for.

        ``without``: ids of videos that do not count.
        """
        ...

    async def get_index(self, asset_id: str) -> VideoIndex | None:
        """Return the index of a video, None if there is none."""
        ...

    async def old_indexes(self, before: datetime, after: str = "", limit: int = 1000) -> list[str]:
        """Return the ids of videos that were indexed before a moment, in their order, from behind ``after``."""
        ...

    async def delete_index(self, asset_id: str) -> int:
        """Remove the index, traces and objects of a video; return how many records there were."""
        ...

    async def forget_reference(self, asset_id: str) -> int:
        """Remove an asset from the reference photos of all identities; return how many had it."""
        ...

    async def list_traces(
        self, asset_id: str, *, after: int = -1, limit: int | None = None, identity_uuid: str | None = None
    ) -> list[TraceRecord]:
        """Return traces of a video with ids above ``after``, in order of ids, of one identity if given."""
        ...

    async def list_appearances(
        self, identity_uuid: str, *, after: tuple[str, int] = ("", 0), limit: int | None = None
    ) -> list[TraceRecord]:
        """Return traces of one identity in all videos, by asset id and trace id, from behind ``after``."""
        ...

    async def longest_traces(self, identity_uuids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Return asset id and trace id of the trace with most faces, for each of these identities that has any."""
        ...

    async def get_trace(self, asset_id: str, trace_id: int) -> tuple[TraceRecord, TraceBoxes] | None:
        """Return one trace with its boxes, None if there is none."""
        ...

    async def set_identities(self, asset_id: str, identities: Mapping[int, str | None]) -> None:
        """Set the identities of traces of a video, by trace id."""
        ...

    async def put_identity(self, identity: Identity) -> None:
        """Add or replace an identity."""
        ...

    async def get_identities(self, identity_uuids: Iterable[str]) -> dict[str, Identity]:
        """Return those that exist, by uuid."""
        ...

    async def list_identities(self, *, after: str = "", limit: int | None = None) -> list[Identity]:
        """Return identities with uuids greater than ``after``, in order of uuids."""
        ...

    async def merge_identities(self, kept: Identity, merged: str) -> None:
        """Give all traces of ``merged`` to ``kept``, store ``kept`` as given, and delete ``merged``."""
        ...

    async def split_identity(self, kept: Identity, new: Identity, traces: Sequence[tuple[str, int]]) -> None:
        """Give these traces, by asset id and trace id, to ``new``, and store it and ``kept`` as given."""
        ...

    async def delete_identity(self, identity_uuid: str) -> bool:
        """Delete an identity, whose traces have none then; False if there was none."""
        ...

    def owner_ids(self) -> AsyncIterator[str]:
        """Yield the ids of all videos with an index, traces or objects, some perhaps several times."""
        ...
