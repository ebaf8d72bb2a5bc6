"""Analysis of videos: single frames, a face that is tracked over some seconds, and the sound."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.forensics.temporal import TEMPORAL
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.stage import SharedPixels
from deployments.serving.streams import in_time, on_thread
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.findings import (
    Absent,
    FrameFindings,
    SoundFindings,
    VideoFindings,
    result_or_absent,
    undecodable_track,
)
from graphs.authenticity.fusion import pooled
from graphs.authenticity.images import examine_image
from graphs.authenticity.sound import decoded_sound, examine_sound
from graphs.authenticity.uploads import Submission
from graphs.web.context import Context, task_group
from vision.errors import InvalidInput, InvalidMedia, ModelNotLoaded, ProcessingFailed
from vision.faces.face import Face, align, similarity_transform
from vision.forensics.temporal import FaceTrack, Temporal
from vision.images import Pixels
from vision.media.decord_reader import Backend, DecordReader, open_reader
from vision.media.reader import StreamFacts, VideoReader
from vision.shots.hard_cuts import LEAST, RATIO, THUMBNAIL, ChangeMeter

T = TypeVar("T")

REACH: Final = 3
"""Frames on either side of a chosen one that are compared with it, to find cuts."""
TRACK_S: Final = 10.0
"""Seconds in the middle of the video in which a face is tracked."""
TRACK_RATE: Final = 10.0
"""Frames a second in which it is tracked."""
LONG_SIDE: Final = 960
"""Longer side in pixels of the frames in which a face is tracked; larger frames are shrunk."""
SAME: Final = 0.3
"""Cosine with the mean vector of a track from which it is the same person; OpenCV publishes 0.363 for two photos."""
LEAST_OVERLAP: Final = 0.1
NO_TRACK: Final = "no face is visible long enough to be tracked"


async def examine_video(context: Context, submission: Submission, num_frames: int) -> VideoFindings:
    """Run all stages on ``num_frames`` frames, a tracked face and the sound of a video. Raises UndecodableMedia."""
    async with Footage.opened(submission.path, context.settings.analysis_video_backend) as footage:
        async with task_group() as group:
            # Frames are decoded one after the other, while the stages are busy with earlier ones.
            frames_task = group.create_task(_frames(context, footage, num_frames))
            temporal_task = group.create_task(_temporal(context, footage))
            sound_task = group.create_task(_sound(context, submission))
        frames, worst = frames_task.result()
        return VideoFindings(footage.facts, frames, temporal_task.result(), sound_task.result(), worst)


async def _frames(
    context: Context, footage: "Footage", wanted: int
) -> tuple[tuple[FrameFindings, ...], tuple[FrameFindings, Pixels] | None]:
    frames: list[FrameFindings] = []
    worst: tuple[float, FrameFindings, Pixels] | None = None
    for number in evenly(len(footage.times), wanted):
        decoded = await footage.frame_near(number)
        if decoded is None or (frames and decoded[0] <= frames[-1].frame):
            continue
        place, pixels = decoded
        image = await examine_image(context, SharedPixels(pixels), None, detector=VIDEO_FACES)
        frame = FrameFindings(place, float(footage.times[place]), image)
        frames.append(frame)
        risk = pooled((value, 1.0) for value in image.probabilities.values()) if image.probabilities else 0.0
        if worst is None or risk > worst[0]:
            worst = risk, frame, pixels
    return tuple(frames), None if worst is None else worst[1:]


async def _temporal(context: Context, footage: "Footage") -> Temporal | Absent:
    tracker = FaceTracker()
    try:
        async for time, pixels in footage.face_frames():
            image = SharedPixels(pixels)
            faces = tracker.relevant(await context.stage(VIDEO_FACES)(image))
            if faces:
                vectors = await context.stage(IDENTITY)((image, faces))
                tracker.add(time, pixels, faces, [vector.vector for vector in vectors])
    except ModelNotLoaded as error:
        return Absent.without(error)
    except ProcessingFailed as error:
        return Absent(error.message, fault=True)
    except InvalidInput:  # of a face that cannot be aligned
        return Absent(NO_TRACK, fault=False)
    track = tracker.longest()
    if track is None:
        return Absent(NO_TRACK, fault=False)
    return await result_or_absent(context.stage(TEMPORAL)(track))


async def _sound(context: Context, submission: Submission) -> SoundFindings | None:
    if not submission.facts.has_audio:
        return None
    try:
        async with decoded_sound(context.settings, submission) as sound:
            return await examine_sound(context, sound)
    except UndecodableMedia as error:  # the pictures can be judged all the same
        return undecodable_track(error.message)


def evenly(count: int, wanted: int) -> list[int]:
    """Return the middle frames of ``wanted`` equal parts of ``count`` frames, or all frames if they are fewer."""
    wanted = min(count, wanted)
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def calm(changes: NDArray[np.float64], middle: int) -> int:
    """Return the place among neighbouring frames of the one to judge: ``middle``, or the nearest one not at a cut.

    ``changes``: of each frame from the one before, 0-1; that of the first is 0. A cut is a change far above the others;
    the frames on both sides of it are left out, as codecs smear them.
    """
    others = np.sort(changes)[:-1].mean() if len(changes) > 1 else 0.0
    cuts = np.flatnonzero((changes >= LEAST) & (changes >= RATIO * others))
    near = {place + side for place in cuts.tolist() for side in (-1, 0)}
    free = [place for place in range(len(changes)) if place not in near]
    return min(free, key=lambda place: (abs(place - middle), place)) if free else middle


def middle_frames(times: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return first frame, frame behind the last, and step of the frames in which a face is tracked."""
    end = float(times[-1])
    start = max(0.0, end / 2 - TRACK_S / 2)
    first, behind = np.searchsorted(times, [start, start + TRACK_S], side="left")
    seconds = float(times[behind - 1] - times[first])
    rate = (behind - first - 1) / seconds if seconds > 0 else 0.0
    return int(first), int(behind), max(1, round(rate / TRACK_RATE))


