"""Responses of the authenticity API, as ``authenticity-api.md`` names them, with further fields."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graphs.web.parts import UNAVAILABLE
from vision.provenance.credentials import State as CredentialState
from vision.provenance.findings import Basis as ProvenanceBasis
from vision.provenance.findings import Code as ProvenanceCode
from vision.provenance.sources import Kind as SourceKind

Share = Annotated[float, Field(ge=0, le=1)]
Risk = Annotated[float, Field(ge=0, le=100)]
Classification = Literal["AUTHENTIC", "SUSPICIOUS", "MANIPULATED"]
Confidence = Literal["LOW", "MEDIUM", "HIGH"]
TemporalConsistency = Literal["CONSISTENT", "INCONSISTENT", "UNDECIDED", "NO_FACE_TRACK", "UNAVAILABLE"]
ProvenanceStatus = Literal["trusted", "valid", "invalid", "unreadable", "remote", "unsigned", "none"]
"""State of the content credentials; without any, ``unsigned`` where metadata declare or contradict something."""
RISK = "0-100; AUTHENTIC below 40, SUSPICIOUS below 70, MANIPULATED from 70, of whole points"
CONFIDENCE = (
    "how often such verdicts are right among labelled samples that nothing was fitted to: HIGH at least 95 %, MEDIUM "
    "at least 80 %, else LOW, as where that was not measured, near 50, where signals disagree, and where a model is "
    "missing"
)


OPINIONS: Any = Field(default={}, description="probability of a synthetic voice by each model that judged")
OUT_OF_DOMAIN: Any = Field(
    default=[], description="why the sound is outside of what its models were made for; confidence is LOW then"
)


class Detail(BaseModel):
    """Body of every error of the authenticity API."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"detail": "Unsupported file type: a GIF. Supported: ['.jpg', '.png']"}]}
    )
    detail: str


class Signal(BaseModel):
    """One signal. ``score``: probability of manipulation, calibrated; null, with the reason, where there is none."""

    score: Share | None
    weight: Share = Field(description="its share in the verdict, before the shares are scaled to add up to 1")
    effective_weight: Share = Field(description="after that; 0 for a signal that does not exist")
    unavailable: str | None = Field(default=None, description="why there is no score")


class VisualSignal(Signal):
    """Signal of the visual model."""

    faces_detected: int = Field(ge=0)
    analysis_type: Literal["face_level", "image_level", "no_face", "unavailable"]
    model: str | None = Field(description="name and version of what judged")


class Features(BaseModel):
    """Measures of the pixels: of the luminance at the resolution of the image."""

    high_freq_ratio: Share = Field(description="share of the amplitude above half the Nyquist frequency")
    spectral_entropy: float = Field(ge=0, description="of the azimuthal average of the power spectrum, bits")
    noise_variance: float = Field(ge=0, description="Immerkaer's estimate, squared grey levels of 0-255")
    sharpness: float = Field(ge=0, description="variance of the Laplacian")
    noise_inconsistency: float = Field(ge=0, description="spread of the logarithm of local noise; higher: more uneven")
    error_level: float = Field(ge=0, description="mean change by saving again as JPEG, grey levels")
    error_contrast: float = Field(description="how far its highest blocks stand out, as a logarithm")
    jpeg_ghost: Share = Field(description="how far a part was compressed differently; the score rests on this")
    jpeg_ghost_quality: int
    double_compression: Share | None = Field(description="gaps in the DCT histograms; null where it cannot be told")


class ForensicSignal(Signal):
    """Signal of the pixels themselves."""

    features: Features | None


class GeneratedSignal(Signal):
    """Signal of the models of generated pictures.

    It is not pooled with the others: it makes the verdict alone where it is higher than they are together, and its
    effective weight is 1 then.
    """

    model: str | None = Field(description="name and version of what judged")
    opinions: dict[str, Share] = Field(description="probability by each model that judged")


class TemporalSignal(Signal):
    """Signal of a face that was tracked for some seconds."""

    embedding_jitter: float | None = Field(default=None, description="1 - cosine from look to look, mean")
    landmark_motion: float | None = Field(default=None, description="share of the distance of the eyes, r.m.s.")
    flicker: float | None = Field(default=None, description="of the logarithm of the face's brightness, r.m.s.")
    blink_rate: float | None = Field(default=None, description="a minute; null where the eyes are too small to tell")
    seconds_observed: float = 0.0
    looks: int = 0


class Segment(BaseModel):
    """A judged window of a sound, in seconds."""

    start: float
    end: float
    synthetic_probability: Share


class AudioSignal(Signal):
    """Signal of the sound of a video."""

    speech_seconds: float | None
    segments: list[Segment]
    opinions: dict[str, Share] = OPINIONS
    out_of_domain: list[str] = OUT_OF_DOMAIN


