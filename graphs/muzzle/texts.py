"""Texts of the muzzle API's OpenAPI document: examples of models, and what its routes say of their responses."""

from typing import Any, Final

from fastapi.security import APIKeyHeader
from pydantic import ConfigDict

from graphs.web.schemas import Responses

Example = dict[str, Any]

PHOTO: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def _criterion(metric: str, value: float, threshold: float, passed: bool, description: str) -> Example:
    return {
        "description": description,
        "metric": metric,
        "passed": passed,
        "threshold": threshold,
        "value": value,
    }


def _reference(index: int, cosine: float, distance: float) -> Example:
    return {"reference_index": index, "cosine_similarity": cosine, "euclidean_distance": distance}


UNLIKE: Final = _criterion(
    *("cosine_similarity", 0.15, 0.62, False),
    "Cosine similarity between probe and reference template is 0.15, below the required 0.62",
)
FAR: Final = _criterion(
    *("euclidean_distance", 1.25, 0.85, False),
    "Euclidean distance between probe and reference template is 1.25, above the allowed 0.85",
)
DOMAIN: Final = {
    "criteria": [
        _criterion(
            *("embedding_variance", 0.031, 0.005, True),
            "Embedding variance (0.031) indicates meaningful content (>0.005)",
        ),
        _criterion(
            *("cross_model_consistency", 0.05, 0.2, True),
            "Cross-model pairwise similarity (0.05) is within expected range (<=0.20)",
        ),
    ]
}
VALID: Final = {
    "explanation": "The image appears to be a valid muzzle photo. All quality criteria passed.",
    "verdict": "VALID_MUZZLE",
}
INVALID: Final = {
    "explanation": "The image does not appear to be a valid muzzle photo. Failed criteria: embedding_variance.",
    "verdict": "INVALID_INPUT",
}
MATCH: Final = {
    "confidence": 0.54,
    "confidence_label": "FAIR",
    "explanation": "The probe photo matches the reference animal with FAIR confidence. All decision criteria passed.",
    "score": 0.88,
    "verdict": "MATCH",
}
NO_MATCH: Final = {
    "confidence": 0.0,
    "confidence_label": "NOT_THE_ANIMAL",
    "explanation": (
        "The probe photo does not match the reference animal. "
        "Cosine similarity (0.15) is far below the required threshold (0.62)."
    ),
    "score": 0.15,
    "verdict": "NO_MATCH",
}
MODEL: Final = {
    "max_cosine": 0.9,
    "mean_cosine": 0.87,
    "min_cosine": 0.83,
    "model_id": 60,
    "reference_vs_probe": [_reference(0, 0.89, 0.42), _reference(1, 0.83, 0.55), _reference(2, 0.9, 0.4)],
    "template_vs_probe_cosine": 0.87,
    "template_vs_probe_distance": 0.49,
}
ENSEMBLE: Final = {
    "max_cosine": 0.91,
    "mean_cosine": 0.88,
    "min_cosine": 0.85,
    "template_vs_probe_cosine": 0.88,
    "template_vs_probe_distance": 0.46,
}
DETAILS: Final = {"ensemble": ENSEMBLE, "models": [MODEL], "reference_mutual_similarity": 0.8}
PASSED: Final = [
    _criterion(
        *("cosine_similarity", 0.88, 0.62, True),
        "Cosine similarity between probe and reference template (0.88) meets the required threshold (0.62)",
    ),
    _criterion(
        *("euclidean_distance", 0.46, 0.85, True),
        "Euclidean distance between probe and reference template (0.46) is within the allowed limit (0.85)",
    ),
    _criterion(
        *("mutual_similarity", 0.8, 0.4, True),
        "Reference photos mutual similarity (0.80) exceeds the minimum required (0.40)",
    ),
    _criterion("domain_check", 1, 1, True, "Photos appear to be valid muzzle images"),
]
ENCODED: Final = {
    "decision": VALID,
    "domain_summary": DOMAIN,
    "ensemble_code": [0.12, -0.34, 0.22, 0.08, -0.11, 0.45, -0.09, 0.27, 0.14],
    "filename": "photo_0",
    "index": 0,
    "model_codes": [
        {"code": [0.12, -0.34, 0.22], "model_id": 60},
        {"code": [0.08, -0.11, 0.45], "model_id": 62},
        {"code": [-0.09, 0.27, 0.14], "model_id": 64},
    ],
}