class Footage:
    """Frames of a video on disk, decoded on a thread; use ``opened``."""

    def __init__(self, path: Path, backend: Backend) -> None:
        self._path = path
        self._backend = backend
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authenticity-video")
        self._reader: VideoReader | DecordReader | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path, backend: Backend = "pyav") -> AsyncIterator["Footage"]:
        """Open a video. Raises UndecodableMedia."""
        footage = cls(path, backend)
        try:
            await footage._run(footage._open)
            yield footage
        finally:
            # This waits for a frame that is being decoded, on the thread of the decoder.
            footage._thread.submit(footage._close)
            footage._thread.shutdown(wait=False)

    @property
    def facts(self) -> StreamFacts:
        """Facts of the video stream."""
        return self._open_reader.facts

    @property
    def times(self) -> NDArray[np.float64]:
        """Start of every frame in seconds, float64 (n,)."""
        return self._open_reader.times

    async def frame_near(self, number: int) -> tuple[int, Pixels] | None:
        """Return number and pixels of a frame at or near this one, not beside a cut; None where all are damaged."""
        return await self._run(lambda: self._near(number))

    async def face_frames(self) -> AsyncIterator[tuple[float, Pixels]]:
        """Yield time and pixels of the frames in which a face is tracked."""
        first, behind, step = middle_frames(self.times)
        facts = self.facts
        scale = max(1.0, max(facts.width, facts.height) / LONG_SIDE)
        size = round(facts.width / scale), round(facts.height / scale)
        frames = self._open_reader.frames(first, behind, step, size)
        while (frame := await self._run(lambda: next(frames, None))) is not None:
            yield frame[1], frame[2]

    def _near(self, number: int) -> tuple[int, Pixels] | None:
        reader = self._open_reader
        first = max(0, number - REACH)
        meter, near, changes = ChangeMeter(), [], []
        for frame, picture in reader.pictures(first, number + REACH + 1):
            near.append((frame, picture))
            changes.append(meter.update(reader.pixels(picture, THUMBNAIL))[0])
        if not near:
            return None
        middle = min(range(len(near)), key=lambda index: abs(near[index][0] - number))
        frame, picture = near[calm(np.array(changes, np.float64), middle)]
        return frame, reader.pixels(picture)

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await in_time(on_thread(self._thread, function))
        except InvalidMedia as error:
            raise UndecodableMedia(error.message) from error

    def _open(self) -> None:
        self._reader = open_reader(self._path, self._backend)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    @property
    def _open_reader(self) -> VideoReader | DecordReader:
        assert self._reader is not None
        return self._reader


class FaceTracker:
    """Tracks the faces of one video, frame by frame: each from place to place, as long as it is the same person."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []

    def relevant(self, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """Return the faces that need a vector: those that may continue a track, or the largest one if none does."""
        near = [face for face in faces if any(_overlap(face, track.last) > LEAST_OVERLAP for track in self._tracks)]
        return tuple(near) or tuple(sorted(faces, key=lambda face: -face.width * face.height)[:1])

    def add(self, time: float, image: Pixels, faces: tuple[Face, ...], vectors: list[NDArray[np.float32]]) -> None:
        """Assign the relevant faces of the next frame to tracks, by their vectors, float32 (128,) each."""
        brightness = float(image.mean())
        taken: set[int] = set()
        for face, vector in zip(faces, vectors, strict=True):
            places = [place for place in range(len(self._tracks)) if place not in taken]
            fits = [place for place in places if self._tracks[place].fits(face, vector)]
            place = max(fits, key=lambda place: _overlap(face, self._tracks[place].last), default=len(self._tracks))
            if place == len(self._tracks):
                self._tracks.append(_Track())
            taken.add(place)
            self._tracks[place].add(time, image, face, vector, brightness)

    def longest(self) -> FaceTrack | None:
        """Return the track with the most frames; None when there was no face."""
        return max(self._tracks, key=lambda track: len(track.times)).face_track() if self._tracks else None


@dataclass
class _Track:
    times: list[float] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    crops: list[Pixels] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)

    @property
    def last(self) -> Face:
        return self.faces[-1]

    def fits(self, face: Face, vector: NDArray[np.float32]) -> bool:
        return _overlap(face, self.last) > LEAST_OVERLAP and float(np.mean(self.vectors, axis=0) @ vector) > SAME

    def add(self, time: float, image: Pixels, face: Face, vector: NDArray[np.float32], brightness: float) -> None:
        import cv2

        crop = align(image, similarity_transform(face.landmarks))
        self.crops.append(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))
        self.times.append(time)
        self.faces.append(face)
        self.vectors.append(vector)
        self.brightness.append(brightness)

    def face_track(self) -> FaceTrack:
        return FaceTrack(
            np.array(self.times),
            np.array([face.landmarks for face in self.faces], np.float64),
            np.array(self.vectors, np.float32),
            np.array(self.crops, np.uint8),
            np.array(self.brightness),
        )


def _overlap(one: Face, other: Face) -> float:
    """Return the intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0.0, width) * max(0.0, height)
    return common / (one.width * one.height + other.width * other.height - common)