class ProvenanceSignal(Signal):
    """Signal of what the file says of itself; the block ``provenance`` of the answer has all of it.

    Its score is null where nothing says that the file was generated or changed, which means unknown: neither fake nor
    genuine. It has no share beside the others; where it decides, it does so alone.
    """

    status: ProvenanceStatus
    declared: ProvenanceBasis | None = Field(description="who stands for it that the file was generated; null: nobody")


class ImageSignals(BaseModel):
    """Signals of an image."""

    visual: VisualSignal
    forensic: ForensicSignal
    generated: GeneratedSignal
    provenance: ProvenanceSignal | None = None


class VideoSignals(BaseModel):
    """Signals of a video; ``audio`` is null for a silent one."""

    visual: VisualSignal
    forensic: ForensicSignal
    generated: GeneratedSignal
    temporal: TemporalSignal
    audio: AudioSignal | None
    provenance: ProvenanceSignal | None = None


class AudioSignals(BaseModel):
    """Signals of a sound beside the prediction."""

    provenance: ProvenanceSignal | None = None


class CredentialAction(BaseModel):
    """What was done to a file, as its signer says."""

    model_config = ConfigDict(from_attributes=True)
    name: str = Field(description="of C2PA, such as c2pa.created, c2pa.opened, c2pa.edited")
    source_type: str | None = Field(description="IPTC's digital source type, such as trainedAlgorithmicMedia")
    software: str | None
    when: str | None = Field(description="by the clock of the software")


class CredentialIngredient(BaseModel):
    """A file that went into this one."""

    model_config = ConfigDict(from_attributes=True)
    title: str
    relationship: str = Field(description="parentOf, componentOf or inputTo")
    format: str | None
    state: CredentialState | None = Field(description="of its own credentials when it was taken; null without any")
    signer: str | None
    declares: SourceKind | None = Field(description="what its own credentials say that it is")


class CredentialFailure(BaseModel):
    """A check that failed, by its code in the C2PA specification."""

    model_config = ConfigDict(from_attributes=True)
    code: str
    explanation: str


class ContentCredentials(BaseModel):
    """The active C2PA manifest of a file. Texts are the signer's own words, in one line, of 300 characters at most."""

    model_config = ConfigDict(from_attributes=True)
    state: CredentialState = Field(
        description="trusted: intact, of a signer on a trust list; valid: intact, of an unknown signer; invalid: a "
        "check failed; unreadable; remote: only an address is named, which is never fetched"
    )
    signer: str | None = Field(description="common name of the certificate")
    organisation: str | None
    algorithm: str | None
    serial: str | None
    signed_at: str | None = Field(description="of a time stamp; null without one")
    time_trusted: bool = Field(description="whether the authority that stamped the time is on a trust list")
    generator: str | None = Field(description="software that made the manifest, and its version")
    title: str | None
    bytes_match: bool | None = Field(description="whether the bytes are those that were signed; null: not reached")
    actions: list[CredentialAction]
    ingredients: list[CredentialIngredient]
    failures: list[CredentialFailure]
    remote_url: str | None
    unreadable: str | None = Field(description="why the credentials cannot be read")


class FileMetadata(BaseModel):
    """What metadata say that nobody signed, each as it is written in the file; null for what they do not say."""

    model_config = ConfigDict(from_attributes=True)
    digital_source_type: str | None
    make: str | None
    model: str | None
    software: str | None
    taken: str | None
    created: str | None
    modified: str | None
    generator: str | None = Field(description="program whose own text says that it generated the file")
    generator_place: str | None
    generator_text: str | None = Field(description="its first 300 characters")
    jpeg_quality: int | None = Field(description="1-100 where the tables are those of libjpeg; null for a maker's own")
    thumbnail_correlation: float | None = Field(description="of the embedded thumbnail with the picture, -1 to 1")


class ProvenanceFinding(BaseModel):
    """Something that was found, as code and as text. ``signed``: a signature that was checked vouches for it."""

    model_config = ConfigDict(from_attributes=True)
    code: ProvenanceCode
    severity: Literal["strong", "notable", "info"]
    text: str
    signed: bool


class ProvenanceDeclaration(BaseModel):
    """That the file, or a part of it, was generated: by which program, and who stands for that."""

    model_config = ConfigDict(from_attributes=True)
    kind: SourceKind
    by: str
    source_type: str | None
    basis: ProvenanceBasis


class Provenance(BaseModel):
    """Where a file says that it comes from. Nothing found means unknown, never fake and never genuine."""

    model_config = ConfigDict(from_attributes=True)
    status: ProvenanceStatus
    declaration: ProvenanceDeclaration | None
    credentials: ContentCredentials | None
    metadata: FileMetadata
    findings: list[ProvenanceFinding]


class FaceDetection(BaseModel):
    """One face; ``bbox`` is left, top, right, bottom in pixels of the upright image."""

    face_id: int
    bbox: tuple[int, int, int, int]
    detection_confidence: Share
    fake_probability: Share | None = Field(description="null where the visual model could not judge it")


