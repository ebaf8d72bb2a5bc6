"""The examples of the contract, by the name of their model."""

from typing import Any, Final

from pydantic import ConfigDict

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
