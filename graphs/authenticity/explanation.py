"""Verdicts as text. Each sentence rests on a number that was measured, or on a signal that is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from deployments.forensics.generated import Generated
from deployments.forensics.signal import Signals
from graphs.authenticity.findings import Absent, ImageFindings, SoundFindings, VideoFindings
from graphs.authenticity.fusion import Verdict
from graphs.authenticity.schemas import Explanation
from vision.forensics.calibration import PRIOR
from vision.forensics.temporal import Temporal
from vision.provenance.findings import Provenance

STRONG: Final = 0.7
WEAK: Final = 0.4
GHOST: Final = 0.19
"""Strength above which one genuine picture in a hundred has a ghost by chance, of those it was calibrated on."""
TWICE: Final = 0.5
UNEVEN: Final = 1.5
LEAST_LOST_S: Final = 0.1
"""Less is padding, or one packet."""
MOST_TIMES: Final = 4
"""Times of frames that are named."""

SUMMARIES: Final = {
    "AUTHENTIC": "No strong signs of manipulation were measured in this media; its risk score is {risk:.0f}/100.",
    "SUSPICIOUS": "Some signs of manipulation were measured in this media; its risk score is {risk:.0f}/100.",
    "MANIPULATED": "This media shows strong signs of manipulation with a risk score of {risk:.0f}/100.",
}
ADVICE: Final = {
    "AUTHENTIC": "This is no proof of authenticity: check the source as usual.",
    "SUSPICIOUS": "Inspect it closely and find the original before using it.",
    "MANIPULATED": "Exercise extreme caution. Consider this media potentially misleading.",
}
SIGNATURES: Final = frozenset({"SIGNER_UNKNOWN", "CREDENTIALS_REMOTE"})
UNKNOWN_ORIGIN: Final = "The file says nothing of where it comes from that could be checked, which proves nothing"
UNCHECKED: Final = "Whether a generator made it was not checked, as the model for that is not here"
OUT_OF_DOMAIN: Final = (
    "The voice model was trained on ASVspoof 2019; on other recordings it often takes real voices for synthetic ones"
)


def explain(
    verdict: Verdict,
    factors: Iterable[str],
    faults: Mapping[str, Absent],
    provenance: Provenance | Absent | None = None,
    basis: str = "",
) -> Explanation:
    """Explain a verdict; what the file says of itself comes first.

    ``faults``: signals whose model did not answer, in some frames of a video at least, and why. ``basis``: what the
    confidence rests on.
    """
    lines = [*provenance_factors(provenance), *factors]
    for name, absent in faults.items():
        lost = f"Part of the {name} signal is missing" if name in verdict.weights else f"No {name} signal"
        lines.append(f"{lost}: {_clause(absent.reason)}")
    lines += [basis] if basis else []
    advice = ADVICE[verdict.classification]
    if verdict.confidence == "LOW":
        advice += " This result is uncertain; do not base a decision on it."
    summary = SUMMARIES[verdict.classification].format(risk=verdict.risk_score)
    if "provenance" in verdict.weights and isinstance(provenance, Provenance):
        summary = _declared(provenance, verdict.risk_score)
    return Explanation(summary=summary, factors=lines, recommendation=advice)


def provenance_factors(provenance: Provenance | Absent | None) -> list[str]:
    """Return what the file says of itself; of the least severe findings only those on signatures."""
    if provenance is None:
        return []
    if isinstance(provenance, Absent):
        return [f"No provenance signal: {_clause(provenance.reason)}"]
    told = [
        finding.text
        for finding in provenance.findings
        if finding.severity != "info" or finding.signed or finding.code in SIGNATURES
    ]
    return told or [UNKNOWN_ORIGIN]


def _declared(provenance: Provenance, risk: float) -> str:
    """Return the summary of a verdict that rests on what the file says of itself."""
    declaration = provenance.declaration
    if declaration is None:
        return f"This media was changed after it was signed; its risk score is {risk:.0f}/100."
    what = "generated" if declaration.kind == "generated" else "generated in part"
    signer = provenance.credentials.signer if provenance.credentials else None
    who = {
        "signed_trusted": f"content credentials that {signer}, a trusted signer, signed",
        "signed_unknown": f"content credentials that {signer}, an unknown signer, signed",
        "unsigned": "its own metadata, which nobody signed",
    }[declaration.basis]
    return f"This media is declared to be {what} by {declaration.by}, in {who}; its risk score is {risk:.0f}/100."


def image_factors(findings: ImageFindings) -> list[str]:
    """Return the factors of an image."""
    factors = []
    probability = findings.probabilities.get("visual")
    if probability is not None:
        factors.append(_visual(probability))
        if findings.faces:
            factors.append(f"{len(findings.faces)} face(s) analyzed for manipulation signs")
    elif isinstance(findings.visual, Absent) and not findings.visual.fault:
        factors.append(f"No visual signal: {findings.visual.reason}")
    if isinstance(findings.signals, Signals):
        factors += _forensic([findings.signals])
    elif not findings.signals.fault:
        factors.append(f"No forensic signal: {_clause(findings.signals.reason)}")
    if isinstance(findings.generated, Generated):
        factors.append(_generated(findings.generated.probability, divided=findings.generated.divided))
    elif findings.generated.missing:
        factors.append(UNCHECKED)
    return factors


def frame_factors(findings: VideoFindings) -> list[str]:
    """Return the factors of the frames of a video that make its visual and its forensic score."""
    factors: list[str] = []
    scores = findings.probabilities
    if not findings.frames:
        return factors
    any_frame = findings.frames[0].image
    if "visual" in scores:
        factors.append(f"{_visual(scores['visual'])} ({_where(findings, 'visual')})")
        judged = [frame.image for frame in findings.frames if "visual" in frame.image.probabilities]
        faces = sum(len(image.faces) for image in judged)
        factors.append(f"{faces} face(s) in {len(judged)} frame(s) analyzed for manipulation signs")
    elif isinstance(any_frame.visual, Absent) and "visual" not in findings.faults:
        factors.append(f"No visual signal: {any_frame.visual.reason}")
    measured = [frame.image.signals for frame in findings.strongest("forensic")]
    forensic = _forensic([signals for signals in measured if isinstance(signals, Signals)]) if measured else []
    factors += [f"{factor} ({_where(findings, 'forensic')})" for factor in forensic]
    if isinstance(any_frame.signals, Absent) and not measured and "forensic" not in findings.faults:
        factors.append(f"No forensic signal: {_clause(any_frame.signals.reason)}")
    if "generated" in scores:
        divided = any(
            isinstance(frame.image.generated, Generated) and frame.image.generated.divided
            for frame in findings.strongest("generated")
        )
        factors.append(f"{_generated(scores['generated'], divided=divided)} ({_where(findings, 'generated')})")
    elif isinstance(any_frame.generated, Absent) and any_frame.generated.missing:
        factors.append(UNCHECKED)
    return factors


def temporal_factors(temporal: Temporal | Absent) -> list[str]:
    """Return the factors of the tracked face of a video."""
    if isinstance(temporal, Absent):
        return [] if temporal.fault else [f"No temporal signal: {_clause(temporal.reason)}"]
    where = f"over {temporal.looks} frames in {temporal.seconds:.1f} s"
    if temporal.probability >= STRONG:
        factors = [f"The face trembles from frame to frame as filmed faces do not ({where})"]
    else:
        factors = [f"The face moves as filmed faces do ({where})"]
    if temporal.blink_rate is not None:
        factors.append(f"{temporal.blink_rate:.0f} blinks a minute; people blink about 17 times at rest")
    return factors


def sound_factors(sound: SoundFindings) -> list[str]:
    """Return the factors of a sound."""
    if sound.probability is None:
        absent = [] if sound.absent is None or sound.absent.fault else [f"No audio signal: {sound.absent.reason}"]
        return [*absent, *unheard(sound)]
    judged = f"{len(sound.segments)} of {sound.windows} window(s)" if sound.windows else "one window"
    where = f"in {judged} with {sound.speech_s or 0:.1f} s of speech"
    if sound.probability >= STRONG:
        factors = [f"The voice resembles synthetic speech {where}"]
    elif sound.probability >= WEAK:
        factors = [f"The voice may be recorded or synthetic {where}"]
    else:
        factors = [f"The voice resembles recorded speech {where}"]
    if sound.outside:
        factors.append(f"The sound is outside of what its model was made for: {'; '.join(sound.outside)}")
    narrow = not sound.opinions or any(model.startswith("aasist") for model in sound.opinions)
    return [*factors, *unheard(sound), *([OUT_OF_DOMAIN] if narrow else [])]


def unjudged_sound(sound: SoundFindings, told: Iterable[str] = ()) -> Explanation:
    """Explain that a model is missing without which a sound has no verdict; ``told``: what the file says of itself."""
    speech = [] if sound.speech_s is None else [f"{sound.speech_s:.1f} s of speech in {sound.decoded_s:.1f} s"]
    reason = "" if sound.absent is None else sound.absent.reason
    return Explanation(
        summary="This sound was measured but not judged, as a model is missing: it may be recorded or synthetic.",
        factors=[*speech, *told, f"No audio signal: {_clause(reason)}", *unheard(sound)],
        recommendation="Draw no conclusion from this answer; send the sound again once the model is there.",
    )


def unheard(sound: SoundFindings) -> list[str]:
    """Return what to say of the part of a sound that nobody heard, as it is missing or damaged."""
    if sound.lost_s < LEAST_LOST_S:
        return []
    return [f"{sound.lost_s:.1f} s of the sound are missing or cannot be decoded, so they were not judged"]


def _visual(probability: float) -> str:
    if probability >= STRONG:
        return "Visual patterns strongly suggest manipulation"
    if probability >= WEAK:
        return "Visual patterns are undecided"
    if probability >= PRIOR:
        return "Visual patterns give little evidence of manipulation"
    return "Visual patterns show no sign of the manipulations that the model knows"


def _generated(probability: float, *, divided: bool) -> str:
    if divided:
        return "One model takes it for the work of a generator and the other does not"
    if probability >= STRONG:
        return "The whole picture resembles the work of a generator"
    if probability >= WEAK:
        return "Whether a generator made the picture is undecided"
    return "No trace of a generator was found, which recompression hides and unknown generators do not leave"


def _where(findings: VideoFindings, name: str) -> str:
    times = sorted(frame.time for frame in findings.strongest(name))
    named = ", ".join(f"{time:.1f} s" for time in times[:MOST_TIMES])
    more = f" and {len(times) - MOST_TIMES} more" if len(times) > MOST_TIMES else ""
    scored = sum(name in frame.image.probabilities for frame in findings.frames)
    return f"the highest {len(times)} of {scored} frame(s), at {named}{more}"


def _forensic(measured: Sequence[Signals]) -> list[str]:
    """Return the factors of one image, or of several frames by the highest value of each measure."""
    factors = []
    ghost = max(measured, key=lambda signals: signals.ghost)
    doubles = [signals.double_compression for signals in measured if signals.double_compression is not None]
    uneven = max(signals.noise_inconsistency for signals in measured)
    if ghost.ghost >= GHOST:
        factors.append(
            f"A part of the picture was compressed differently from the rest (JPEG ghost {ghost.ghost:.2f} "
            f"at quality {ghost.ghost_quality})"
        )
    if doubles and max(doubles) >= TWICE:
        factors.append("The picture was saved as JPEG more than once, which by itself is common")
    if uneven >= UNEVEN:
        factors.append(f"Noise is uneven over the picture (log range {uneven:.2f})")
    return factors or ["Compression and noise are even over the picture"]


def _clause(reason: str) -> str:
    return reason.rstrip(".")
