"""Requests and responses about indexes, traces and identities, with the names of ``media-api.md``."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, StringConstraints

from graphs.indexing.tags import TAGS, ObjectTag
from graphs.jobs.schemas import JobAnswer
from graphs.web.parts import UNAVAILABLE
from graphs.web.schemas import NOT_BLANK, AssetId, RemovedCounts, example

FILE: Final = "aeed71342a899fe4b4c57b7d41bcb692"
MAX_FRAME: Final = 2**31 - 1

FrameNumber = Annotated[int, Field(ge=0, le=MAX_FRAME)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), NOT_BLANK]
IndexStatus = Literal["not_indexed", "queued", "running", "succeeded", "failed"]


class Success(BaseModel):
    """Fields of every successful response."""

    success: Literal[True] = True


class FileAnswer(Success):
    """Fields of every response about one file."""

    file_uuid: str


class IndexAccepted(FileAnswer):
    """The job that indexes a video; the same job while file and models are the same."""

    job_id: str
    status: str
    status_url: str
    unavailable: dict[str, str] = UNAVAILABLE


class IndexState(BaseModel):
    """``models``, counts and so on are of the latest finished index, also while a new ``job`` is running."""

    status: IndexStatus
    job: JobAnswer | None = Field(description="the latest job")
    models: str | None = Field(default=None, description="null where nobody was looked for")
    indexed_at: datetime | None = None
    frames_apart: int | None = Field(
        default=None, description="frames from one in which faces were detected to the next"
    )
    cuts: list[int] = Field(default_factory=list, description="first frames of all shots but the first")
    trace_count: int = 0
    identity_count: int = 0
    object_models: str | None = Field(default=None, description="null where no objects were looked for")
    object_count: int = 0
    unavailable: dict[str, str] = UNAVAILABLE


class FileDetails(FileAnswer):
    """Facts of a video's file and the state of its index."""

    filename: str
    content_type: str
    format: str
    file_size: int = Field(description="bytes")
    width: int | None = Field(description="pixels, as shown: rotation and pixel shape applied")
    height: int | None
    rotation: int | None = Field(description="degrees clockwise, already applied to width and height")
    duration: float | None = Field(description="seconds")
    fps: float | None = Field(description="frames a second, on average")
    frame_count: int | None
    has_audio: bool | None
    uploaded_at: datetime
    index: IndexState
    tags: list[ObjectTag] | None = TAGS


class Trace(BaseModel):
    """One person in one stretch of the video."""

    trace_id: int
    first_frame: int
    last_frame: int
    first_time: float = Field(description="seconds")
    last_time: float
    face_count: int = Field(description="frames in which the face was detected; between them boxes are interpolated")
    identity_uuid: str | None
    thumbnail_url: str


class TracesAnswer(FileAnswer):
    """A page of traces in order of their ids, which is that of their first frames."""

    traces: list[Trace]
    total: int
    next: int | None = Field(description="``after`` of the next page; null where there is none")


class BBox(BaseModel):
    """Whole pixels of the upright frame; inside it."""

    x: int
    y: int
    width: int
    height: int


class TraceBox(BaseModel):
    """Where the face or object is in one frame; ``detected`` is false where that was interpolated."""

    frame_number: int
    bbox: BBox
    confidence: float
    detected: bool


class TraceAnswer(FileAnswer, Trace):
    """A trace with its boxes, or some of them."""

    boxes: list[TraceBox]
    next_frame: int | None = Field(description="``start_frame`` of the boxes that follow; null where there are none")


class ObjectTrack(BaseModel):
    """One object in one stretch of the video."""

    track_id: int
    label: str = Field(description="its class, one of those of the detector, as model-info names them")
    first_frame: int
    last_frame: int
    first_time: float = Field(description="seconds")
    last_time: float
    sightings: int = Field(description="frames in which it was detected; between them boxes are interpolated")
    confidence: float = Field(description="mean of the detections, 0 to 1")
    screen_time: float = Field(description="seconds from the beginning of the first frame to the end of the last")
    trace_id: int | None = Field(description="the trace of the face inside a person's track")
    thumbnail_url: str


class FileObjectsAnswer(FileAnswer):
    """A page of objects in order of their ids, which is that of their first frames."""

    objects: list[ObjectTrack]
    counts: dict[str, int] = Field(description="tracks of each class in the whole video")
    total: int = Field(description="tracks in the whole video")
    object_models: str = Field(description="version of the detector and its threshold")
    next: int | None = Field(description="``after`` of the next page; null where there is none")


class ObjectTrackAnswer(FileAnswer, ObjectTrack):
    """An object with its boxes, or some of them."""

    boxes: list[TraceBox]
    next_frame: int | None = Field(description="``start_frame`` of the boxes that follow; null where there are none")


class Representative(BaseModel):
    """The representative face of a trace."""

    frame_number: int
    timestamp_secs: float
    bbox: BBox
    confidence: float
    quality_score: float = Field(description="area in pixels times confidence")
    blur_score: float | None = Field(description="FFmpeg's blurdetect on the thumbnail, lower is sharper")


class RepresentativeAnswer(FileAnswer):
    """The sharpest of the ten faces of greatest quality_score."""

    trace_id: int
    face_count: int
    representative: Representative


