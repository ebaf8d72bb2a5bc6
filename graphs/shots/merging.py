"""Merge what a request says about shots with what their analysis measured, into shots of the library."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from graphs.shots.schemas import SceneContext, ShotInput, StoreShotsRequest
from stores.records import Asset
from stores.shots import Shot, ShotAnalysis, Transition, folded
from vision.errors import InvalidInput
from vision.quality.framing import SHOT_SIZES, UNDETERMINED, WIDEST
from vision.shots.movement import LABELS as MOVEMENTS

SLACK_S: Final = 1.0
"""Seconds by which a shot may end after the duration that a container states, which is often off by some frames."""
TIME_DIGITS: Final = 1e-3
"""Seconds by which a time that clients send back may differ from that of the analysis."""
CATEGORIES: Final = {
    "movement": "camera_movement",
    "size": "shot_size",
    "angle": "shot_angle",
    "framing": "framing",
    "tone": "emotional_tone",
    "genre": "genre",
}
"""Manual tags of these categories (size:close_up) say what a shot is, whatever was measured."""
LABELS: Final = {
    **{folded(label): ("camera_movement", label) for label in MOVEMENTS if label != UNDETERMINED},
    **{folded(label): ("shot_size", label) for label in (*(label for _, label in SHOT_SIZES), WIDEST)},
    **{folded(label): ("shot_angle", label) for label in ("eye_level", "high_angle", "low_angle", "dutch")},
}
"""So do manual tags that are themselves what could have been measured (close_up)."""
MEASURED: Final = ("camera_movement", "shot_size", "shot_angle", "framing")
REPLACEABLE: Final = ("shot_index", "movement_intensity", "start_timestamp", "end_timestamp", "auto_tags", *MEASURED)
"""Fields of a request that replace those of the analysis."""


def merge_shots(request: StoreShotsRequest, video: Asset, analysis: ShotAnalysis | None, now: datetime) -> list[Shot]:
    """Return the shots to store, in the order of the request; of two with the same frames the later one.

    Raises InvalidInput where a shot is not inside the video or contradicts itself.
    """
    analysed = {(shot.start_frame, shot.end_frame): shot for shot in analysis.shots} if analysis else {}
    last = max(((video.frame_count or 0) - 1, *(shot.end_frame for shot in analysed.values())))
    shots = {}
    for place, given in enumerate(request.shots):
        frames = _frames_of(f"Shot {place} of the request", given, video, analysed.values())
        name = f"Shot {place} of the request (frames {frames[0]} to {frames[1]})"
        _check_frames(name, frames, last)
        base = analysed.get(frames) or _blank(name, given, frames, place, video.asset_id, now)
        shot = _with_texts(_with_measures(name, base, given), given, _scene(request), request.manual_tags)
        _check_times(name, shot, video)
        shots[shot.shot_id] = replace(shot, stored_at=now)
    return list(shots.values())


def _frames_of(name: str, given: ShotInput, video: Asset, analysed: Iterable[Shot]) -> tuple[int, int]:
    """Return the first and last frame of a shot; what the request leaves out follows of its times.

    Times of the analysis, in as many digits as answers have, are its frames; others are counted by the mean rate.
    Raises InvalidInput where neither a frame nor its time is given.
    """
    fps = video.fps
    start, end = given.start_frame, given.end_frame
    for shot in analysed:
        if start is None and given.start_timestamp is not None and _same(given.start_timestamp, shot.start_timestamp):
            start = shot.start_frame
        if end is None and given.end_timestamp is not None and _same(given.end_timestamp, shot.end_timestamp):
            end = shot.end_frame
    if start is None and given.start_timestamp is not None and fps:
        start = round(given.start_timestamp * fps)
    if end is None and given.end_timestamp is not None and fps:
        end = round(given.end_timestamp * fps) - 1  # a shot ends when its last frame does
        end = end if start is None else max(end, start)
    if start is None or end is None:
        missing = "start" if start is None else "end"
        raise InvalidInput(f"{name} needs {missing}_frame, or {missing}_timestamp to tell it by.")
    return start, end


def _same(time: float, analysed: float) -> bool:
    return abs(time - analysed) < TIME_DIGITS


def _check_frames(name: str, frames: tuple[int, int], last: int) -> None:
    start, end = frames
    if start > end:
        raise InvalidInput(f"{name} ends before it starts.")
    if 0 <= last < end:
        raise InvalidInput(f"{name} is not in the video, whose last frame is {last}.")


def _check_times(name: str, shot: Shot, video: Asset) -> None:
    if shot.start_timestamp > shot.end_timestamp:
        raise InvalidInput(f"{name} ends at {shot.end_timestamp:g} s, before it starts at {shot.start_timestamp:g} s.")
    if video.duration is not None and shot.end_timestamp > video.duration + SLACK_S:
        raise InvalidInput(f"{name} ends at {shot.end_timestamp:g} s; the video has {video.duration:g} s.")
    if not shot.start_frame <= shot.keyframe_frame <= shot.end_frame:
        raise InvalidInput(f"{name} has frame {shot.keyframe_frame} as its key frame, which is not in it.")


def _blank(
    name: str, given: ShotInput, frames: tuple[int, int], place: int, video_asset_id: str, now: datetime
) -> Shot:
    """Return a shot that was not analysed. Raises InvalidInput where the request does not say when it is."""
    if given.start_timestamp is None or given.end_timestamp is None:
        raise InvalidInput(
            f"{name} needs start_timestamp and end_timestamp, as no analysis of the video has a shot of these frames."
        )
    start, end = frames
    middle = (start + end) // 2
    return Shot(
        video_asset_id=video_asset_id,
        shot_index=place,
        start_frame=start,
        end_frame=end,
        start_timestamp=given.start_timestamp,
        end_timestamp=given.end_timestamp,
        keyframe_frame=middle,
        keyframe_time=_time_of(middle, start, end, given.start_timestamp, given.end_timestamp),
        camera_movement=UNDETERMINED,
        movement_intensity=0.0,
        shot_size=UNDETERMINED,
        shot_angle=UNDETERMINED,
        framing=UNDETERMINED,
        analysis_timestamp=now,
    )


def _with_measures(name: str, base: Shot, given: ShotInput) -> Shot:
    changes: dict[str, Any] = {field: value for field in REPLACEABLE if (value := getattr(given, field)) is not None}
    if given.auto_tags is not None:
        changes["auto_tags"] = _unique(given.auto_tags)
    if given.transition_in is not None:
        changes["transition_in"] = Transition(**given.transition_in.model_dump())
    own = given.features is not None and not _are_analysed(given.features, base)
    if own:
        changes |= {"features": np.array(given.features, np.float32), "features_version": given.features_version}
    return _with_keyframe(name, replace(base, **changes), given, own=own)


def _are_analysed(features: list[float], base: Shot) -> bool:
    """Return whether these are the features of the analysis; from JSON they may come back with fewer digits."""
    return base.features is not None and bool(np.allclose(features, base.features, atol=1e-4))


def _with_keyframe(name: str, shot: Shot, given: ShotInput, *, own: bool) -> Shot:
    frame, time = given.keyframe_frame, given.keyframe_time
    span = (shot.start_frame, shot.end_frame, shot.start_timestamp, shot.end_timestamp)
    if frame is None and time is not None:
        if not shot.start_timestamp <= time <= shot.end_timestamp:
            raise InvalidInput(f"{name} has its key frame at {time:g} s, which is not in it.")
        frame = shot.keyframe_frame if abs(time - shot.keyframe_time) < 1e-3 else _frame_at(time, *span)
    if frame is None or frame == shot.keyframe_frame:
        return shot
    # Vectors are of the key frame; those of another one would be of the wrong picture.
    moved = replace(shot, keyframe_frame=frame, keyframe_time=_time_of(frame, *span) if time is None else time)
    moved = replace(moved, clip=None, clip_version=None)
    return moved if own else replace(moved, features=None, features_version=None)


def _time_of(frame: int, start_frame: int, end_frame: int, start: float, end: float) -> float:
    return start + (end - start) * (frame - start_frame) / (end_frame - start_frame + 1)


def _frame_at(time: float, start_frame: int, end_frame: int, start: float, end: float) -> int:
    share = (time - start) / (end - start) if end > start else 0.0
    return min(end_frame, start_frame + int(share * (end_frame - start_frame + 1)))


def _scene(request: StoreShotsRequest) -> SceneContext:
    context = request.scene_context
    if isinstance(context, SceneContext):
        return context
    return SceneContext(description=context)


def _with_texts(shot: Shot, given: ShotInput, scene: SceneContext, manual_tags: list[str] | None) -> Shot:
    tags = _unique(given.manual_tags if given.manual_tags is not None else manual_tags or ())
    descriptions = _unique(text for text in (given.scene_description, scene.description) if text)
    uses = given.usage_situations if given.usage_situations is not None else scene.usage_situations
    described = replace(
        shot,
        manual_tags=tags,
        emotional_tone=given.emotional_tone or scene.emotional_tone,
        genre=given.genre or scene.genre,
        scene_context="\n".join(descriptions) or None,
        usage_situations=_unique(uses),
    )
    overrides: dict[str, Any] = {}
    for tag in tags:
        field, value = _override(tag)
        if field is not None:
            overrides[field] = value
    return replace(described, **overrides)


def _override(tag: str) -> tuple[str | None, str]:
    """Return which field of a shot a manual tag sets, if any, and to what."""
    category, _, value = tag.partition(":")
    field = CATEGORIES.get(category.strip().casefold())
    if field is not None and value.strip():
        return field, folded(value).replace(" ", "_") if field in MEASURED else value.strip()
    return LABELS.get(folded(tag), (None, ""))


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
