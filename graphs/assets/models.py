"""Requests and responses of the asset API, as ``asset-api-fields.md`` names them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat

from graphs.web.schemas import ID_1, Answer, AssetId, example

AssetIds = Annotated[list[AssetId], Field(fail_fast=True)]
"""Told of its first fault only: a body of a megabyte has room for half a million of them."""
Percentage = Annotated[float, Field(ge=0, le=100)]
Cosine = Annotated[float, Field(ge=-1, le=1)]

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
    """A query and where to look; without dataset_asset_ids the whole library."""

    model_config = example(query_asset_id=ID_1, top_k=5)
    query_asset_id: AssetId
    dataset_asset_ids: AssetIds | None = None
    top_k: int = Field(default=10, ge=1, le=1000)


class AnomalyRequest(BaseModel):
    """References that show what is normal, and the assets to test."""

    model_config = example(reference_asset_ids=[ID_1, ID_2], test_asset_ids=[ID_3], anomaly_threshold=2.0)
    reference_asset_ids: AssetIds = Field(min_length=2)
    test_asset_ids: AssetIds = Field(min_length=1)
    anomaly_threshold: FiniteFloat = Field(default=2.0, ge=0, le=100)


class ClusteringRequest(BaseModel):
    """Assets to group; without n_clusters the number is chosen by silhouette."""

    model_config = example(asset_ids=[ID_1, ID_2, ID_3], n_clusters=2, cluster_method="kmeans")
    asset_ids: AssetIds = Field(min_length=2)
    n_clusters: int | None = Field(default=None, ge=1, le=100)
    cluster_method: Literal["kmeans", "dbscan", "agglomerative", "hdbscan"] = "kmeans"
    eps: float = Field(default=0.35, gt=0, le=2, description="dbscan: largest cosine distance of neighbours")
    min_samples: int = Field(default=2, ge=1, le=50, description="dbscan and hdbscan: smallest neighbourhood")


class QualityThreshold(BaseModel):
    """New quality threshold."""

    model_config = example(threshold=0.7)
    threshold: float = Field(ge=0, le=1)


class SimilarityThreshold(BaseModel):
    """New similarity threshold, in per cent."""

    model_config = example(threshold=75.0)
    threshold: float = Field(ge=0, le=100)


class MediaAnswer(Answer):
    """An uploaded asset."""

    asset_id: str
    filename: str
    content_type: str
    file_size: int = Field(description="bytes")
    public_url: str
    width: int | None = Field(description="pixels, as shown: EXIF orientation or rotation applied")
    height: int | None
    format: str
    upload_timestamp: datetime
    processing_status: Literal["uploaded", "processed", "failed"]
    duration: float | None = Field(default=None, description="seconds, for video and audio")
    fps: float | None = None
    frame_count: int | None = None
    rotation: int | None = Field(default=None, description="degrees, already applied to width and height")


class UploadAnswer(MediaAnswer):
    """``duplicate`` is true when these bytes were here already."""

    duplicate: bool


class MediaDetails(MediaAnswer):
    """An asset with its features, once computed."""

    features_extracted: bool
    features_timestamp: datetime | None
    error_message: str | None
    features: list[float] | None


class DeleteAnswer(Answer):
    """Confirmation of a delete."""

    asset_id: str
    deleted: bool
    storage_deleted: bool
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
    """What the model would see of this asset."""

    asset_id: str
    preprocessed: bool
    tensor_shape: list[int]
    device: str
    dtype: str
    value_range: list[float] = Field(description="smallest and largest value of the tensor")


class SimilarityAnswer(Answer):
    """``confidence`` (0-1): how far the percentage is from the configured similarity threshold."""

    asset_id_1: str
    asset_id_2: str
    similarity_percentage: Percentage
    cosine_similarity: Cosine
    euclidean_distance: float = Field(description="of the unit vectors, 0-2")
    confidence: float = Field(ge=0, le=1)
    model_version: str


class Match(BaseModel):
    """One ranked candidate."""

    asset_id: str
    filename: str
    similarity_percentage: Percentage
    cosine_similarity: Cosine
    euclidean_distance: float


class FailedAsset(BaseModel):
    """An asset that could not be compared, and why."""

    asset_id: str
    error: str


class BestMatchAnswer(Answer):
    """Candidates, best first."""

    reference_asset_id: str
    candidates_processed: int
    best_match: Match | None
    ranked_results: list[Match]
    failed_assets: list[FailedAsset]


class MatrixCell(BaseModel):
    """Similarity to one other asset."""

    asset_id: str
    similarity_percentage: Percentage


class MatrixRow(BaseModel):
    """Similarities of one asset to all."""

    asset_id: str
    similarities: list[MatrixCell]


class MatrixAnswer(Answer):
    """All pairs."""

    assets_processed: int
    similarity_matrix: list[MatrixRow]
    matrix_shape: list[int]
    failed_assets: list[FailedAsset]


class SearchHit(BaseModel):
    """One search result; ``similarity_score`` in per cent."""

    asset_id: str
    filename: str
    similarity_score: Percentage
    cosine_similarity: Cosine
    euclidean_distance: float


class SearchAnswer(Answer):
    """Results, best first; the query itself is not among them."""

    query_asset_id: str
    query_filename: str
    dataset_size: int = Field(description="assets searched, the query not counted")
    results_found: int
    top_k: int
    search_results: list[SearchHit]
    failed_assets: list[FailedAsset]


class AnomalyResult(BaseModel):
    """``anomaly_score``: standard deviations above the references' own distances to their centroid."""

    asset_id: str
    filename: str
    anomaly_score: float
    centroid_similarity: Cosine
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


class Cluster(BaseModel):
    """One cluster; its centroid is the mean of its members' unit vectors."""

    cluster_id: int
    size: int
    inertia: float
    centroid: list[float]
    assets: list[str]


class ClusteringAnswer(Answer):
    """``noise``: assets that a density method put into no cluster."""

    total_assets: int
    assets_clustered: int
    n_clusters: int
    total_inertia: float
    silhouette_score: float | None
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