class FilePerson(BaseModel):
    """Somebody in this video; ``thumbnail_url`` is that of the trace with the most detections."""

    identity_uuid: str
    name: str | None
    trace_ids: list[int]
    face_count: int
    first_frame: int
    last_frame: int
    first_time: float
    last_time: float
    thumbnail_url: str


class FilePeopleAnswer(FileAnswer):
    """Who is in this video, in order of appearance."""

    identities: list[FilePerson]
    unassigned_traces: int = Field(description="traces of people seen too briefly, or whose identity was deleted")


class CooccurringPerson(BaseModel):
    """``trace_id``: of the trace in which this person is seen in the first shared frame."""

    identity_uuid: str
    name: str | None
    trace_id: int


class RepresentativeFace(BaseModel):
    """The representative face of the trace of the first shared frame."""

    frame_number: int
    bbox: BBox
    confidence: float
    thumbnail_url: str


class Cooccurrence(BaseModel):
    """The first frame in which two faces are, and in how many they are."""

    frame_number: int
    timestamp_secs: float
    total_cooccurrence_frames: int
    representative_face_a: RepresentativeFace
    representative_face_b: RepresentativeFace


class CooccurrenceAnswer(FileAnswer):
    """Two people in one video."""

    identity_a: CooccurringPerson
    identity_b: CooccurringPerson
    first_cooccurrence: Cooccurrence


class CooccurringSide(BaseModel):
    """One of two who are together, and the trace or track in which it is seen in the first shared frame."""

    what: str = Field(description="as the request names it: identity:…, class:…, trace:… or object:…")
    name: str | None = Field(description="of the person, or the class")
    seen_by: Literal["face", "body", "object"] = Field(
        description="body: the face is turned away, and the track goes on that it is inside of"
    )
    trace_id: int | None
    track_id: int | None
    thumbnail_url: str
    frames_without_face: int | None = Field(
        description="shared frames in which this person is followed by the body alone; null where it is no person"
    )


class FirstCooccurrence(BaseModel):
    """The first frame that two share."""

    frame_number: int
    timestamp_secs: float


class SharedStretch(BaseModel):
    """Frames in a row that two share; seconds from its first frame to the end of its last."""

    start_frame: int
    end_frame: int
    start_time: float
    end_time: float


class SidesAnswer(FileAnswer):
    """Where two people or objects are together in one video."""

    a: CooccurringSide
    b: CooccurringSide
    first_cooccurrence: FirstCooccurrence
    total_cooccurrence_frames: int
    total_cooccurrence_secs: float
    stretches: list[SharedStretch]
    stretch_count: int = Field(description="stretches in the whole video, of which the first ones are listed")


class NewIdentity(BaseModel):
    """A person by reference photos; of each its largest face counts."""

    model_config = example(name="Audrey Hepburn", asset_ids=[FILE])
    name: Name
    asset_ids: list[AssetId] = Field(min_length=1, max_length=20)


class IdentityChange(BaseModel):
    """The new name; null removes it."""

    model_config = example(name="Audrey Hepburn")
    name: Name | None


class TraceRef(BaseModel):
    """A trace of a video."""

    file_uuid: AssetId
    trace_id: int = Field(ge=0, le=2**31 - 1)


class IdentitySplit(BaseModel):
    """Appearances that are of somebody else, and what that one is called."""

    model_config = example(traces=[{"file_uuid": FILE, "trace_id": 4}], name="Cary Grant")
    traces: list[TraceRef] = Field(min_length=1, max_length=1000)
    name: Name | None = None


class IdentityModel(BaseModel):
    """A person known across videos."""

    identity_uuid: str
    name: str | None
    thumbnail_url: str | None = Field(description="face of the longest appearance; null where there is none")
    reference_asset_ids: list[str]
    weight: float = Field(description="number of face vectors that its own is the mean of")
    models: str = Field(description="version of the model that made the vector; only equal ones are compared")
    created_at: datetime


class Appearance(BaseModel):
    """One trace of a person, in one video; times in seconds from its first frame."""

    file_uuid: str
    filename: str
    trace_id: int
    first_frame: int
    last_frame: int
    first_time: float
    last_time: float
    face_count: int
    thumbnail_url: str


class AppearancesAnswer(Success):
    """A page of appearances of one person, video by video, in each by time."""

    identity_uuid: str
    appearances: list[Appearance]
    next: str | None = Field(description="``after`` of the next page; null where there is none")


class SplitAnswer(Success):
    """Whom the appearances were taken from, and whom they were given to."""

    identity: IdentityModel = Field(description="the new one")
    remaining: IdentityModel


class IdentityAnswer(Success):
    """One identity."""

    identity: IdentityModel


class SimilarIdentity(BaseModel):
    """Who may be the same person."""

    identity_uuid: str
    name: str | None
    similarity_percentage: float = Field(description="0-100, from 75 on the same person")


class NewIdentityAnswer(IdentityAnswer):
    """A new identity, and those that may be the same person: merge them if they are."""

    similar: list[SimilarIdentity]


class IdentitiesAnswer(Success):
    """A page of identities in order of their uuids."""

    identities: list[IdentityModel]
    next: str | None = Field(description="``after`` of the next page; null where there is none")


class IdentityDeleted(Success):
    """Confirmation; its traces stay, without an identity."""

    identity_uuid: str
    deleted: Literal[True] = True
    removed: RemovedCounts
