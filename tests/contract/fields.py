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

SHOT = (
    "shot_index start_timestamp end_timestamp duration start_frame end_frame camera_movement movement_intensity "
    "shot_size shot_angle framing features auto_tags keyframe_time"
)

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
    ("POST", "analyze-quality"): _fields(
        "asset_id",
        "asset_id quality_score diversity_score feature_statistics",
        feature_statistics="mean std max min",
    ),
    ("POST", "analyze-image-metrics"): _fields(
        "asset_id",
        "asset_id sharpness_score lighting_quality composition_score overall_quality dinov3_quality",
    ),
    ("POST", "analyze-image-composition"): _fields(
        "asset_id extract_features",
        "asset_id filename image_dimensions composition_analysis enhanced_analysis features composition_tags",
        image_dimensions="width height",
        composition_analysis="shot_size shot_angle framing aspect_ratio",
        enhanced_analysis="rule_of_thirds_score symmetry_score depth_of_field color_analysis edge_density "
        "composition_balance",
    ),
    ("POST", "batch-quality-check"): _fields(
        "asset_ids",
        "total_assets processed_successfully failed_assets quality_results batch_statistics",
        quality_results="asset_id filename quality_score diversity_score feature_statistics error",
        batch_statistics="mean_quality std_quality min_quality max_quality median_quality",
    ),
    ("POST", "validate-consistency"): _fields(
        "asset_id_1 asset_id_2",
        f"asset_id_1 asset_id_2 same_character similarity_score confidence_level explanation basis {DISTANCES}",
    ),
    ("POST", "character-matching"): _fields(
        "reference_asset_id test_asset_ids",
        "reference_asset_id reference_filename total_tested processed_successfully same_character_count "
        "average_similarity consistency_results",
        consistency_results="test_asset_id filename same_character similarity_score confidence_level "
        f"confidence_score explanation error basis {DISTANCES}",
    ),
    ("POST", "group-by-character"): _fields(
        "asset_ids similarity_threshold",
        "total_assets assets_with_features similarity_threshold groups_found character_groups",
        character_groups="group_id character_count assets representative_asset basis",
    ),
    ("POST", "validate-shot-consistency"): _fields(
        "shot_asset_ids character_reference_asset_id",
        "character_reference_asset_id reference_filename total_shots processed_shots consistent_shots "
        "consistency_rate average_similarity sequence_status sequence_recommendation shot_validations",
        shot_validations="shot_index shot_asset_id filename consistent similarity_score validation_status "
        f"recommendation error basis {DISTANCES}",
    ),
    ("POST", "reference-enforcement"): _fields(
        "master_reference_asset_id generated_asset_ids compliance_threshold",
        "master_reference_asset_id master_filename compliance_threshold total_generated processed_successfully "
        "compliant_count compliance_rate average_compliance_score action_summary compliance_results",
        action_summary="approve review regenerate",
        compliance_results="generated_asset_id filename compliant compliance_score recommendation action error basis "
        f"{DISTANCES}",
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

SHOT_CONTRACT: dict[tuple[str, str], Fields] = {
    ("POST", "analyze-video-shots"): _fields(
        "video_asset_id shot_detection_threshold extract_keyframes",
        "video_asset_id video_filename video_duration fps shots_detected shot_analyses",
        shot_analyses=SHOT,
    ),
    ("POST", "store-shot-data"): _fields(
        "video_asset_id shots scene_context manual_tags",
        "video_asset_id shots_stored stored_shot_ids scene_context",
    ),
    ("POST", "suggest-shots"): _fields(
        "scene_description emotional_tone genre_context desired_tags limit",
        "scene_description emotional_tone desired_tags recommendations total_found",
        recommendations="shot_id video_asset_id start_timestamp duration camera_movement shot_size shot_angle "
        "emotional_tone tags usage_situations scene_description relevance_score",
    ),
    ("GET", "shot-library"): _fields(
        "",
        "shots pagination filters_applied",
        shots=f"{SHOT} shot_id video_asset_id emotional_tone genre tags manual_tags usage_situations "
        "analysis_timestamp thumbnail_url",
        pagination="page page_size total_shots total_pages",
    ),
}
"""Of the routes that the API of shots has."""

DEFAULTS = {
    ("semantic-search", "top_k"): 10,
    ("anomaly-detection", "anomaly_threshold"): 2.0,
    ("feature-clustering", "cluster_method"): "kmeans",
    ("analyze-image-composition", "extract_features"): True,
    ("reference-enforcement", "compliance_threshold"): 80,
    ("suggest-shots", "limit"): 10,
}
