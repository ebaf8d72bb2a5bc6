"""What the stages found in an image, a video or a sound, or why they found nothing; verdicts rest on it."""

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from deployments.forensics.generated import Generated
from deployments.forensics.signal import Signals
from deployments.forensics.visual import Visual
from graphs.authenticity.fusion import pooled
from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.faces.face import Face
from vision.forensics.temporal import Temporal
from vision.forensics.voice_domain import Domain
from vision.images import Pixels
from vision.media.reader import StreamFacts

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

TOP: Final = 0.25
"""Share of the frames, those of highest risk, that make the score of a video: a change need not be in all of it."""
IMAGE_SIGNALS: Final = ("visual", "forensic", "generated")
"""Signals that an image has, and each frame of a video."""
FORENSIC: Final = "jpeg-ghosts"
TEMPORAL_METHOD: Final = "face-instability"
UNNAMED: Final = "a model that does not name itself"
UNDECIDED: Final = 0.5
UNDECODABLE_TRACK: Final = "the sound track could not be analysed"


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there is no signal; with ``fault`` there should be one, but its model did not answer.

    It is ``missing`` where that will be so until an operator gets the model.
    """

    reason: str
    fault: bool
    missing: bool = False

    @classmethod
    def without(cls, error: ModelNotLoaded) -> "Absent":
        """Return that there is no signal as its model is missing."""
        return cls(error.reason, fault=True, missing=True)


async def result_or_absent(call: Awaitable[T]) -> T | Absent:
    """Return the result of a stage, or why there is none: no weights, or an input that it cannot judge.

    Overload, a stage that is away for a moment and the end of the request's time are failures of the request, and are
    raised.
    """
    try:
        return await call
    except ModelNotLoaded as error:
        return Absent.without(error)
    except InvalidInput as error:
        return Absent(error.message, fault=False)
    except StageError as error:
        if error.code != StageError.code:
            raise
        logger.warning("a signal failed: %s", error.message)
        return Absent(error.message, fault=True)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFindings:
    """Findings in an image or in one frame of a video.

    ``generated``: its model is an extra; where it is missing the others judge as they would without it.
    """

    faces: tuple[Face, ...]
    visual: Visual | Absent
    signals: Signals | Absent
    generated: Generated | Absent = Absent("this image was not examined for it", fault=False)

    @property
    def probabilities(self) -> dict[str, float]:
        """Return the probability of each signal that exists, 0-1; the visual one is the highest of all faces."""
        probabilities = {}
        if isinstance(self.visual, Visual):
            judged = [probability for probability in self.visual.probabilities if probability is not None]
            if judged:
                probabilities["visual"] = max(judged)
        if isinstance(self.signals, Signals):
            probabilities["forensic"] = self.signals.probability
        if isinstance(self.generated, Generated):
            probabilities["generated"] = self.generated.probability
        return probabilities

    @property
    def models(self) -> dict[str, str]:
        """Return what gave the probability of each signal."""
        models = {"forensic": FORENSIC}
        if isinstance(self.visual, Visual):
            models["visual"] = self.visual.model
        if isinstance(self.generated, Generated):
            models["generated"] = " and ".join(self.generated.opinions)
        return {name: models[name] for name in self.probabilities}

    @property
    def faults(self) -> dict[str, Absent]:
        """Return the signals whose model did not answer, and why."""
        return {name: absent for name, absent in self._absent.items() if absent.fault}

    @property
    def unavailable(self) -> dict[str, Absent]:
        """Return the signals whose model is missing."""
        return {name: absent for name, absent in self._absent.items() if absent.missing}

    @property
    def _absent(self) -> dict[str, Absent]:
        named = zip(IMAGE_SIGNALS, (self.visual, self.signals, self.generated), strict=True)
        return {name: signal for name, signal in named if isinstance(signal, Absent)}


@dataclass(frozen=True, slots=True)
class Segment:
    """A judged window of a sound: seconds from its start, and the probability that its voice is synthetic, 0-1."""

    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class SoundFindings:
    """Findings in a sound.

    ``segments``: the judged windows out of ``windows``; ``decoded_s``: seconds that were decoded; ``lost_s``: seconds
    among them that are missing in the file or could not be decoded. ``opinions``: the probability by each model.
    ``probability`` is None where nobody speaks or no
    model answers; ``absent`` says which.
    """

    rms_energy: float
    zero_crossing_rate: float
    speech_s: float | None
    decoded_s: float
    windows: int
    segments: tuple[Segment, ...]
    probability: float | None
    absent: Absent | None
    lost_s: float = 0.0
    opinions: Mapping[str, float] = field(default_factory=dict)
    domain: Domain | None = None

    @property
    def models(self) -> dict[str, str]:
        """Return what gave the probability."""
        return {"audio": " and ".join(self.opinions) or UNNAMED}

    @property
    def outside(self) -> list[str]:
        """Return why the sound is outside of what its models were made for, in words; empty where it is not."""
        reasons = [] if self.domain is None else self.domain.outside
        if len({opinion >= UNDECIDED for opinion in self.opinions.values()}) > 1:
            reasons.append("its two models disagree")
        return reasons


def undecodable_track(reason: str) -> SoundFindings:
    """Return the findings in a sound track that cannot be decoded; the verdict on its video has low confidence."""
    absent = Absent(f"{UNDECODABLE_TRACK}. {reason}", fault=True)
    return SoundFindings(0.0, 0.0, None, 0.0, 0, (), None, absent)


@dataclass(frozen=True, slots=True, eq=False)
class FrameFindings:
    """Findings in one frame; ``time`` in seconds."""

    frame: int
    time: float
    image: ImageFindings


@dataclass(frozen=True, slots=True, eq=False)
class VideoFindings:
    """Findings in a video. ``worst``: the frame of the highest risk, and its pixels; ``sound``: None without sound."""

    facts: StreamFacts
    frames: tuple[FrameFindings, ...]
    temporal: Temporal | Absent
    sound: SoundFindings | None
    worst: tuple[FrameFindings, Pixels] | None

    def strongest(self, name: str) -> tuple[FrameFindings, ...]:
        """Return the frames that make the score of one of IMAGE_SIGNALS, highest first; none if no frame has one."""
        scored = [frame for frame in self.frames if name in frame.image.probabilities]
        scored.sort(key=lambda frame: -frame.image.probabilities[name])
        return tuple(scored[: max(1, round(TOP * len(scored)))])

    @property
    def probabilities(self) -> dict[str, float]:
        """Return the probability of each signal that exists, 0-1."""
        probabilities = {}
        for name in IMAGE_SIGNALS:
            if frames := self.strongest(name):
                probabilities[name] = pooled((frame.image.probabilities[name], 1.0) for frame in frames)
        if isinstance(self.temporal, Temporal):
            probabilities["temporal"] = self.temporal.probability
        if self.sound is not None and self.sound.probability is not None:
            probabilities["audio"] = self.sound.probability
        return probabilities

    @property
    def models(self) -> dict[str, str]:
        """Return what gave the probability of each signal."""
        models = {"temporal": TEMPORAL_METHOD}
        models |= {name: model for frame in self.frames for name, model in frame.image.models.items()}
        if self.sound is not None:
            models |= self.sound.models
        return {name: models[name] for name in self.probabilities}

    @property
    def faults(self) -> dict[str, Absent]:
        """Return the signals whose model did not answer, in some frames at least, and why."""
        faults = {name: absent for frame in self.frames for name, absent in frame.image.faults.items()}
        if isinstance(self.temporal, Absent) and self.temporal.fault:
            faults["temporal"] = self.temporal
        if self.sound is not None and self.sound.absent is not None and self.sound.absent.fault:
            faults["audio"] = self.sound.absent
        return faults

    @property
    def unavailable(self) -> dict[str, Absent]:
        """Return the signals whose model is missing."""
        missing = {name: absent for frame in self.frames for name, absent in frame.image.unavailable.items()}
        return missing | {name: absent for name, absent in self.faults.items() if absent.missing}
