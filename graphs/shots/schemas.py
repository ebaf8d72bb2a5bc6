"""Requests and responses of the shot routes, with the names of ``asset-api-fields.md``."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from graphs.indexing.tags import ObjectTag
from graphs.shots.usages import Source
from graphs.web.parts import UNAVAILABLE
from graphs.web.schemas import ID_1, NOT_BLANK, WHOLE, Answer, AssetId, Flag, Number, example
from stores.jobs import JobStatus
from vision.shots.transitions import THRESHOLD

FEATURES: Final = 384
MOST_SHOTS: Final = 1000
MOST_TAGS: Final = 50
MOST_USES: Final = 20
LAST_FRAME: Final = 2**31
LONGEST_TEXT: Final = 4000

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), NOT_BLANK]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), NOT_BLANK]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=LONGEST_TEXT)]
Use = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), NOT_BLANK]
ShotId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Tags = Annotated[list[Word], Field(max_length=MOST_TAGS, fail_fast=True)]
Uses = Annotated[list[Use], Field(max_length=MOST_USES, fail_fast=True)]
FrameNumber = Annotated[int, Field(ge=0, le=LAST_FRAME), WHOLE]
Seconds = Annotated[Number, Field(ge=0)]
Features = Annotated[list[Number], Field(min_length=FEATURES, max_length=FEATURES, fail_fast=True)]


OBJECTS: Final = Field(
    default=None,
    description="classes of objects that are seen in it, longest seen first; null where nobody looked through the film",
)


class TransitionIn(BaseModel):
    """How a shot begins; of a cut, both frames are the shot's first one."""

    kind: Label
    first_frame: FrameNumber
    last_frame: FrameNumber
    probability: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        default=None, description="that there is a transition; null where nobody has measured it"
    )


class ShotAnalysis(BaseModel):
    """One shot of a video; ``start_frame`` and ``end_frame`` are its first and last frame, counted from 0."""

    shot_index: int = Field(ge=0)
    start_timestamp: Seconds = Field(description="seconds from the first frame of the video")
    end_timestamp: Seconds = Field(description="when the last frame ends")
    duration: Seconds
    start_frame: FrameNumber
    end_frame: FrameNumber
    camera_movement: Label
    movement_intensity: FiniteFloat = Field(ge=0, description="share of the frame's size per second")
    shot_size: Label
    shot_angle: Label
    framing: Label
    features: Features | None = Field(description="raw features of the key frame")
    features_version: str | None = Field(default=None, description="the model of the features")
    auto_tags: Tags
    objects: list[ObjectTag] | None = OBJECTS
    keyframe_time: Seconds
    keyframe_frame: FrameNumber
    thumbnail_url: str | None = None
    transition_in: TransitionIn | None = None
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="that it begins and ends here: the lower probability of its transitions"
    )


class AnalyzeShotsRequest(BaseModel):
    """A video to find shots in."""

    model_config = example(video_asset_id=ID_1, shot_detection_threshold=0.5, extract_keyframes=True)

    video_asset_id: AssetId
    shot_detection_threshold: Number = Field(
        default=THRESHOLD, gt=0, lt=1, description="probability from which a frame is a transition; lower finds more"
    )
    extract_keyframes: Flag = Field(default=True, description="false leaves out features and thumbnails")


class ShotsAnalyzed(Answer):
    """The shots of a video, in order and without a gap."""

    video_asset_id: str
    video_filename: str
    video_duration: float = Field(description="seconds")
    fps: float
    shots_detected: int
    shot_detection_threshold: float
    analysis_timestamp: datetime
    models: str = Field(description="version of all models that were used")
    contact_sheet_url: str = Field(description="all keyframes with times and labels, as PNG or HTML")
    shot_analyses: list[ShotAnalysis]
    unavailable: dict[str, str] = UNAVAILABLE


class AnalysisPending(Answer):
    """The analysis runs on as a job; the same request sent again when it has ended returns the shots."""

    model_config = example(
        video_asset_id=ID_1,
        job_id="0b1f5e8a64c2d7f3a9e01c4b7d2f6a85",
        status="running",
        progress=0.4,
        status_url="/api/v1/jobs/0b1f5e8a64c2d7f3a9e01c4b7d2f6a85",
        message="Frame 5000 of 12000",
        processing_time=58.0,
    )

    video_asset_id: str
    job_id: str
    status: JobStatus
    progress: float
    status_url: str
    message: str


class ShotInput(BaseModel):
    """A shot of analyze-video-shots as it came, edited, or with descriptions; what is unknown is left out.

    A null or missing value is taken from the stored analysis of the same frames, where there is one. Frames that are
    missing follow of the times.
    """

    model_config = ConfigDict(extra="ignore")

    start_frame: FrameNumber | None = None
    end_frame: FrameNumber | None = None
    shot_index: FrameNumber | None = None
    start_timestamp: Seconds | None = None
    end_timestamp: Seconds | None = None
    camera_movement: Label | None = None
    movement_intensity: Number | None = Field(default=None, ge=0)
    shot_size: Label | None = None
    shot_angle: Label | None = None
    framing: Label | None = None
    features: Features | None = None
    features_version: Label | None = None
    auto_tags: Tags | None = None
    keyframe_time: Seconds | None = None
    keyframe_frame: FrameNumber | None = None
    transition_in: TransitionIn | None = None
    manual_tags: Tags | None = Field(default=None, description="instead of those of the request")
    emotional_tone: Label | None = None
    genre: Label | None = None
    scene_description: Text | None = None
    usage_situations: Uses | None = None


