"""Requests and answers of /predict, in the words of the contract."""

from pydantic import BaseModel, Field

from graphs.muzzle.criteria import CriterionResult
from graphs.muzzle.examples import examples_of


class Decision(BaseModel):
    """The verdict on a probe."""

    model_config = examples_of("Decision")
    verdict: str = Field(
        description=(
            "Final decision on whether the probe photo matches the reference animal. One of: 'MATCH' "
            "(probe is likely the same animal as the references), 'NO_MATCH' (probe is a different "
            "animal), 'INVALID_INPUT' (photos are out-of-domain or references are inconsistent)."
        )
    )
    score: float = Field(
        description=(
            "Ensemble cosine similarity between the probe embedding and the averaged reference "
            "template embedding. Range: [0.0, 1.0]. This is the PRIMARY match metric -- show this "
            "number to the end user. Values closer to 1.0 indicate higher similarity. The verdict "
            "(MATCH/NO_MATCH) is determined by comparing this against PREDICT_COSINE_THRESHOLD."
        )
    )
    confidence: float = Field(
        description=(
            "Confidence score derived from the euclidean distance between probe and reference "
            "template. Range: [0.0, 1.0]. Formula: max(0, min(1, (threshold - distance) / threshold)). "
            "Higher confidence = more reliable the verdict. confidence = 0.0 when euclidean distance "
            ">= PREDICT_EUCLIDEAN_MAX (completely different embeddings)."
        )
    )
    confidence_label: str = Field(
        description=(
            "Human-readable confidence classification. One of: 'NOT_THE_ANIMAL' (confidence = 0.0, or "
            "euclidean distance exceeded threshold, definitely different animal), 'FAIR' (0 < "
            "confidence < 0.55, possible match, review recommended), 'GOOD' (0.55 <= confidence < "
            "0.85, high probability of match), 'EXCELLENT' (confidence >= 0.85, near-certain match)."
        )
    )
    explanation: str = Field(
        description=(
            "Plain-language explanation of the result and why it was reached. Includes which criteria "
            "passed or failed and why. Use this for display to end users without requiring them to "
            "interpret numeric values."
        )
    )


class ReferenceVsProbe(BaseModel):
    """One reference against the probe, by one model."""

    model_config = examples_of("ReferenceVsProbe")
    reference_index: int = Field(
        description=("Index of the reference photo compared against the probe: 0 (first), 1 (second), or 2 (third).")
    )
    cosine_similarity: float = Field(
        description=(
            "Cosine similarity between the normalized embedding of this reference photo and the "
            "normalized embedding of the probe photo. Range: [0.0, 1.0]. Higher values indicate "
            "greater similarity. Values above ~0.60 typically indicate the same animal."
        )
    )
    euclidean_distance: float = Field(
        description=(
            "Euclidean distance between the normalized embedding of this reference photo and the "
            "normalized embedding of the probe photo. Range: [0.0, ~2.0]. Lower values indicate "
            "greater similarity. Values below ~0.85 typically indicate the same animal."
        )
    )


class ModelVerification(BaseModel):
    """What one model says of a probe."""

    model_config = examples_of("ModelVerification")
    model_id: int = Field(
        description=(
            "TensorFlow model identifier. This API uses 3 independently-trained siamese models (IDs: "
            "60, 62, 64). Each model produces its own 128-dimensional embedding. Use this field to "
            "identify which model generated this verification result."
        )
    )
    template_vs_probe_cosine: float = Field(
        description=(
            "Cosine similarity between the averaged embedding of all 3 reference photos (reference "
            "template) and the probe photo embedding, computed within this specific model. Range: "
            "[0.0, 1.0]. This is the primary similarity metric used for the MATCH/NO_MATCH decision. "
            "Higher values = more similar."
        )
    )
    template_vs_probe_distance: float = Field(
        description=(
            "Euclidean distance between the averaged embedding of all 3 reference photos and the probe "
            "photo embedding, computed within this specific model. Range: [0.0, ~2.0]. Lower values = "
            "more similar. Used alongside cosine similarity to confirm the match decision."
        )
    )
    reference_vs_probe: list[ReferenceVsProbe] = Field(
        description=(
            "Per-reference comparison results. Shows cosine similarity and euclidean distance between "
            "each individual reference photo and the probe photo, computed within this specific model. "
            "Use this to identify if one specific reference photo is causing a low match score."
        )
    )
    mean_cosine: float = Field(
        description=(
            "Mean of the 3 per-reference cosine similarity values. Range: [0.0, 1.0]. Summarizes "
            "overall agreement between the 3 references and the probe."
        )
    )
    min_cosine: float = Field(
        description=(
            "Minimum cosine similarity across the 3 per-reference comparisons. Range: [0.0, 1.0]. The "
            "most conservative (lowest) similarity score. A low min_cosine with high mean_cosine "
            "suggests one reference is an outlier."
        )
    )
    max_cosine: float = Field(
        description=(
            "Maximum cosine similarity across the 3 per-reference comparisons. Range: [0.0, 1.0]. The "
            "most optimistic (highest) similarity score. If max_cosine is much higher than min_cosine, "
            "the references may be inconsistent."
        )
    )