class Explanation(BaseModel):
    """The verdict as text; every factor was measured."""

    summary: str
    factors: list[str]
    recommendation: str


class OperatingPoint(BaseModel):
    """The threshold that keeps the rate of false alarms that was asked for, and what is left at it."""

    max_false_alarms: Share = Field(description="as asked for")
    threshold: float = Field(description="risk score from which a file is flagged")
    flagged: bool = Field(description="whether this file is")
    recall: Share | None = Field(description="share of measured fakes that are flagged, every kind counting alike")
    recall_by_kind: dict[str, Share]
    false_alarms: int = Field(description="genuine samples that are flagged")
    false_alarm_bound: Share = Field(description="upper 95 % confidence bound of their rate (Clopper and Pearson)")
    genuine_samples: int
    fake_samples: int
    measured_on: str
    signals: dict[str, str] = Field(description="what was measured: the model of each signal")


OPERATING_POINT: Any = Field(
    default=None,
    description="there where max_false_alarms was given",
    exclude_if=lambda point: point is None,
)


class Answer(BaseModel):
    """Fields of every analysis."""

    analysis_id: str
    timestamp: datetime
    filename: str
    processing_time_ms: int
    provenance: Provenance | None = Field(
        default=None, description="where the file says that it comes from; null where its stage did not answer"
    )
    unavailable: dict[str, str] = UNAVAILABLE
    operating_point: OperatingPoint | None = OPERATING_POINT


class ImageAnswer(Answer):
    """The verdict on an image."""

    media_type: Literal["image"] = "image"
    classification: Classification
    confidence: Confidence = Field(description=CONFIDENCE)
    risk_score: Risk = Field(description=RISK)
    signals: ImageSignals
    face_detections: list[FaceDetection]
    explanation: Explanation
    heatmap_url: str


class BatchResult(BaseModel):
    """One image of a batch; ``error`` says why it has no verdict."""

    filename: str
    classification: Classification | None
    risk_score: Risk | None
    confidence: Confidence | None
    analysis_id: str | None
    error: str | None = None
    unavailable: dict[str, str] = UNAVAILABLE
    operating_point: OperatingPoint | None = OPERATING_POINT


class BatchAnswer(BaseModel):
    """Verdicts in the order of the files."""

    batch_id: str
    total_files: int
    results: list[BatchResult]
    processing_time_ms: int


class VideoInfo(BaseModel):
    """Facts of a video."""

    duration_seconds: float
    total_frames: int
    fps: float
    frames_analyzed: int


class FrameAnalysis(BaseModel):
    """One frame; ``risk_score`` is null where no model could say anything."""

    frame_index: int
    timestamp: float = Field(description="seconds from the first frame")
    risk_score: Risk | None
    classification: Classification | None
    faces_detected: int


class VideoAnswer(Answer):
    """The verdict on a video."""

    media_type: Literal["video"] = "video"
    video_info: VideoInfo
    classification: Classification
    confidence: Confidence = Field(description=CONFIDENCE)
    risk_score: Risk = Field(description=f"{RISK}; of the riskiest quarter of the frames, of motion and sound")
    average_risk_score: Risk | None = Field(description="mean of the frames")
    frame_analysis: list[FrameAnalysis]
    temporal_consistency: TemporalConsistency
    signals: VideoSignals
    explanation: Explanation
    heatmap_url: str | None


class AudioInfo(BaseModel):
    """Facts of a sound; ``sample_rate`` is what it was judged at."""

    duration_seconds: float = Field(description="of what can be decoded, whatever the header says")
    sample_rate: int
    speech_seconds: float | None = Field(description="null where the model of speech did not answer")
    seconds_analyzed: float = Field(description="of a long sound, the first hour")
    windows_analyzed: int
    windows_total: int


class Prediction(BaseModel):
    """Probabilities, together 1."""

    synthetic_probability: Share
    real_probability: Share


class AudioFeatures(BaseModel):
    """Measures of the samples."""

    rms_energy: Share
    zero_crossing_rate: Share


class AudioAnswer(Answer):
    """The verdict on a voice; where nobody speaks it is NO_SPEECH, without any score.

    Where a model is missing that the verdict needs, it is null, as the score is.
    """

    media_type: Literal["audio"] = "audio"
    audio_info: AudioInfo
    classification: Classification | Literal["NO_SPEECH"] | None
    confidence: Confidence = Field(description=CONFIDENCE)
    risk_score: Risk | None = Field(description=RISK)
    prediction: Prediction | None
    audio_features: AudioFeatures
    opinions: dict[str, Share] = OPINIONS
    out_of_domain: list[str] = OUT_OF_DOMAIN
    signals: AudioSignals | None = None
    segments: list[Segment]
    explanation: Explanation


AnyAnswer = Annotated[ImageAnswer | VideoAnswer | AudioAnswer, Field(discriminator="media_type")]
