"""Requests and responses of the asset API, as ``asset-api-fields.md`` names them; those of characters are apart."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, StringConstraints

from graphs.assets.scores import ScorePart
from graphs.indexing.tags import TAGS, ObjectTag
from graphs.web.parts import BASED_ON, UNAVAILABLE
from graphs.web.schemas import ID_1, NOT_BLANK, WHOLE, Answer, AssetId, Flag, Number, RemovedCounts, example
from vision.errors import StageError
from vision.media.sniff import MediaKind
from vision.quality.content import Content

AssetIds = Annotated[list[Annotated[str, StringConstraints(min_length=0)]], Field(fail_fast=True)]
"""Any text may stand in a list: what is no id of an asset costs itself alone. Validation stops at the first element
that is no text: a body of a megabyte can hold half a million of them. Only of text with constraints is it checked that
it is Unicode: JSON can escape half a surrogate pair."""
Percentage = Annotated[float, Field(ge=0, le=100)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Score = Annotated[float, Field(ge=0, le=1)]

ID_2 = "60303ae22b998861bce3b28f33eec1be"
ID_3 = "fd61a03af4f77d870fc21e05e7e80678"


class AssetRef(BaseModel):
    """One asset."""

    model_config = example(asset_id=ID_1)
    asset_id: AssetId


class PairRequest(BaseModel):
    """Two assets."""

    model_config = example(asset_id_1=ID_1, asset_id_2=ID_2)
    asset_id_1: AssetId
    asset_id_2: AssetId


class BestMatchRequest(BaseModel):
    """A reference and its candidates."""

    model_config = example(reference_asset_id=ID_1, candidate_asset_ids=[ID_2, ID_3])
    reference_asset_id: AssetId
    candidate_asset_ids: AssetIds = Field(min_length=1)


class BatchRequest(BaseModel):
    """A set of assets."""

    model_config = example(asset_ids=[ID_1, ID_2, ID_3])
    asset_ids: AssetIds = Field(min_length=1)


class SearchRequest(BaseModel):
    """A query and the assets to search; without dataset_asset_ids the whole library."""

    model_config = example(query_asset_id=ID_1, top_k=5)
    query_asset_id: AssetId
    dataset_asset_ids: AssetIds | None = None
    top_k: Annotated[int, Field(ge=1, le=1000), WHOLE] = 10


class TextSearchRequest(BaseModel):
    """What a picture should show, in words."""

    model_config = example(text="a dog on a beach", top_k=5)
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)] = NOT_BLANK
    top_k: Annotated[int, Field(ge=1, le=1000), WHOLE] = 10


class AnomalyRequest(BaseModel):
    """References that show what is normal, and the assets to test."""

    model_config = example(reference_asset_ids=[ID_1, ID_2], test_asset_ids=[ID_3], anomaly_threshold=2.0)
    reference_asset_ids: AssetIds = Field(min_length=1, description="at least 2, as one has no spread")
    test_asset_ids: AssetIds = Field(min_length=1)
    anomaly_threshold: Number = Field(default=2.0, ge=0, le=100)


class ClusteringRequest(BaseModel):
    """Assets to group; without n_clusters the number is chosen by silhouette."""

    model_config = example(asset_ids=[ID_1, ID_2, ID_3], n_clusters=2, cluster_method="kmeans")
    asset_ids: AssetIds = Field(min_length=2)
    n_clusters: Annotated[int, Field(ge=1, le=100), WHOLE] | None = None
    cluster_method: Literal["kmeans", "dbscan", "agglomerative", "hdbscan"] = "kmeans"
    eps: Number = Field(default=0.35, gt=0, le=2, description="dbscan: largest cosine distance of neighbours")
    min_samples: Annotated[int, Field(ge=1, le=50), WHOLE] = Field(
        default=2, description="dbscan and hdbscan: smallest neighbourhood"
    )


class QualityThreshold(BaseModel):
    """New quality threshold."""

    model_config = example(threshold=0.7)
    threshold: Number = Field(ge=0, le=1)


class SimilarityThreshold(BaseModel):
    """New similarity threshold, in per cent."""

    model_config = example(threshold=75.0)
    threshold: Number = Field(ge=0, le=100)


class MediaAnswer(Answer):
    """An uploaded asset."""

    asset_id: str
    filename: str
    content_type: str
    file_size: int = Field(description="bytes")
    public_url: str
    width: int | None = Field(description="pixels, as shown: EXIF orientation, rotation and pixel shape applied")
    height: int | None
    format: str
    upload_timestamp: datetime
    processing_status: Literal["uploaded", "processed", "failed"]
    duration: float | None = Field(default=None, description="seconds, for video and audio")
    fps: float | None = None
    frame_count: int | None = None
    rotation: int | None = Field(default=None, description="degrees clockwise, already applied to width and height")


class UploadAnswer(MediaAnswer):
    """An uploaded asset; ``duplicate`` is true when the same bytes had been uploaded before, by anyone.

    Name and time are those of this client's first upload.
    """

    duplicate: bool


class MediaDetails(MediaAnswer):
    """An asset with its features, once computed."""

    features_extracted: bool
    features_timestamp: datetime | None
    error_message: str | None
    features: list[float] | None
    tags: list[ObjectTag] | None = TAGS


class DeleteAnswer(Answer):
    """Confirmation of a delete."""

    asset_id: str
    deleted: bool
    storage_deleted: bool = Field(description="false where the file stays for others who uploaded it as well")
    removed: RemovedCounts = Field(description="all 0 where the file stays for others")
    message: str


class FeaturesAnswer(Answer):
    """Raw features of the serving model."""

    asset_id: str
    features: list[float] = Field(min_length=384, max_length=384)
    features_extracted: bool
    features_timestamp: datetime
    cached: bool
    model_version: str


class PreprocessAnswer(Answer):
    """The tensor that the model receives of an asset."""

    asset_id: str
    preprocessed: bool
    tensor_shape: list[int]
    device: str
    dtype: str
    value_range: list[float] = Field(description="smallest and largest value of the tensor")


CERTAINTY: Final = Field(
    description="how sure it is on which side of the configured similarity threshold the percentage is: 0 at the "
    "threshold, 1 at the end of the scale"
)


class UnrelatedPictures(BaseModel):
    """Similarity percentages of pictures that have nothing to do with each other, measured with this model."""

    median: Percentage
    p95: Percentage = Field(description="95 of 100 unrelated pairs are below")
    pairs: int = Field(description="how many pairs were measured")


UNRELATED: Final = Field(
    description="what unrelated pictures have by the model in service; null where nobody has measured it"
)


class SimilarityAnswer(Answer):
    """How alike two pictures are as a whole."""

    asset_id_1: str
    asset_id_2: str
    similarity_percentage: Percentage
    cosine_similarity: Cosine
    euclidean_distance: float = Field(description="of the unit vectors, 0-2")
    confidence: Score = CERTAINTY
    unrelated: UnrelatedPictures | None = UNRELATED
    model_version: str


class Match(BaseModel):
    """One ranked candidate."""

    asset_id: str
    filename: str
    similarity_percentage: Percentage
    cosine_similarity: Cosine
    euclidean_distance: float
    confidence: Score = CERTAINTY


class FailedAsset(BaseModel):
    """An asset that could not be compared, and why."""

    asset_id: str
    error: str


def failed_assets(asset_ids: Iterable[str], failures: Mapping[str, StageError]) -> list[FailedAsset]:
    """Return those of these assets that failed, in that order, as responses list them."""
    return [FailedAsset(asset_id=each, error=failures[each].message) for each in asset_ids if each in failures]


class BestMatchAnswer(Answer):
    """Candidates, best first."""

    reference_asset_id: str
    candidates_processed: int
    best_match: Match | None
    ranked_results: list[Match]
    unrelated: UnrelatedPictures | None = UNRELATED
    failed_assets: list[FailedAsset]


class MatrixCell(BaseModel):
    """Similarity to one other asset."""

    asset_id: str
    similarity_percentage: Percentage
    confidence: Score = CERTAINTY


class MatrixRow(BaseModel):
    """Similarities of one asset to all."""

    asset_id: str
    similarities: list[MatrixCell]


class MatrixAnswer(Answer):
    """All pairs."""

    assets_processed: int
    similarity_matrix: list[MatrixRow]
    matrix_shape: list[int]
    unrelated: UnrelatedPictures | None = UNRELATED
    failed_assets: list[FailedAsset]


class SearchHit(BaseModel):
    """One search result."""

    asset_id: str
    filename: str
    kind: MediaKind
    similarity_score: Percentage = Field(description="similarity_percentage under the name of the contract")
    similarity_percentage: Percentage = Field(description="(cosine_similarity + 1)·50")
    cosine_similarity: Cosine
    euclidean_distance: float
    confidence: Score = CERTAINTY


class SearchAnswer(Answer):
    """Results, best first; the query itself is not among them."""

    query_asset_id: str
    query_filename: str
    dataset_size: int = Field(description="assets to search, the query not counted")
    results_found: int
    top_k: int
    search_results: list[SearchHit]
    unrelated: UnrelatedPictures | None = UNRELATED
    failed_assets: list[FailedAsset]


class TextSearchHit(BaseModel):
    """One picture, or a video by its poster; ``cosine_similarity`` is that of CLIP between text and picture.

    It is no per cent of anything: about 0.15 for what does not fit, from 0.25 for what does. The order counts.
    """

    asset_id: str
    filename: str
    kind: MediaKind
    cosine_similarity: Cosine


class TextSearchAnswer(Answer):
    """Results, best first."""

    text: str
    dataset_size: int = Field(description="assets that were searched")
    complete: bool = Field(description="false where some were never looked at by the model: ask again to go on")
    results_found: int
    top_k: int
    search_results: list[TextSearchHit]
    failed_assets: list[FailedAsset]
    model_version: str


class AnomalyResult(BaseModel):
    """``anomaly_score``: standard deviations above the references' own distances to their centroid."""

    asset_id: str
    filename: str
    anomaly_score: float
    centroid_similarity: Cosine = Field(description="cosine to the middle of the references, -1 to 1")
    centroid_similarity_percentage: Percentage = Field(description="(centroid_similarity + 1)·50")
    is_anomaly: bool
    confidence: float = Field(ge=0, le=1, description="how far the score is from the threshold")


