"""``asset-api-fields.md`` as data: what clients send and read, for the routes that exist so far."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fields:
    """Request and response fields of one route; ``parts`` are the fields of each item of a nested field."""

    request: tuple[str, ...]
    response: tuple[str, ...]
    parts: dict[str, tuple[str, ...]]


def _fields(request: str, response: str, **parts: str) -> Fields:
    return Fields(
        tuple(request.split()),
        (*response.split(), "processing_time"),
        {name: tuple(names.split()) for name, names in parts.items()},
    )


MEDIA = "asset_id filename content_type file_size public_url width height format upload_timestamp processing_status"
DISTANCES = "cosine_similarity euclidean_distance"

CONTRACT: dict[tuple[str, str], Fields] = {
    ("POST", "upload-media"): _fields("file", MEDIA),
    ("GET", "media/{asset_id}"): _fields(
        "",
        f"{MEDIA} features_extracted features_timestamp error_message features duration fps frame_count",
    ),
    ("DELETE", "media/{asset_id}"): _fields("", "asset_id deleted storage_deleted message"),
    ("POST", "extract-features"): _fields(
        "asset_id", "asset_id features features_extracted features_timestamp cached model_version"
    ),
    ("POST", "preprocess-image"): _fields("asset_id", "asset_id preprocessed tensor_shape device dtype"),
    ("POST", "calculate-similarity"): _fields(
        "asset_id_1 asset_id_2", f"asset_id_1 asset_id_2 similarity_percentage confidence {DISTANCES}"
    ),
    ("POST", "find-best-match"): _fields(
        "reference_asset_id candidate_asset_ids",
        "reference_asset_id candidates_processed best_match ranked_results",
        ranked_results=f"asset_id filename similarity_percentage {DISTANCES}",
    ),
    ("POST", "batch-similarity"): _fields(
        "asset_ids",
        "assets_processed similarity_matrix matrix_shape",
        similarity_matrix="asset_id similarities",
    ),
    ("POST", "semantic-search"): _fields(
        "query_asset_id dataset_asset_ids top_k",
        "query_asset_id query_filename dataset_size results_found top_k search_results",
        search_results=f"asset_id filename similarity_score {DISTANCES}",
    ),
    ("POST", "anomaly-detection"): _fields(
        "reference_asset_ids test_asset_ids anomaly_threshold",
        "reference_assets test_assets anomaly_threshold anomalies_detected anomaly_rate "
        "average_anomaly_score anomaly_results",
        anomaly_results="asset_id filename anomaly_score centroid_similarity is_anomaly confidence",
    ),
    ("POST", "feature-clustering"): _fields(
        "asset_ids n_clusters cluster_method",
        "total_assets assets_clustered n_clusters total_inertia cluster_method clusters",
        clusters="cluster_id size inertia centroid assets",
    ),
    ("GET", "config"): _fields(
        "", "quality_threshold similarity_threshold max_file_size_mb max_batch_size request_timeout_seconds"
    ),
    ("PUT", "config/quality-threshold"): _fields("threshold", "quality_threshold previous_threshold updated"),
    ("PUT", "config/similarity-threshold"): _fields("threshold", "similarity_threshold previous_threshold updated"),
    ("GET", "health"): _fields(
        "",
        "status timestamp version gpu model database cache",
        gpu="available device_name memory_total memory_used memory_free",
        model="loaded name device",
        database="connected type",
        cache="connected type",
    ),
    ("GET", "model-info"): _fields(
        "",
        "model_config capabilities limits status",
        model_config="model_name architecture patch_size embedding_dim device batch_size weights",
    ),
}

DEFAULTS = {
    ("semantic-search", "top_k"): 10,
    ("anomaly-detection", "anomaly_threshold"): 2.0,
    ("feature-clustering", "cluster_method"): "kmeans",
}
