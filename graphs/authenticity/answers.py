"""From findings to responses."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from deployments.forensics.signal import Signals
from deployments.forensics.visual import Visual
from graphs.authenticity import explanation, models
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.findings import UNHEARD, Absent, Movement, PictureFindings, SoundFindings
from graphs.authenticity.fusion import REST, WEIGHTS, Verdict, classify, fuse
from graphs.authenticity.moving import VideoFindings
from graphs.authenticity.sound import RATE
from graphs.authenticity.uploads import Handed
from graphs.web.context import Clock
from vision.errors import ModelNotLoaded
from vision.faces.face import Face
from vision.forensics.temporal import Temporal

STEADY: Final = 0.4
TREMBLES: Final = 0.7


def image_answer(handed: Handed, found: PictureFindings, clock: Clock) -> models.ImageAnswer:
    """Raises ModelNotLoaded when no model could say anything."""
    verdict = _verdict(found.probabilities, found.faults)
    head = _head(handed, clock)
    return models.ImageAnswer(
        **head,
        classification=verdict.classification,
        confidence=verdict.confidence,
        risk_score=verdict.risk_score,
        signals=models.ImageSignals(
            visual=_visual(found, found.probabilities.get("visual"), verdict, len(found.faces)),
            forensic=_forensic(found, found.probabilities.get("forensic"), verdict),
        ),
        face_detections=_faces(found),
        explanation=explanation.explained(verdict, explanation.picture_factors(found), found.faults),
        heatmap_url=_heatmap_url(head["analysis_id"]),
    )


def video_answer(handed: Handed, found: VideoFindings, clock: Clock) -> models.VideoAnswer:
    """Raises ModelNotLoaded when no model could say anything."""
    probabilities = found.probabilities
    verdict = _verdict(probabilities, found.faults)
    head = _head(handed, clock)
    frames = [_frame(frame.frame, frame.time, frame.picture) for frame in found.frames]
    risks = [frame.risk_score for frame in frames if frame.risk_score is not None]
    most_faces = max((frame.faces_detected for frame in frames), default=0)
    visual, forensic = _shown(found, "visual"), _shown(found, "forensic")
    factors = [
        *explanation.footage_factors(found),
        *explanation.movement_factors(found.movement),
        *([] if found.sound is None else explanation.sound_factors(found.sound)),
    ]
    return models.VideoAnswer(
        **head,
        video_info=models.VideoInfo(
            duration_seconds=round(found.facts.duration, 3),
            total_frames=found.facts.frame_count,
            fps=round(found.facts.fps, 3),
            frames_analyzed=len(frames),
        ),
        classification=verdict.classification,
        confidence=verdict.confidence,
        risk_score=verdict.risk_score,
        average_risk_score=round(sum(risks) / len(risks), 1) if risks else None,
        frame_analysis=frames,
        temporal_consistency=_consistency(found.movement),
        signals=models.VideoSignals(
            visual=_visual(visual, probabilities.get("visual"), verdict, most_faces),
            forensic=_forensic(forensic, probabilities.get("forensic"), verdict),
            temporal=_temporal(found.movement, verdict),
            audio=None if found.sound is None else _audio(found.sound, verdict),
        ),
        explanation=explanation.explained(verdict, factors, found.faults),
        heatmap_url=None if found.worst is None else _heatmap_url(head["analysis_id"]),
    )


def audio_answer(handed: Handed, found: SoundFindings, clock: Clock) -> models.AudioAnswer:
    """Raises ModelNotLoaded when no model could say anything."""
    head = _head(handed, clock)
    parts: dict[str, Any] = {
        "audio_info": models.AudioInfo(
            duration_seconds=round(found.heard_s if found.whole else max(found.heard_s, handed.facts.duration or 0), 3),
            sample_rate=RATE,
            speech_seconds=None if found.speech_s is None else round(found.speech_s, 2),
            seconds_analyzed=round(found.heard_s, 3),
            windows_analyzed=len(found.segments),
            windows_total=found.windows,
        ),
        "audio_features": models.AudioFeatures(
            rms_energy=round(min(found.rms_energy, 1.0), 6), zero_crossing_rate=round(found.zero_crossing_rate, 6)
        ),
        "segments": _segments(found),
    }
    if found.probability is None:
        assert found.absent is not None
        if found.absent.fault:
            raise ModelNotLoaded(found.absent.reason)
        return models.AudioAnswer(
            **head,
            **parts,
            classification="NO_SPEECH",
            confidence="LOW",
            risk_score=None,
            prediction=None,
            explanation=models.Explanation(
                summary="Nobody speaks in this sound, so there is no voice to judge.",
                factors=[f"{found.speech_s or 0:.1f} s of speech in {found.heard_s:.1f} s"],
                recommendation="Send a recording with at least half a second of speech.",
            ),
        )
    verdict = _verdict({"audio": found.probability}, {})
    synthetic = round(found.probability, 4)
    return models.AudioAnswer(
        **head,
        **parts,
        classification=verdict.classification,
        confidence=verdict.confidence,
        risk_score=verdict.risk_score,
        prediction=models.Prediction(synthetic_probability=synthetic, real_probability=round(1 - synthetic, 4)),
        explanation=explanation.explained(verdict, explanation.sound_factors(found), {}),
    )


def _verdict(probabilities: Mapping[str, float], faults: Mapping[str, str]) -> Verdict:
    unseen = [] if {"visual", "audio"} & set(probabilities) else ["visual"]  # the pixels alone say too little
    verdict = fuse(probabilities, [*faults, *unseen])
    if verdict is None:
        if all(reason.startswith(UNHEARD) for reason in faults.values()):  # no fault of the models
            raise UndecodableMedia(
                "Nothing in it can be measured: there is no face, and it is too small or too damaged."
            )
        reasons = " ".join(dict.fromkeys(faults.values()))
        raise ModelNotLoaded(f"No model could judge this media, so there is no verdict. {reasons}")
    return verdict


def _shown(found: VideoFindings, name: str) -> PictureFindings:
    """The frame whose measures are told: the highest of those that make the score, else any, for why there is none."""
    for frame in (*found.standing(name), *found.frames):
        return frame.picture
    return PictureFindings((), Absent("no frame could be looked at", True), Absent("no frame could be seen", True))


def _head(handed: Handed, clock: Clock) -> dict[str, Any]:
    return {
        "analysis_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).replace(microsecond=0),
        "filename": handed.filename,
        "processing_time_ms": round(clock.milliseconds),
    }


def _heatmap_url(analysis_id: str) -> str:
    return f"/api/v1/results/{analysis_id}/heatmap.png"


def _common(name: str, score: float | None, verdict: Verdict, absent: Any) -> dict[str, Any]:
    return {
        "score": _rounded(score),
        "weight": WEIGHTS.get(name, REST),
        "effective_weight": round(verdict.weights.get(name, 0.0), 4),
        "unavailable": absent.reason if isinstance(absent, Absent) and score is None else None,
    }


def _visual(found: PictureFindings, score: float | None, verdict: Verdict, faces: int) -> models.VisualSignal:
    visual = found.visual
    absent = "unavailable" if isinstance(visual, Absent) and visual.fault else "face_level" if faces else "no_face"
    return models.VisualSignal(
        **_common("visual", score, verdict, visual),
        faces_detected=faces,
        analysis_type=visual.level if isinstance(visual, Visual) else absent,
        model=visual.model if isinstance(visual, Visual) else None,
    )


def _forensic(found: PictureFindings, score: float | None, verdict: Verdict) -> models.ForensicSignal:
    features = None
    if isinstance(found.signals, Signals):
        measured = found.signals
        features = models.Features(
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
    return models.ForensicSignal(**_common("forensic", score, verdict, found.signals), features=features)


def _temporal(movement: Movement, verdict: Verdict) -> models.TemporalSignal:
    if isinstance(movement, Absent):
        return models.TemporalSignal(**_common("temporal", None, verdict, movement))
    return models.TemporalSignal(
        **_common("temporal", movement.probability, verdict, None),
        embedding_jitter=round(movement.embedding_jitter, 4),
        landmark_motion=round(movement.landmark_motion, 4),
        flicker=round(movement.flicker, 4),
        blink_rate=None if movement.blink_rate is None else round(movement.blink_rate, 1),
        seconds_observed=round(movement.seconds, 2),
        looks=movement.looks,
    )


def _audio(sound: SoundFindings, verdict: Verdict) -> models.AudioSignal:
    return models.AudioSignal(
        **_common("audio", sound.probability, verdict, sound.absent),
        speech_seconds=None if sound.speech_s is None else round(sound.speech_s, 2),
        segments=_segments(sound),
    )


def _segments(sound: SoundFindings) -> list[models.Segment]:
    return [
        models.Segment(
            start=round(segment.start, 3),
            end=round(segment.end, 3),
            synthetic_probability=round(segment.probability, 4),
        )
        for segment in sound.segments
    ]


def _frame(number: int, time: float, found: PictureFindings) -> models.FrameAnalysis:
    verdict = fuse(found.probabilities)
    return models.FrameAnalysis(
        frame_index=number,
        timestamp=round(time, 3),
        risk_score=None if verdict is None else verdict.risk_score,
        classification=None if verdict is None else classify(verdict.risk_score),
        faces_detected=len(found.faces),
    )


def _consistency(movement: Movement) -> Any:
    if isinstance(movement, Temporal):
        if movement.probability >= TREMBLES:
            return "INCONSISTENT"
        return "UNDECIDED" if movement.probability >= STEADY else "CONSISTENT"
    return "UNAVAILABLE" if movement.fault else "NO_FACE_TRACK"


def _faces(found: PictureFindings) -> list[models.FaceDetection]:
    visual = found.visual
    judged = visual.probabilities if isinstance(visual, Visual) and visual.level == "face_level" else ()
    return [
        models.FaceDetection(
            face_id=place,
            bbox=_corners(face),
            detection_confidence=round(face.confidence, 4),
            fake_probability=_rounded(judged[place]) if place < len(judged) else None,
        )
        for place, face in enumerate(found.faces)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _corners(face: Face) -> tuple[int, int, int, int]:
    return round(face.x), round(face.y), round(face.x + face.width), round(face.y + face.height)