class EnsembleSummary(BaseModel):
    """What all models say of a probe together."""

    model_config = examples_of("EnsembleSummary")
    template_vs_probe_cosine: float = Field(
        description=(
            "Cosine similarity between the averaged embedding of the 3 reference photos and the probe "
            "photo embedding, computed using the concatenated ensemble of all 3 models. Range: [0.0, "
            "1.0]. This is the ensemble-level primary match metric. Higher = more similar. This is the "
            "value used to compute 'decision.score'."
        )
    )
    template_vs_probe_distance: float = Field(
        description=(
            "Euclidean distance between the averaged embedding of the 3 reference photos and the probe "
            "photo embedding, computed using the concatenated ensemble of all 3 models. Range: [0.0, "
            "~2.0]. Lower = more similar. Used to compute 'decision.confidence'."
        )
    )
    mean_cosine: float = Field(
        description=(
            "Mean of the 3 per-reference cosine similarity values, computed at the ensemble level. "
            "Range: [0.0, 1.0]. Average agreement between each reference photo and the probe photo."
        )
    )
    min_cosine: float = Field(
        description=(
            "Minimum cosine similarity across the 3 per-reference comparisons, computed at the "
            "ensemble level. Range: [0.0, 1.0]. The most conservative similarity score at the ensemble "
            "level."
        )
    )
    max_cosine: float = Field(
        description=(
            "Maximum cosine similarity across the 3 per-reference comparisons, computed at the "
            "ensemble level. Range: [0.0, 1.0]. The most optimistic similarity score at the ensemble "
            "level."
        )
    )


class PredictDetails(BaseModel):
    """Numbers behind a verdict."""

    model_config = examples_of("PredictDetails")
    models: list[ModelVerification] = Field(
        description=(
            "Per-model verification results for all 3 TensorFlow siamese models (IDs: 60, 62, 64). "
            "Each entry contains the full verification output for one model, including per-reference "
            "comparisons. Use this for deep debugging, model-level auditing, or comparing how each "
            "model scored the verification. For the consumer-facing result, use 'decision' and "
            "'summary' instead."
        )
    )
    ensemble: EnsembleSummary = Field(
        description=(
            "Ensemble-level verification summary using the concatenated embedding from all 3 models. "
            "Contains the same metrics as ModelVerification but computed on the 384-dimensional "
            "ensemble embedding (3 models x 128 dimensions each). This is the authoritative set of "
            "metrics used for the final MATCH/NO_MATCH verdict."
        )
    )
    reference_mutual_similarity: float = Field(
        description=(
            "Mean cosine similarity between all pairs of the 3 reference photos. Range: [0.0, 1.0]. "
            "Higher values indicate the 3 reference photos are from the same animal. Low values (below "
            "PREDICT_MUTUAL_MIN) indicate the references may be from different animals, which "
            "invalidates the comparison."
        )
    )


class PredictSummary(BaseModel):
    """Why a verdict was reached."""

    model_config = examples_of("PredictSummary")
    criteria: list[CriterionResult] = Field(
        description=(
            "Detailed breakdown of every decision criterion evaluated for this prediction. Each entry "
            "shows the metric name, observed value, threshold, pass/fail, and a human-readable "
            "description. Use this for user-facing explanations and for auditing why a decision was "
            "made. The 4 criteria evaluated are: cosine_similarity, euclidean_distance, "
            "mutual_similarity, and domain_check."
        )
    )


class PredictRequest(BaseModel):
    """Three references of one animal and a probe."""

    model_config = examples_of("PredictRequest")
    reference_photos: list[str] = Field(
        min_length=3,
        max_length=3,
        description=(
            "Exactly 3 base64-encoded JPEG or PNG reference muzzle images. These are enrollment photos "
            "of a known, verified animal. All 3 photos must be from the same animal. Use 3 different "
            "angles (left, center, right) for best results."
        ),
    )
    probe_photo: str = Field(
        description=(
            "A single base64-encoded JPEG or PNG probe muzzle image. This is the photo of the animal "
            "you want to verify. The API will determine whether it matches the reference animal."
        )
    )


class PredictResponse(BaseModel):
    """Answer of /predict."""

    model_config = examples_of("PredictResponse")
    decision: Decision = Field(
        description=(
            "CONSUMER-FACING: The final verdict and the key numbers to show the end user. Contains the "
            "MATCH/NO_MATCH verdict, the primary match score (cosine similarity), confidence score and "
            "label, and a plain-language explanation. Start here for integration -- most use cases "
            "only need 'decision' and 'summary'."
        )
    )
    summary: PredictSummary = Field(
        description=(
            "CONSUMER-FACING: The detailed breakdown of every criterion evaluated. Use this to explain "
            "to users WHY the verdict was reached, which criteria passed/failed, and what the observed "
            "values were. Each criterion includes a human-readable description ready for display."
        )
    )
    details: PredictDetails = Field(
        description=(
            "TECHNICAL / DEBUG: Per-model verification results and ensemble-level metrics. Contains "
            "the full verification data including per-model breakdowns and per-reference comparisons. "
            "Use this for model-level auditing, debugging unexpected verdicts, or building "
            "model-selection logic in advanced integrations. Most consumer integrations do not need "
            "this section."
        )
    )
