"""Shots of videos: what an analysis measured, and the library of shots that people search."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stores.records import Vector

ID_LENGTH = 32


def shot_id_of(video_asset_id: str, start_frame: int, end_frame: int) -> str:
    """32 hex digits that follow from the video and the frames: the same stretch is the same shot."""
    return hashlib.sha256(f"{video_asset_id}:{start_frame}:{end_frame}".encode()).hexdigest()[:ID_LENGTH]


def folded(word: str) -> str:
    """A word as it is compared: without case, and of separators with blanks only."""
    return " ".join(word.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True, slots=True)
class Transition:
    """How a shot begins: ``kind`` (cut, dissolve, fade, …) and the first and last frame that it takes."""

    kind: str
    first_frame: int
    last_frame: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shot:
    """Frames ``start_frame`` to ``end_frame``, both in the shot, counted from 0; times are seconds from frame 0.

    ``movement_intensity`` is a share of the frame's size per second. ``features`` (float32[384]) and ``clip``
    (float32[512], unit length) are of the key frame; ``text`` (float32[384], unit length) is of the shot put in words.
    Each has the version of its model, and is None where it was not made. What people say of a shot (``manual_tags`` to
    ``usage_situations``) and ``stored_at`` are of the library only.
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

    @property
    def shot_id(self) -> str:
        """As by ``shot_id_of``."""
        return shot_id_of(self.video_asset_id, self.start_frame, self.end_frame)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end_timestamp - self.start_timestamp

    @property
    def tags(self) -> tuple[str, ...]:
        """The manual tags where there are any, else the automatic ones."""
        return self.manual_tags or self.auto_tags


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The shots of one video in order; ``models`` is a fingerprint of all that made them."""

    asset_id: str
    models: str
    analyzed_at: datetime
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class ShotFilter:
    """What shots of the library must be; everything is compared as ``folded`` makes it.

    ``movement`` is a movement (pan_left) or the beginning of one (pan); ``tags`` must all be there.
    """

    movement: str | None = None
    emotional_tone: str | None = None
    genre: str | None = None
    tags: tuple[str, ...] = ()
    video_asset_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ShotLabels:
    """The folded words of a shot that it can be chosen by."""

    shot_id: str
    emotional_tone: str | None
    genre: str | None
    tags: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """All shots of the library as far as a search needs them, in the order of their ids.

    ``text`` is float32[n, 384] and ``clip`` float32[n, 512], rows of unit length, zeros where the shot has no vector
    of that model version; ``has_text`` and ``has_clip`` are bool[n].
    """

    labels: tuple[ShotLabels, ...]
    text: Vector
    has_text: NDArray[np.bool_]
    clip: Vector
    has_clip: NDArray[np.bool_]


class Shots(Protocol):
    """Analyses and the library; every write that returned is durable."""

    async def put_analysis(self, analysis: Analysis) -> None:
        """Replace what is known of a video's shots. Readers see the old analysis or the new one, never a mixture."""
        ...

    async def get_analysis(self, asset_id: str) -> Analysis | None:
        """The analysis of a video, None while there is none."""
        ...

    async def put_shots(self, shots: Sequence[Shot]) -> None:
        """Add shots to the library; one with the id of a stored shot replaces it. Raises ValueError without
        ``stored_at``."""
        ...

    async def get_shots(self, shot_ids: Iterable[str]) -> dict[str, Shot]:
        """Those that are in the library."""
        ...

    async def list_shots(self, wanted: ShotFilter, *, offset: int = 0, limit: int | None = None) -> list[Shot]:
        """Shots of the library, latest stored first; of the same moment by video and start."""
        ...

    async def count_shots(self, wanted: ShotFilter) -> int:
        """How many there are."""
        ...

    async def revision(self) -> int:
        """A number that changes with every change of the library."""
        ...

    async def catalogue(self, text_version: str, clip_version: str | None) -> Catalogue:
        """The whole library for a search by these models."""
        ...

    async def delete_shot(self, shot_id: str) -> bool:
        """Take a shot out of the library; False when it was not there."""
        ...

    async def delete_video(self, asset_id: str) -> None:
        """Forget the analysis and all shots of a video."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def close(self) -> None: ...
