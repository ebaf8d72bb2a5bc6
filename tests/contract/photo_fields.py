"""``photo-api-fields.md`` as data: what clients of the photo API send and read."""

FLAGS = "run_blur run_quality run_emotion run_embedding accept_fallback"

REQUESTS = {
    "analyze": f"image {FLAGS}",
    "analyze/batch": f"images {FLAGS}",
    "analyze/llm": "image_url ref_id model custom_prompt max_tokens",
    "cluster": "embeddings image_ids eps min_samples",
}
RESPONSES = {
    "analyze": "api_version result",
    "analyze/batch": "api_version total succeeded failed results total_processing_time_ms",
    "analyze/llm": "ref_id analysis model_used tokens_used processing_ms error",
    "cluster": "api_version algorithm eps_used min_samples_used total_images num_clusters num_noise assignments "
    "clusters processing_time_ms",
}
PARTS = {
    ("analyze", "result"): "image_id source_url width_px height_px blur quality aesthetic emotion embedding "
    "processing_time_ms error unavailable",
    ("analyze", "result.blur"): "laplacian_variance is_blurry blur_threshold",
    ("analyze", "result.quality"): "brisque_score brisque_model brisque_outside nima_technical_score "
    "exposure exposure_score overall_quality based_on",
    ("analyze", "result.aesthetic"): "nima_aesthetic_score aesthetic_label",
    ("analyze", "result.emotion"): "faces_detected faces",
    ("analyze", "result.emotion.faces"): "dominant_emotion scores face_confidence region",
    ("analyze", "result.emotion.faces.scores"): "angry disgust fear happy sad surprise neutral",
    ("analyze", "result.emotion.faces.region"): "x y w h",
    ("analyze", "result.embedding"): "model dimensions vector",
    ("cluster", "assignments"): "image_id cluster_id is_noise",
    ("cluster", "clusters"): "cluster_id size image_ids",
    ("analyze/llm", "analysis"): "overall_score discard_reason best_in_group composition pose_quality "
    "background_quality highlights issues summary",
}
ERRORS = {
    "image_fetch_error": 422,
    "image_decode_error": 422,
    "image_too_large": 413,
    "model_not_ready": 503,
    "batch_too_large": 422,
    "clustering_error": 422,
    "validation_error": 422,
    "internal_error": 500,
}
