"""Verdicts in words. Each sentence rests on a number that was measured, or on a signal that was not to be had."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from deployments.forensics.signal import Signals
from graphs.authenticity.findings import Absent, Movement, PictureFindings, SoundFindings
from graphs.authenticity.fusion import Verdict
from graphs.authenticity.models import Explanation
from graphs.authenticity.moving import VideoFindings
from vision.forensics.calibration import PRIOR

STRONG: Final = 0.7
WEAK: Final = 0.4
GHOST: Final = 0.19
"""Strength above which one genuine picture in a hundred has a ghost by chance, of those it was calibrated on."""
TWICE: Final = 0.5
UNEVEN: Final = 1.5
MOST_TIMES: Final = 4
"""Of frames that are named."""

SUMMARIES: Final = {
    "AUTHENTIC": "Nothing that was measured speaks strongly against this media; its risk score is {risk:.0f}/100.",
    "SUSPICIOUS": "Some of what was measured speaks against this media; its risk score is {risk:.0f}/100.",
    "MANIPULATED": "This media shows strong signs of manipulation with a risk score of {risk:.0f}/100.",
}
ADVICE: Final = {
    "AUTHENTIC": "No proof of authenticity: check the source as usual.",
    "SUSPICIOUS": "Look at it closely and look for the original before it is used.",
    "MANIPULATED": "Exercise extreme caution. Consider this media potentially misleading.",
}
OUT_OF_DOMAIN: Final = (
    "The voice model was trained on ASVspoof 2019; on other recordings it often takes real voices for made ones"
)


def explained(verdict: Verdict, factors: Iterable[str], missing: Mapping[str, str]) -> Explanation:
    """``missing``: signals whose model did not answer, in some frames of a video at least, and why."""
    told = list(factors)
    for name, reason in missing.items():
        lost = f"Part of the {name} signal is missing" if name in verdict.weights else f"No {name} signal"
        told.append(f"{lost}: {_sentence(reason)}")
    advice = ADVICE[verdict.classification]
    if verdict.confidence == "LOW":
        advice += " This result is uncertain; do not rest a decision on it."
    return Explanation(
        summary=SUMMARIES[verdict.classification].format(risk=verdict.risk_score), factors=told, recommendation=advice
    )


def picture_factors(found: PictureFindings) -> list[str]:
    """Of one picture."""
    factors = []
    probability = found.probabilities.get("visual")
    if probability is not None:
        factors.append(_visual(probability))
        if found.faces:
            factors.append(f"{len(found.faces)} face(s) analyzed for manipulation signs")
    elif isinstance(found.visual, Absent) and not found.visual.fault:
        factors.append(f"No visual signal: {found.visual.reason}")
    if isinstance(found.signals, Signals):
        factors += _forensic([found.signals])
    elif not found.signals.fault:
        factors.append(f"No forensic signal: {_sentence(found.signals.reason)}")
    return factors


def footage_factors(found: VideoFindings) -> list[str]:
    """Of the frames of a video that make its visual and its forensic score."""
    factors: list[str] = []
    scores = found.probabilities
    if not found.frames:
        return factors
    any_frame = found.frames[0].picture
    if "visual" in scores:
        factors.append(f"{_visual(scores['visual'])} ({_where(found, 'visual')})")
        seen = [frame for frame in found.frames if "visual" in frame.picture.probabilities]
        faces = sum(len(frame.picture.faces) for frame in seen)
        factors.append(f"{faces} face(s) in {len(seen)} frame(s) analyzed for manipulation signs")
    elif isinstance(any_frame.visual, Absent) and "visual" not in found.faults:
        factors.append(f"No visual signal: {any_frame.visual.reason}")
    measured = [frame.picture.signals for frame in found.standing("forensic")]
    told = _forensic([signals for signals in measured if isinstance(signals, Signals)]) if measured else []
    factors += [f"{factor} ({_where(found, 'forensic')})" for factor in told]
    if isinstance(any_frame.signals, Absent) and not measured and "forensic" not in found.faults:
        factors.append(f"No forensic signal: {_sentence(any_frame.signals.reason)}")
    return factors


def movement_factors(movement: Movement) -> list[str]:
    """Of the face that was followed."""
    if isinstance(movement, Absent):
        return [] if movement.fault else [f"No temporal signal: {_sentence(movement.reason)}"]
    seen = f"over {movement.looks} looks in {movement.seconds:.1f} s"
    if movement.probability >= STRONG:
        factors = [f"The face trembles from frame to frame as filmed faces do not ({seen})"]
    else:
        factors = [f"The face moves as filmed faces do ({seen})"]
    if movement.blink_rate is not None:
        factors.append(f"{movement.blink_rate:.0f} blinks a minute; people blink about 17 times at rest")
    return factors


def sound_factors(sound: SoundFindings) -> list[str]:
    """Of a sound."""
    if sound.probability is None:
        return [] if sound.absent is None or sound.absent.fault else [f"No audio signal: {sound.absent.reason}"]
    judged = f"{len(sound.segments)} of {sound.windows} window(s)" if sound.windows else "one window"
    where = f"in {judged} with {sound.speech_s or 0:.1f} s of speech"
    if sound.probability >= STRONG:
        factors = [f"The voice resembles synthetic speech {where}"]
    elif sound.probability >= WEAK:
        factors = [f"The voice is undecided between recorded and synthetic {where}"]
    else:
        factors = [f"The voice resembles recorded speech {where}"]
    return [*factors, OUT_OF_DOMAIN]


def _visual(probability: float) -> str:
    if probability >= STRONG:
        return "Visual patterns strongly suggest manipulation"
    if probability >= WEAK:
        return "Visual patterns are undecided"
    if probability >= PRIOR:
        return "Visual patterns say little"
    return "Visual patterns show no sign of the manipulations that the model knows"


def _where(found: VideoFindings, name: str) -> str:
    times = sorted(frame.time for frame in found.standing(name))
    named = ", ".join(f"{time:.1f} s" for time in times[:MOST_TIMES])
    more = f" and {len(times) - MOST_TIMES} more" if len(times) > MOST_TIMES else ""
    having = sum(name in frame.picture.probabilities for frame in found.frames)
    return f"the highest {len(times)} of {having} frame(s), at {named}{more}"


def _forensic(measured: Sequence[Signals]) -> list[str]:
    """Of a picture, or of several frames: then each measure is the highest of them."""
    factors = []
    ghostly = max(measured, key=lambda signals: signals.ghost)
    doubles = [signals.double_compression for signals in measured if signals.double_compression is not None]
    uneven = max(signals.noise_inconsistency for signals in measured)
    if ghostly.ghost >= GHOST:
        factors.append(
            f"A part of the picture was compressed differently from the rest (JPEG ghost {ghostly.ghost:.2f} "
            f"at quality {ghostly.ghost_quality})"
        )
    if doubles and max(doubles) >= TWICE:
        factors.append("The picture was saved as JPEG more than once, which by itself is common")
    if uneven >= UNEVEN:
        factors.append(f"Noise is uneven over the picture (log range {uneven:.2f})")
    return factors or ["Compression and noise are even over the picture"]


def _sentence(reason: str) -> str:
    return reason.rstrip(".")
