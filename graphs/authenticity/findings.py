"""What stages found of one thing, or why they could not; the ground of verdicts and explanations."""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

from deployments.forensics.signal import Signals
from deployments.forensics.visual import Visual
from vision.errors import DeadlineExceeded, InvalidInput, ModelNotLoaded, StageError, StageUnavailable
from vision.faces.face import Face
from vision.forensics.temporal import Temporal

logger = logging.getLogger("ray.serve")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a signal does not exist. ``fault``: it should, but its model did not answer."""

    reason: str
    fault: bool


@dataclass(frozen=True, slots=True, eq=False)
class PictureFindings:
    """Of a picture or one frame of a video."""

    faces: tuple[Face, ...]
    visual: Visual | Absent
    signals: Signals | Absent

    @property
    def probabilities(self) -> dict[str, float]:
        """Of the signals that exist; that of several faces is the highest of them."""
        found = {}
        if isinstance(self.visual, Visual):
            judged = [probability for probability in self.visual.probabilities if probability is not None]
            if judged:
                found["visual"] = max(judged)
        if isinstance(self.signals, Signals):
            found["forensic"] = self.signals.probability
        return found

    @property
    def faults(self) -> dict[str, str]:
        """Signals whose model did not answer, and why."""
        named = {"visual": self.visual, "forensic": self.signals}
        return {name: found.reason for name, found in named.items() if isinstance(found, Absent) and found.fault}


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of a sound that was judged: seconds from its start, and the chance that its voice was made, 0-1."""

    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class SoundFindings:
    """Of a sound. ``probability``: None where nobody speaks or no model answers; then ``absent`` says which.

    ``segments``: the windows that were judged, out of ``windows``; ``heard_s``: seconds that were listened to;
    ``whole``: that is all of it.
    """

    rms_energy: float
    zero_crossing_rate: float
    speech_s: float | None
    heard_s: float
    windows: int
    segments: tuple[Segment, ...]
    probability: float | None
    absent: Absent | None
    whole: bool = True


UNHEARD: Final = "the sound track could not be analysed"


def unheard(reason: str) -> SoundFindings:
    """Of the sound track of a film from which nothing can be decoded: no verdict on it, and none without it is sure."""
    return SoundFindings(0.0, 0.0, None, 0.0, 0, (), None, Absent(f"{UNHEARD}. {reason}", fault=True))


Movement = Temporal | Absent


async def found(call: Awaitable[T]) -> T | Absent:
    """What a stage answers, or why it cannot: no weights, no replica, or an input that it can say nothing of.

    Overload and the end of the request's time are failures of the request, and are raised.
    """
    try:
        return await call
    except DeadlineExceeded:
        raise
    except (ModelNotLoaded, StageUnavailable) as error:
        return Absent(error.message, fault=True)
    except InvalidInput as error:
        return Absent(error.message, fault=False)
    except StageError as error:
        if error.code != StageError.code:
            raise
        logger.warning("a signal failed: %s", error.message)
        return Absent(error.message, fault=True)