class AnomalyAnswer(Answer):
    """Test assets in the order they were sent."""

    reference_assets: int
    test_assets: int
    anomaly_threshold: float
    anomalies_detected: int
    anomaly_rate: float = Field(ge=0, le=1)
    average_anomaly_score: float
    anomaly_results: list[AnomalyResult]
    failed_assets: list[FailedAsset]


class NamedAsset(BaseModel):
    """An asset and its file name."""

    asset_id: str
    filename: str


SEPARATION: Final = Field(
    ge=0,
    le=1,
    description="how well it is set apart from the nearest other cluster: the mean silhouette, 0 where it is negative; "
    "null below 2 clusters",
)


class Cluster(BaseModel):
    """One cluster; its centroid is the mean of its members' unit vectors."""

    cluster_id: int
    size: int
    inertia: float
    centroid: list[float]
    assets: list[str]
    asset_details: list[NamedAsset] = Field(description="the same assets with their names")
    confidence: float | None = SEPARATION


class ClusteringAnswer(Answer):
    """``noise``: assets that a density method put into no cluster."""

    total_assets: int
    assets_clustered: int
    n_clusters: int
    total_inertia: float
    silhouette_score: float | None
    confidence: float | None = SEPARATION
    cluster_method: str
    clusters: list[Cluster]
    noise: list[str]
    failed_assets: list[FailedAsset]


