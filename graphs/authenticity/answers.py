"""Responses of the analyze routes, made of findings."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from deployments.forensics.generated import Generated
from deployments.forensics.signal import Signals
from deployments.forensics.visual import Visual
from graphs.authenticity import explanation, schemas
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.findings import (
    IMAGE_SIGNALS,
    UNDECODABLE_TRACK,
    Absent,
    FrameFindings,
    ImageFindings,
    SoundFindings,
    VideoFindings,
)
from graphs.authenticity.fusion import ALONE, REST, WEIGHTS, Verdict, fuse, with_provenance
from graphs.authenticity.provenance import provenance_block, provenance_signal
from graphs.authenticity.reliability import Media, Operation
from graphs.authenticity.uploads import Submission
from graphs.web.context import Clock
from vision.errors import ModelNotLoaded
from vision.faces.face import Face
from vision.forensics.temporal import Temporal
from vision.forensics.voices import RATE
from vision.provenance.findings import Provenance

STEADY: Final = 0.4
TREMBLES: Final = 0.7


def image_answer(
    submission: Submission, findings: ImageFindings, provenance: Provenance | Absent, clock: Clock, operation: Operation
) -> schemas.ImageAnswer:
    """Return the response for an image.

    Raises ModelNotLoaded when no model could judge it, and FalseAlarmsUnknown.
    """
    judged = _verdict("image", findings, provenance, operation)
    verdict = judged.verdict
    head = _head(submission, clock, provenance)
    return schemas.ImageAnswer(
        **head,
        classification=verdict.classification,
        confidence=verdict.confidence,
        risk_score=verdict.risk_score,
        signals=schemas.ImageSignals(
            visual=_visual(findings, findings.probabilities.get("visual"), verdict, len(findings.faces)),
            forensic=_forensic(findings, findings.probabilities.get("forensic"), verdict),
            generated=_generated(findings, findings.probabilities.get("generated"), verdict),
            provenance=provenance_signal(provenance, verdict),
        ),
        face_detections=_faces(findings),
        explanation=explanation.explain(
            verdict, explanation.image_factors(findings), findings.faults, provenance, judged.basis
        ),
        heatmap_url=_heatmap_url(head["analysis_id"]),
        unavailable=_unavailable(findings.unavailable, provenance),
        operating_point=judged.point,
    )


def video_answer(
    submission: Submission, findings: VideoFindings, provenance: Provenance | Absent, clock: Clock, operation: Operation
) -> schemas.VideoAnswer:
    """Return the response for a video.

    Raises ModelNotLoaded when no model could judge it, and FalseAlarmsUnknown.
    """
    probabilities = findings.probabilities
    judged = _verdict("video", findings, provenance, operation)
    verdict = judged.verdict
    head = _head(submission, clock, provenance)
    frames = [_frame(frame) for frame in findings.frames]
    risks = [frame.risk_score for frame in frames if frame.risk_score is not None]
    most_faces = max((frame.faces_detected for frame in frames), default=0)
    visual, forensic, generated = (_strongest_image(findings, name) for name in IMAGE_SIGNALS)
    factors = [
        *explanation.frame_factors(findings),
        *explanation.temporal_factors(findings.temporal),
        *([] if findings.sound is None else explanation.sound_factors(findings.sound)),
    ]
    return schemas.VideoAnswer(
        **head,
        video_info=schemas.VideoInfo(
            duration_seconds=round(findings.facts.duration, 3),
            total_frames=findings.facts.frame_count,
            fps=round(findings.facts.fps, 3),
            frames_analyzed=len(frames),
        ),
        classification=verdict.classification,
        confidence=verdict.confidence,
        risk_score=verdict.risk_score,
        average_risk_score=round(sum(risks) / len(risks), 1) if risks else None,
        frame_analysis=frames,
        temporal_consistency=_consistency(findings.temporal),
        signals=schemas.VideoSignals(
            visual=_visual(visual, probabilities.get("visual"), verdict, most_faces),
            forensic=_forensic(forensic, probabilities.get("forensic"), verdict),
            generated=_generated(generated, probabilities.get("generated"), verdict),
            temporal=_temporal(findings.temporal, verdict),
            audio=None if findings.sound is None else _audio(findings.sound, verdict),
            provenance=provenance_signal(provenance, verdict),
        ),
        explanation=explanation.explain(verdict, factors, findings.faults, provenance, judged.basis),
        heatmap_url=None if findings.worst is None else _heatmap_url(head["analysis_id"]),
        unavailable=_unavailable(findings.unavailable, provenance),
        operating_point=judged.point,
    )


def audio_answer(
    submission: Submission, findings: SoundFindings, provenance: Provenance | Absent, clock: Clock, operation: Operation
) -> schemas.AudioAnswer:
    """Return the response for a sound; without a verdict where nobody speaks, or where a model is missing.

    Raises FalseAlarmsUnknown.
    """
    head = _head(submission, clock, provenance)
    decoded_s, speech_s = findings.decoded_s, findings.speech_s
    parts: dict[str, Any] = {
        "audio_info": schemas.AudioInfo(
            duration_seconds=round(submission.facts.duration or decoded_s, 3),
            sample_rate=RATE,
            speech_seconds=None if speech_s is None else round(speech_s, 2),
            seconds_analyzed=round(decoded_s, 3),
            windows_analyzed=len(findings.segments),
            windows_total=findings.windows,
        ),
        "audio_features": schemas.AudioFeatures(
            rms_energy=round(min(findings.rms_energy, 1.0), 6),
            zero_crossing_rate=round(findings.zero_crossing_rate, 6),
        ),
        "segments": _segments(findings),
        "opinions": _opinions(findings),
        "out_of_domain": findings.outside,
    }
    heard = None
    basis = ""
    if findings.probability is not None:
        heard = fuse({"audio": findings.probability}, findings.outside)
    if heard is not None:
        heard, basis, parts["operating_point"] = operation.judge("audio", heard, findings.models)
    verdict = with_provenance(heard, _known(provenance))
    parts["signals"] = schemas.AudioSignals(provenance=provenance_signal(provenance, verdict))
    unavailable = _unavailable({}, provenance)
    if findings.absent is not None and findings.absent.missing:
        unavailable["prediction"] = findings.absent.reason
    told = explanation.provenance_factors(provenance)
    spoken = f"{speech_s or 0:.1f} s of speech in {decoded_s:.1f} s"
    if verdict is None:
        assert findings.absent is not None
        if findings.absent.missing:
            return schemas.AudioAnswer(
                **head,
                **parts,
                classification=None,
                confidence="LOW",
                risk_score=None,
                prediction=None,
                explanation=explanation.unjudged_sound(findings, told),
                unavailable=unavailable,
            )
        return schemas.AudioAnswer(
            **head,
            **parts,
            classification="NO_SPEECH",
            confidence="LOW",
            risk_score=None,
            prediction=None,
            explanation=schemas.Explanation(
                summary="Nobody speaks in this sound, so there is no voice to judge.",
                factors=[spoken, *told, *explanation.unheard(findings)],
                recommendation="Send a recording with at least half a second of speech.",
            ),
            unavailable=unavailable,
        )
    synthetic = None if findings.probability is None else round(findings.probability, 4)
    return schemas.AudioAnswer(
        **head,
        **parts,
        classification=verdict.classification,
        confidence=verdict.confidence,
        risk_score=verdict.risk_score,
        prediction=None
        if synthetic is None
        else schemas.Prediction(synthetic_probability=synthetic, real_probability=round(1 - synthetic, 4)),
        explanation=explanation.explain(verdict, explanation.sound_factors(findings), {}, provenance, basis),
        unavailable=unavailable,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """A verdict, what its confidence rests on, and the threshold for the rate of false alarms that was asked for."""

    verdict: Verdict
    basis: str
    point: schemas.OperatingPoint | None


def _verdict(
    media: Media, findings: ImageFindings | VideoFindings, provenance: Provenance | Absent, operation: Operation
) -> _Judged:
    probabilities, faults = findings.probabilities, findings.faults
    outside = findings.sound.outside if isinstance(findings, VideoFindings) and findings.sound is not None else []
    fused, basis, point = fuse(probabilities, [*faults, *outside]), "", None
    if fused is not None:
        fused, basis, point = operation.judge(media, fused, findings.models, faults)
    verdict = with_provenance(fused, _known(provenance))
    if verdict is None:
        if all(absent.reason.startswith(UNDECODABLE_TRACK) for absent in faults.values()):  # no fault of the models
            raise UndecodableMedia(
                "Nothing in this file can be measured: there is no face, and it is too small or too damaged."
            )
        reasons = " ".join(dict.fromkeys(absent.reason for absent in faults.values()))
        raise ModelNotLoaded(f"No model could judge this media, so there is no verdict. {reasons}")
    return _Judged(verdict, basis if verdict is fused else "", point)


def _known(provenance: Provenance | Absent) -> Provenance | None:
    return None if isinstance(provenance, Absent) else provenance


def _unavailable(missing: Mapping[str, Absent], provenance: Provenance | Absent) -> dict[str, str]:
    if isinstance(provenance, Absent) and provenance.missing:
        missing = {**missing, "provenance": provenance}
    return {f"signals.{name}": absent.reason for name, absent in sorted(missing.items())}


def _strongest_image(findings: VideoFindings, name: str) -> ImageFindings:
    """Return the frame whose measures are shown: the strongest one, else any, for the reason why there is no score."""
    for frame in (*findings.strongest(name), *findings.frames):
        return frame.image
    nothing = Absent("no frame could be decoded", fault=True)
    return ImageFindings((), nothing, nothing, nothing)


def _head(submission: Submission, clock: Clock, provenance: Provenance | Absent) -> dict[str, Any]:
    return {
        "analysis_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).replace(microsecond=0),
        "filename": submission.filename,
        "provenance": None if isinstance(provenance, Absent) else provenance_block(provenance),
        "processing_time_ms": round(clock.milliseconds),
    }


def _heatmap_url(analysis_id: str) -> str:
    return f"/api/v1/results/{analysis_id}/heatmap.png"


def _common(name: str, score: float | None, verdict: Verdict, signal: object) -> dict[str, Any]:
    return {
        "score": _rounded(score),
        "weight": 1.0 if name in ALONE else WEIGHTS.get(name, REST),
        "effective_weight": round(verdict.weights.get(name, 0.0), 4),
        "unavailable": signal.reason if isinstance(signal, Absent) and score is None else None,
    }


def _visual(findings: ImageFindings, score: float | None, verdict: Verdict, faces: int) -> schemas.VisualSignal:
    visual = findings.visual
    absent = "unavailable" if isinstance(visual, Absent) and visual.fault else "face_level" if faces else "no_face"
    return schemas.VisualSignal(
        **_common("visual", score, verdict, visual),
        faces_detected=faces,
        analysis_type=visual.level if isinstance(visual, Visual) else absent,
        model=visual.model if isinstance(visual, Visual) else None,
    )


def _forensic(findings: ImageFindings, score: float | None, verdict: Verdict) -> schemas.ForensicSignal:
    features, measured = None, findings.signals
    if isinstance(measured, Signals):
        features = schemas.Features(
            high_freq_ratio=round(measured.high_freq_ratio, 4),
            spectral_entropy=round(measured.spectral_entropy, 4),
            noise_variance=round(measured.noise_variance, 3),
            sharpness=round(measured.sharpness, 2),
            noise_inconsistency=round(measured.noise_inconsistency, 3),
            error_level=round(measured.error_level, 3),
            error_contrast=round(measured.error_contrast, 3),
            jpeg_ghost=round(measured.ghost, 4),
            jpeg_ghost_quality=measured.ghost_quality,
            double_compression=_rounded(measured.double_compression),
        )
    return schemas.ForensicSignal(**_common("forensic", score, verdict, measured), features=features)


def _generated(findings: ImageFindings, score: float | None, verdict: Verdict) -> schemas.GeneratedSignal:
    judged = findings.generated
    opinions = judged.opinions if isinstance(judged, Generated) else {}
    return schemas.GeneratedSignal(
        **_common("generated", score, verdict, judged),
        model=" and ".join(opinions) or None,
        opinions={name: round(opinion, 4) for name, opinion in opinions.items()},
    )


def _temporal(temporal: Temporal | Absent, verdict: Verdict) -> schemas.TemporalSignal:
    if isinstance(temporal, Absent):
        return schemas.TemporalSignal(**_common("temporal", None, verdict, temporal))
    return schemas.TemporalSignal(
        **_common("temporal", temporal.probability, verdict, None),
        embedding_jitter=round(temporal.embedding_jitter, 4),
        landmark_motion=round(temporal.landmark_motion, 4),
        flicker=round(temporal.flicker, 4),
        blink_rate=None if temporal.blink_rate is None else round(temporal.blink_rate, 1),
        seconds_observed=round(temporal.seconds, 2),
        looks=temporal.looks,
    )


def _audio(sound: SoundFindings, verdict: Verdict) -> schemas.AudioSignal:
    return schemas.AudioSignal(
        **_common("audio", sound.probability, verdict, sound.absent),
        speech_seconds=None if sound.speech_s is None else round(sound.speech_s, 2),
        segments=_segments(sound),
        opinions=_opinions(sound),
        out_of_domain=sound.outside,
    )


def _opinions(sound: SoundFindings) -> dict[str, float]:
    return {name: round(opinion, 4) for name, opinion in sound.opinions.items()}


def _segments(sound: SoundFindings) -> list[schemas.Segment]:
    return [
        schemas.Segment(
            start=round(segment.start, 3),
            end=round(segment.end, 3),
            synthetic_probability=round(segment.probability, 4),
        )
        for segment in sound.segments
    ]


def _frame(frame: FrameFindings) -> schemas.FrameAnalysis:
    verdict = fuse(frame.image.probabilities)
    return schemas.FrameAnalysis(
        frame_index=frame.frame,
        timestamp=round(frame.time, 3),
        risk_score=None if verdict is None else verdict.risk_score,
        classification=None if verdict is None else verdict.classification,
        faces_detected=len(frame.image.faces),
    )


def _consistency(temporal: Temporal | Absent) -> schemas.TemporalConsistency:
    if isinstance(temporal, Temporal):
        if temporal.probability >= TREMBLES:
            return "INCONSISTENT"
        return "UNDECIDED" if temporal.probability >= STEADY else "CONSISTENT"
    return "UNAVAILABLE" if temporal.fault else "NO_FACE_TRACK"


def _faces(findings: ImageFindings) -> list[schemas.FaceDetection]:
    visual = findings.visual
    judged = visual.probabilities if isinstance(visual, Visual) and visual.level == "face_level" else ()
    return [
        schemas.FaceDetection(
            face_id=place,
            bbox=_corners(face),
            detection_confidence=round(face.confidence, 4),
            fake_probability=_rounded(judged[place]) if place < len(judged) else None,
        )
        for place, face in enumerate(findings.faces)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _corners(face: Face) -> tuple[int, int, int, int]:
    return round(face.x), round(face.y), round(face.x + face.width), round(face.y + face.height)
