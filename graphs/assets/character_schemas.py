"""Requests and responses of the character routes of the asset API, as ``asset-api-fields.md`` names them."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from graphs.assets.schemas import ID_2, ID_3, AssetIds, Cosine, FailedAsset, Percentage, Score
from graphs.web.schemas import ID_1, Answer, AssetId, Number, example

Basis = Annotated[
    Literal["face", "image"],
    Field(description="face: faces were compared; image: whole pictures, as one of them has no face that was found"),
]
ConfidenceLevel = Literal["high", "medium", "low"]
ShotStatus = Literal["excellent", "good", "acceptable", "poor", "unacceptable"]
SequenceStatus = Literal["excellent", "good", "acceptable", "needs_work"]
Action = Literal["approve", "review", "regenerate"]
Distance = Annotated[float, Field(ge=0, le=2, description="of the unit vectors")]
MAX_SHOTS: Final = 10_000
"""Shots of one sequence; the number of different assets in it is limited as in every list."""


class MatchingRequest(BaseModel):
    """A reference and the assets to test against it."""

    model_config = example(reference_asset_id=ID_1, test_asset_ids=[ID_2, ID_3])
    reference_asset_id: AssetId
    test_asset_ids: AssetIds = Field(min_length=1)


class GroupingRequest(BaseModel):
    """Assets to group by who is in them."""

    model_config = example(asset_ids=[ID_1, ID_2, ID_3], similarity_threshold=75)
    asset_ids: AssetIds = Field(min_length=1)
    similarity_threshold: Number | None = Field(
        default=None, ge=0, le=100, description="without it that of the configuration, which begins as 75"
    )


class ShotsRequest(BaseModel):
    """The shots of a sequence, in order, and an asset that shows its character."""

    model_config = example(shot_asset_ids=[ID_2, ID_3], character_reference_asset_id=ID_1)
    shot_asset_ids: AssetIds = Field(min_length=1, max_length=MAX_SHOTS)
    character_reference_asset_id: AssetId


class EnforcementRequest(BaseModel):
    """Generated assets and the reference whose character they should show."""

    model_config = example(master_reference_asset_id=ID_1, generated_asset_ids=[ID_2, ID_3], compliance_threshold=80)
    master_reference_asset_id: AssetId
    generated_asset_ids: AssetIds = Field(min_length=1)
    compliance_threshold: Number = Field(default=80.0, ge=0, le=100)


class ConsistencyAnswer(Answer):
    """``similarity_score`` is calibrated: from ``similarity_threshold`` on, the person is the same."""

    asset_id_1: str
    asset_id_2: str
    same_character: bool
    similarity_score: Percentage
    similarity_threshold: Percentage = Field(description="of the configuration")
    confidence_level: ConfidenceLevel
    confidence_score: Score
    explanation: str
    cosine_similarity: Cosine
    euclidean_distance: Distance
    basis: Basis


class Compared(BaseModel):
    """One asset compared with a reference; without numbers where ``error`` says why."""

    filename: str | None = Field(description="null for an unknown asset")
    cosine_similarity: Cosine | None = None
    euclidean_distance: Distance | None = None
    basis: Basis | None = None
    error: str | None = None


class MatchingResult(Compared):
    """Whether a test asset shows the person of the reference."""

    test_asset_id: str
    same_character: bool | None = None
    similarity_score: Percentage | None = None
    confidence_level: ConfidenceLevel | None = None
    confidence_score: Score | None = None
    explanation: str | None = None


class MatchingAnswer(Answer):
    """Results in the order of the request."""

    reference_asset_id: str
    reference_filename: str
    similarity_threshold: Percentage = Field(description="of the configuration")
    total_tested: int
    processed_successfully: int
    same_character_count: int
    average_similarity: Percentage | None = Field(description="null when nothing could be compared")
    consistency_results: list[MatchingResult]


class FaceBox(BaseModel):
    """Where the face of the group is in the picture; pixels."""

    x: float
    y: float
    width: float
    height: float


class GroupedAsset(BaseModel):
    """One asset of a group; ``face`` is null in a group by whole pictures."""

    asset_id: str
    filename: str
    face: FaceBox | None


class CharacterGroup(BaseModel):
    """Assets that show one person, or, with the basis ``image``, assets without faces that look alike."""

    group_id: int
    character_count: int = Field(description="assets in this group")
    assets: list[GroupedAsset] = Field(description="nearest to the middle of the group first")
    representative_asset: str = Field(description="the clear face nearest to the middle of the group")
    representative_asset_details: GroupedAsset = Field(description="the same asset with its name and face")
    basis: Basis


class GroupingAnswer(Answer):
    """Groups, the largest first. An asset with several people is in the group of each of them."""

    total_assets: int
    assets_with_features: int = Field(description="assets that are in a group")
    similarity_threshold: Percentage
    groups_found: int
    character_groups: list[CharacterGroup]
    failed_assets: list[FailedAsset]


class ShotValidation(Compared):
    """Whether a shot shows the person of the reference; ``shot_index`` counts from 0."""

    shot_index: int
    shot_asset_id: str
    consistent: bool | None = None
    similarity_score: Percentage | None = None
    validation_status: ShotStatus | None = None
    recommendation: str | None = None


class ShotsAnswer(Answer):
    """Shots in the order of the request; ``consistency_rate`` is of the shots that could be compared."""

    character_reference_asset_id: str
    reference_filename: str
    similarity_threshold: Percentage = Field(description="of the configuration")
    total_shots: int
    processed_shots: int
    consistent_shots: int
    consistency_rate: Score
    average_similarity: Percentage | None = Field(description="null when nothing could be compared")
    sequence_status: SequenceStatus
    sequence_recommendation: str
    shot_validations: list[ShotValidation]


class ComplianceResult(Compared):
    """Whether a generated asset shows the person of the reference."""

    generated_asset_id: str
    compliant: bool | None = None
    compliance_score: Percentage | None = None
    recommendation: str | None = None
    action: Action | None = None


class ActionSummary(BaseModel):
    """How many assets have each action; those with an error have none."""

    approve: int
    review: int
    regenerate: int


class EnforcementAnswer(Answer):
    """Results in the order of the request; ``compliance_rate`` is of the assets that could be compared."""

    master_reference_asset_id: str
    master_filename: str
    compliance_threshold: Percentage
    total_generated: int
    processed_successfully: int
    compliant_count: int
    compliance_rate: Score
    average_compliance_score: Percentage | None = Field(description="null when nothing could be compared")
    action_summary: ActionSummary
    compliance_results: list[ComplianceResult]