class ConfigAnswer(Answer):
    """The configuration in force."""

    quality_threshold: float
    similarity_threshold: float
    max_file_size_mb: float
    max_batch_size: int
    request_timeout_seconds: float
    max_video_size_mb: float
    max_audio_size_mb: float
    max_image_megapixels: float
    supported_formats: list[str]


class QualityThresholdAnswer(Answer):
    """The threshold before and after."""

    quality_threshold: float
    previous_threshold: float
    updated: bool


class SimilarityThresholdAnswer(Answer):
    """The threshold before and after."""

    similarity_threshold: float
    previous_threshold: float
    updated: bool


class FeatureStatistics(BaseModel):
    """Of the raw DINOv3 features."""

    mean: float
    std: float = Field(ge=0)
    max: float
    min: float


OUTSIDE: Final = Field(
    description="why brisque_score may misjudge this picture: plain_ground, shallow_focus or flat_colours; empty for "
    "most photographs"
)
AGREED: Final = Field(default=None, description="as that of analyze-quality")
AGREEMENT: Final = Field(
    description="how far the parts of quality_score agree, times the share of its weights that was measured on a "
    "picture such as its model was made for; null without a score"
)


class QualityAnswer(Answer):
    """Quality by the quality models, and what the features look like; ``/model-info`` has the formulas.

    What a missing model would have measured is null, and ``unavailable`` says why.
    """

    asset_id: str
    quality_score: Score | None = Field(description="null where the models of NIMA and of BRISQUE are missing")
    based_on: list[ScorePart] | None = BASED_ON
    diversity_score: Score | None = Field(
        description="share of the feature dimensions in use; no verdict on the picture"
    )
    feature_statistics: FeatureStatistics | None
    quality_threshold: Score = Field(description="of the configuration")
    passes_threshold: bool | None
    nima_technical_score: float | None = Field(ge=1, le=10)
    brisque_score: float | None = Field(ge=0, le=100, description="lower is better")
    brisque_model: str | None = Field(
        description="version of the regression; scores of different ones differ by some points"
    )
    brisque_outside: list[Content] = OUTSIDE
    sharpness_score: Score
    confidence: Score | None = AGREEMENT
    model_version: str | None = Field(description="of the features")
    unavailable: dict[str, str] = UNAVAILABLE