EXAMPLES: Final[dict[str, list[Example]]] = {
    "CriterionResult": [UNLIKE],
    "Decision": [MATCH, NO_MATCH],
    "DomainCheckDecision": [VALID, INVALID],
    "DomainCheckRequest": [{"photo": PHOTO}],
    "DomainCheckResponse": [
        {"cross_model_consistency": 0.05, "decision": VALID, "embedding_variance": 0.031, "summary": DOMAIN}
    ],
    "DomainCheckSummary": [DOMAIN],
    "EncodeRequest": [{"photos": [PHOTO, PHOTO]}],
    "EncodeResponse": [{"images": [ENCODED]}],
    "EnsembleSummary": [ENSEMBLE],
    "ModelVerification": [MODEL],
    "PredictDetails": [DETAILS],
    "PredictRequest": [{"probe_photo": PHOTO, "reference_photos": [PHOTO, PHOTO, PHOTO]}],
    "PredictResponse": [{"decision": MATCH, "details": DETAILS, "summary": {"criteria": PASSED}}],
    "PredictSummary": [{"criteria": [UNLIKE, FAR]}],
    "ReferenceVsProbe": [_reference(0, 0.89, 0.42), _reference(1, 0.91, 0.38)],
}


def examples_of(model: str) -> ConfigDict:
    """The configuration of a model that has examples; an answer never has a field that is not described."""
    return ConfigDict(json_schema_extra={"examples": list(EXAMPLES[model])})


KEY: Final = APIKeyHeader(
    name="X-API-Key",
    scheme_name="ApiKey",
    description="API key for authentication. Obtain from your account settings.",
    auto_error=False,
)
"""Describes the header; graphs/web/auth.py looks at it before any route does."""


def responses(payload: str) -> Responses:
    """The contract's errors; ``payload`` says what is wrong with a request that gets a 422."""
    return {
        401: {"description": "API Key invalid or missing"},
        422: {"description": payload},
        429: {"description": "Rate limit exceeded"},
        500: {"description": "Internal processing error"},
        503: {"description": "Models not loaded"},
    }


OWN_RESPONSES: Final[Responses] = {
    408: {"description": "The body came too slowly, or stopped"},
    507: {"description": "The disk of the service is full; nothing was stored, and deleting works"},
}
"""Of the routes that are not in the contract, whose own routes may name no more errors than it does."""
PHOTOS_RESPONSES: Final = responses("Invalid payload (missing images, oversized, wrong format)")
PHOTO_RESPONSES: Final = responses("Invalid payload (missing image, oversized, wrong format)")
FILES_RESPONSES: Final = responses("Invalid file (wrong format, oversized, missing)")
NOT_FOUND_RESPONSES: Final[Responses] = OWN_RESPONSES | {404: {"description": "No such animal"}}
EXISTS_RESPONSES: Final[Responses] = OWN_RESPONSES | {
    409: {"description": "The animal is enrolled already, by this id or, as its print says, by another"}
}

ENCODE_DESCRIPTION: Final = """Generate ML embedding codes for 1 to 12 images (JSON base64 input).

Uses all 3 siamese models (60, 62, 64) to produce per-model 128-dimensional codes
and one 384-dimensional concatenated ensemble code for each image.

## When To Use This Endpoint
- Backends that already store or transport images as base64 strings
- Batch enrollment flows that want to encode multiple images in one request
- Integrations that need deterministic output order through `index`

## Input
- `photos[]`: list of base64 images (minimum 1, maximum 12)
- Input order is preserved in the response through `images[].index`

## Output Per Image
- `index`: original input order (0-based)
- `filename`: generated identifier (`photo_{index}`)
- `decision`: domain-check verdict for this image
- `domain_summary`: criterion-level domain-check explanation
- `model_codes[]`: individual per-model embedding code (128 dims each)
- `ensemble_code`: concatenated code (384 dims)

## Response Semantics
- `decision.verdict = VALID_MUZZLE`: image passed domain validation before encoding
- `decision.verdict = INVALID_INPUT`: image failed domain validation, but its codes are still returned for \
traceability/debugging
- `model_codes[]`: always 3 entries, one for each model ID (60, 62, 64)
- `ensemble_code`: concatenation of the 3 model codes, not an average

## Errors
- **401**: Invalid or missing API key
- **422**: Invalid payload, too many images, oversized image string, or malformed input
- **429**: Rate limit exceeded
- **500**: Internal processing error
- **503**: Models not loaded

## Authentication
Requires `X-API-Key` header when API_KEY is configured."""
