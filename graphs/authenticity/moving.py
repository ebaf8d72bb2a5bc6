"""Everything the stages can tell of one video: single frames, a face that is followed, and the sound."""

from dataclasses import dataclass

from deployments.forensics.temporal import TEMPORAL
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.stage import share
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.findings import Absent, Movement, PictureFindings, SoundFindings, found, unheard
from graphs.authenticity.footage import Footage, evenly
from graphs.authenticity.fusion import pooled
from graphs.authenticity.pictures import look
from graphs.authenticity.sound import opened_sound
from graphs.authenticity.tracking import Follower
from graphs.authenticity.uploads import Handed
from graphs.authenticity.voices import listen
from graphs.web.context import Context, task_group
from vision.errors import InvalidInput, ModelNotLoaded, ProcessingFailed, StageUnavailable
from vision.forensics.temporal import Temporal
from vision.images import Pixels
from vision.media.reader import StreamFacts

TOP = 0.25
"""Share of the frames, those of highest risk, that stand for the video: a change need not be in all of it."""
NO_TRACK = "no face is seen long enough to be followed"


@dataclass(frozen=True, slots=True, eq=False)
class FrameFindings:
    """One frame that was looked at; ``time`` in seconds."""

    frame: int
    time: float
    picture: PictureFindings


@dataclass(frozen=True, slots=True, eq=False)
class VideoFindings:
    """``worst``: the frame of the highest risk and its pixels. ``sound``: None for a silent film."""

    facts: StreamFacts
    frames: tuple[FrameFindings, ...]
    movement: Movement
    sound: SoundFindings | None
    worst: tuple[FrameFindings, Pixels] | None

    def standing(self, name: str) -> tuple[FrameFindings, ...]:
        """The frames whose visual or forensic signal makes that of the video, highest first; none where it has none."""
        having = [frame for frame in self.frames if name in frame.picture.probabilities]
        having.sort(key=lambda frame: -frame.picture.probabilities[name])
        return tuple(having[: max(1, round(TOP * len(having)))])

    @property
    def probabilities(self) -> dict[str, float]:
        """Of the signals that exist."""
        signals = {}
        for name in ("visual", "forensic"):
            if chosen := self.standing(name):
                signals[name] = pooled((frame.picture.probabilities[name], 1.0) for frame in chosen)
        if isinstance(self.movement, Temporal):
            signals["temporal"] = self.movement.probability
        if self.sound is not None and self.sound.probability is not None:
            signals["audio"] = self.sound.probability
        return signals

    @property
    def faults(self) -> dict[str, str]:
        """Signals whose model did not answer, and why."""
        faults = {name: reason for frame in self.frames for name, reason in frame.picture.faults.items()}
        if isinstance(self.movement, Absent) and self.movement.fault:
            faults["temporal"] = self.movement.reason
        if self.sound is not None and self.sound.absent is not None and self.sound.absent.fault:
            faults["audio"] = self.sound.absent.reason
        return faults


async def watch(context: Context, handed: Handed, num_frames: int) -> VideoFindings:
    """Look at so many frames, follow a face, and listen. Raises UndecodableMedia."""
    async with Footage.opened(handed.path, context.settings.analysis_video_backend) as footage:
        async with task_group() as group:
            # Frames are decoded one after the other, while the stages are busy with those before.
            frames_task = group.create_task(_frames(context, footage, num_frames))
            movement_task = group.create_task(_movement(context, footage))
            sound_task = group.create_task(_sound(context, handed))
        frames, worst = frames_task.result()
        return VideoFindings(footage.facts, frames, movement_task.result(), sound_task.result(), worst)


async def _frames(
    context: Context, footage: Footage, wanted: int
) -> tuple[tuple[FrameFindings, ...], tuple[FrameFindings, Pixels] | None]:
    seen: list[FrameFindings] = []
    worst: tuple[float, FrameFindings, Pixels] | None = None
    for number in evenly(len(footage.times), wanted):
        decoded = await footage.frame_near(number)
        if decoded is None or (seen and decoded[0] <= seen[-1].frame):
            continue
        place, pixels = decoded
        picture = await look(context, await share(pixels), None, detector=VIDEO_FACES)
        found_here = FrameFindings(place, float(footage.times[place]), picture)
        seen.append(found_here)
        risk = pooled((value, 1.0) for value in picture.probabilities.values()) if picture.probabilities else 0.0
        if worst is None or risk > worst[0]:
            worst = risk, found_here, pixels
    return tuple(seen), None if worst is None else worst[1:]


async def _movement(context: Context, footage: Footage) -> Movement:
    follower = Follower()
    try:
        async for time, pixels in footage.face_frames():
            image = await share(pixels)
            faces = follower.chosen(await context.stage(VIDEO_FACES)(image))
            if faces:
                vectors = await context.stage(IDENTITY)((image, faces))
                follower.see(time, pixels, faces, [vector.vector for vector in vectors])
    except (ModelNotLoaded, StageUnavailable, ProcessingFailed) as error:
        return Absent(error.message, fault=True)
    except InvalidInput:  # of a face that cannot be aligned
        return Absent(NO_TRACK, fault=False)
    track = follower.track()
    if track is None:
        return Absent(NO_TRACK, fault=False)
    return await found(context.stage(TEMPORAL)(track))


async def _sound(context: Context, handed: Handed) -> SoundFindings | None:
    if not handed.facts.has_audio:
        return None
    try:
        async with opened_sound(context.settings, handed) as heard:
            return await listen(context, heard)
    except UndecodableMedia as error:  # the pictures can be judged all the same
        return unheard(error.message)