class MetricsAnswer(Answer):
    """Parts of the technical quality of a picture; null where a model is missing, and ``unavailable`` says why."""

    asset_id: str
    sharpness_score: Score
    lighting_quality: Score
    composition_score: Score
    overall_quality: Score | None
    dinov3_quality: Score | None = Field(description="diversity of the features alone; no verdict on the picture")
    quality_score: Score | None
    confidence: Score | None = AGREEMENT
    based_on: list[ScorePart] | None = BASED_ON
    unavailable: dict[str, str] = UNAVAILABLE


class QualityResult(BaseModel):
    """One asset of a batch; without scores where ``error`` says why, or where a model is missing."""

    asset_id: str
    filename: str | None = Field(description="null for an unknown asset")
    quality_score: Score | None = None
    confidence: Score | None = AGREED
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
    based_on: list[ScorePart] | None = BASED_ON
    unavailable: dict[str, str] = UNAVAILABLE


class CompositionRequest(BaseModel):
    """One asset, with or without its features in the answer.

    With ``extract_features`` true in the request it fails where their model is missing; without it they are null then.
    """

    model_config = example(asset_id=ID_1, extract_features=False)
    asset_id: AssetId
    extract_features: Flag = True


class ImageDimensions(BaseModel):
    """Pixels, upright; for a video those of its poster."""

    width: int
    height: int


class CompositionAnalysis(BaseModel):
    """How the picture is framed, in terms of cinematography; "undetermined" where it cannot be told."""

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
    faces_detected: int | None = Field(description="null where the detector is missing; shot size and angle need faces")
    features: list[float] | None = Field(description="raw DINOv3 features; null with extract_features=false")
    composition_tags: list[str]
    unavailable: dict[str, str] = UNAVAILABLE
