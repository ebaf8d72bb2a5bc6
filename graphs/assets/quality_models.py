"""Requests and responses of the quality routes of the asset API, as ``asset-api-fields.md`` names them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from graphs.web.schemas import ID_1, Answer, AssetId

Score = Annotated[float, Field(ge=0, le=1)]


class FeatureStatistics(BaseModel):
    """Of the raw DINOv3 features."""

    mean: float
    std: float = Field(ge=0)
    max: float
    min: float


class QualityAnswer(Answer):
    """Quality by the quality models, and what the features look like; ``/model-info`` has the formulas."""

    asset_id: str
    quality_score: Score
    diversity_score: Score = Field(description="share of the feature dimensions in use; no verdict on the picture")
    feature_statistics: FeatureStatistics
    quality_threshold: Score = Field(description="of the configuration")
    passes_threshold: bool
    nima_technical_score: float = Field(ge=1, le=10)
    brisque_score: float = Field(ge=0, le=100, description="lower is better")
    sharpness_score: Score
    model_version: str = Field(description="of the features")


class MetricsAnswer(Answer):
    """Parts of the technical quality of a picture."""

    asset_id: str
    sharpness_score: Score
    lighting_quality: Score
    composition_score: Score
    overall_quality: Score
    dinov3_quality: Score = Field(description="diversity of the features alone; no verdict on the picture")
    quality_score: Score


class QualityResult(BaseModel):
    """One asset of a batch; without scores where ``error`` says why."""

    asset_id: str
    filename: str | None = Field(description="null for an unknown asset")
    quality_score: Score | None = None
    diversity_score: Score | None = None
    feature_statistics: FeatureStatistics | None = None
    passes_threshold: bool | None = None
    error: str | None = None


class BatchStatistics(BaseModel):
    """Over the assets that have a score."""

    mean_quality: Score
    std_quality: float = Field(ge=0)
    min_quality: Score
    max_quality: Score
    median_quality: Score


class BatchQualityAnswer(Answer):
    """Results in the order of the request; ``batch_statistics`` is null when no asset has a score."""

    total_assets: int
    processed_successfully: int
    failed_assets: int
    quality_results: list[QualityResult]
    batch_statistics: BatchStatistics | None
    quality_threshold: Score


class CompositionRequest(BaseModel):
    """One asset, with or without its features in the answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"asset_id": ID_1, "extract_features": False}]})
    asset_id: AssetId
    extract_features: bool = True


class ImageDimensions(BaseModel):
    """Pixels, upright; for a video those of its poster."""

    width: int
    height: int


class CompositionAnalysis(BaseModel):
    """How the picture is framed, in the words of cinematography; "undetermined" where it does not say."""

    shot_size: str = Field(description="extreme_close_up to extreme_wide; by the largest face")
    shot_angle: str = Field(description="eye_level, high_angle, low_angle or dutch; by the faces")
    framing: str = Field(description="left_third, centered or right_third")
    aspect_ratio: float = Field(gt=0, description="width / height")


class SymmetryScore(BaseModel):
    """1 for a picture that is its own mirror image."""

    horizontal_symmetry: Score
    vertical_symmetry: Score
    overall_symmetry: Score


class ColorAnalysis(BaseModel):
    """``dominant_hue`` is null for a grey picture."""

    color_diversity: Score
    dominant_hue: float | None = Field(description="degrees, 0-360")
    color_balance: Score = Field(description="0 a pure colour, 1 neutral")
    warm_cool_ratio: Score = Field(description="share of warm colours among the coloured pixels")


class EnhancedAnalysis(BaseModel):
    """Measures of the composition, 0-1 each."""

    rule_of_thirds_score: Score
    symmetry_score: SymmetryScore
    depth_of_field: Score = Field(description="0: all equally sharp; 1: the subject stands out")
    color_analysis: ColorAnalysis
    edge_density: Score
    composition_balance: Score


class CompositionAnswer(Answer):
    """How a picture is composed."""

    asset_id: str
    filename: str
    image_dimensions: ImageDimensions
    composition_analysis: CompositionAnalysis
    enhanced_analysis: EnhancedAnalysis
    composition_score: Score
    faces_detected: int
    features: list[float] | None = Field(description="raw DINOv3 features; null with extract_features=false")
    composition_tags: list[str]
