"""Verdicts in words. Each sentence rests on a number that was measured, or on a signal that was not to be had."""

from collections.abc import Iterable, Mapping
from typing import Final

from deployments.forensics.calibration import PRIOR
from deployments.forensics.signal import Signals
from graphs.authenticity.findings import Absent, Movement, PictureFindings, SoundFindings
from graphs.authenticity.fusion import Verdict
from graphs.authenticity.models import Explanation

STRONG: Final = 0.7
WEAK: Final = 0.4
GHOST: Final = 0.3
"""Strength above which one photograph in ten has a ghost by chance."""
TWICE: Final = 0.5
UNEVEN: Final = 1.5

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
    """``missing``: signals whose model did not answer, and why."""
    told = [*factors, *(f"No {name} signal: {_sentence(reason)}" for name, reason in missing.items())]
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
        factors += _forensic(found.signals)
    elif not found.signals.fault:
        factors.append(f"No forensic signal: {_sentence(found.signals.reason)}")
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


def _forensic(signals: Signals) -> list[str]:
    factors = []
    if signals.ghost >= GHOST:
        factors.append(
            f"A part of the picture was compressed differently from the rest (JPEG ghost {signals.ghost:.2f} "
            f"at quality {signals.ghost_quality})"
        )
    if signals.double_compression is not None and signals.double_compression >= TWICE:
        factors.append("The picture was saved as JPEG more than once, which by itself is common")
    if signals.noise_inconsistency >= UNEVEN:
        factors.append(f"Noise is uneven over the picture (log range {signals.noise_inconsistency:.2f})")
    return factors or ["Compression and noise are even over the picture"]


def _sentence(reason: str) -> str:
    return reason.rstrip(".")