class SceneContext(BaseModel):
    """Descriptions of all shots of a request; a shot's own come before them."""

    model_config = ConfigDict(extra="forbid")

    description: Text | None = None
    emotional_tone: Label | None = None
    genre: Label | None = None
    usage_situations: Uses = Field(default_factory=list)


class StoreShotsRequest(BaseModel):
    """Shots of one video for the library; ``scene_context`` is a description, or an object with more."""

    model_config = example(
        video_asset_id=ID_1,
        shots=[
            {
                "shot_index": 0,
                "start_timestamp": 0.0,
                "end_timestamp": 4.2,
                "start_frame": 0,
                "end_frame": 104,
                "camera_movement": "pan_left",
                "movement_intensity": 0.12,
                "shot_size": "wide",
                "auto_tags": ["movement:pan_left", "size:wide"],
                "scene_description": "A car races through wet streets between neon signs",
            }
        ],
        scene_context={"description": "The getaway", "emotional_tone": "tense", "genre": "thriller"},
        manual_tags=["chase", "night", "city"],
    )

    video_asset_id: AssetId
    shots: list[ShotInput] = Field(min_length=1, max_length=MOST_SHOTS, fail_fast=True)
    scene_context: Text | SceneContext | None = None
    manual_tags: Tags | None = Field(default=None, description="replace the automatic tags, which are kept beside them")


class StoreShotsAnswer(Answer):
    """Ids follow from the video and the frames: storing the same shot again updates it."""

    video_asset_id: str
    shots_stored: int
    stored_shot_ids: list[str]
    scene_context: str | SceneContext | None


class SuggestRequest(BaseModel):
    """What a scene needs; with ``strict``, shots without its tone, genre and tags are left out.

    A shot that shows what a tag names, such as a dog, has that tag.
    """

    model_config = example(
        scene_description="a tense chase through a city at night",
        emotional_tone="tense",
        genre_context="thriller",
        desired_tags=["night"],
        limit=10,
    )

    scene_description: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TEXT), NOT_BLANK
    ]
    emotional_tone: Label | None = None
    genre_context: Label | None = None
    desired_tags: Tags | None = None
    limit: Annotated[int, Field(ge=1, le=100), WHOLE] = 10
    strict: Flag = False


class Reason(BaseModel):
    """One part of a score: ``score`` is how well it matched (0-1), ``weight`` what it counts for."""

    part: Literal["text", "keyframe", "emotional_tone", "genre", "tags", "objects"]
    score: float = Field(ge=0, le=1)
    weight: float = Field(ge=0, le=1)
    matched: list[str] = Field(description="the words, tags, labels or classes of objects that are in both")
    explanation: str


class Recommendation(BaseModel):
    """One shot of the library, and why it was chosen."""

    shot_id: str
    video_asset_id: str
    start_timestamp: float
    end_timestamp: float
    duration: float
    camera_movement: str
    shot_size: str
    shot_angle: str
    emotional_tone: str | None
    genre: str | None
    tags: list[str]
    objects: list[ObjectTag] | None = OBJECTS
    usage_situations: list[str]
    usage_source: Source = Field(description="given by people; derived from what was measured and said; or none")
    scene_description: str | None
    relevance_score: float = Field(ge=0, le=1)
    relevance_percentage: float = Field(ge=0, le=100, description="relevance_score in per cent")
    confidence: float = Field(
        ge=0, le=1, description="how far its score is above that of the median shot of the library, of what is possible"
    )
    reasons: list[Reason]
    thumbnail_url: str


class SuggestAnswer(Answer):
    """Shots, best first; ``total_found`` is how many of the library were ranked."""

    scene_description: str
    emotional_tone: str | None
    genre_context: str | None
    desired_tags: list[str]
    recommendations: list[Recommendation]
    total_found: int
    matched_by: list[str] = Field(
        description="the models that the texts were compared with, and the classes of objects that they name"
    )
    not_matched_by: list[str] = Field(description="what could not be compared, and why")
    unavailable: dict[str, str] = UNAVAILABLE


class StoredShot(BaseModel):
    """A shot of the library; ``tags`` are the manual ones if there are any, else the automatic ones."""

    shot_id: str
    video_asset_id: str
    shot_index: int
    start_timestamp: float
    end_timestamp: float
    duration: float
    start_frame: int
    end_frame: int
    keyframe_time: float
    keyframe_frame: int
    camera_movement: str
    movement_intensity: float
    shot_size: str
    shot_angle: str
    framing: str
    transition_in: TransitionIn | None
    tags: list[str]
    auto_tags: list[str]
    manual_tags: list[str]
    objects: list[ObjectTag] | None = OBJECTS
    emotional_tone: str | None
    genre: str | None
    scene_description: str | None
    usage_situations: list[str]
    features: list[float] | None
    features_version: str | None
    analysis_timestamp: datetime
    stored_timestamp: datetime
    thumbnail_url: str


class Pagination(BaseModel):
    """``total_pages`` is 0 where nothing was found."""

    page: int
    page_size: int
    total_shots: int
    total_pages: int


class LibraryAnswer(Answer):
    """One page of the library, latest stored first."""

    shots: list[StoredShot]
    pagination: Pagination
    filters_applied: dict[str, str | list[str]]


class ShotDeleted(Answer):
    """Confirmation that a shot is no longer in the library; its video stays."""

    shot_id: str
    deleted: Literal[True] = True
