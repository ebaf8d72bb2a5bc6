"""Requests and responses of the muzzle API, as ``muzzle-openapi.json`` names them, and of its registry of animals."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from graphs.muzzle.print_schemas import PhotoCheck, PrintVerification
from graphs.muzzle.texts import PHOTO, examples_of
from graphs.web.schemas import WHOLE


class CriterionResult(BaseModel):
    """One measured number and whether it is good enough."""

    model_config = examples_of("CriterionResult")
    metric: str = Field(
        description=(
            "Name of the evaluated metric. Common values: 'cosine_similarity', 'euclidean_distance', "
            "'mutual_similarity', 'domain_check', 'embedding_variance', 'cross_model_consistency'. Use "
            "this to programmatically identify which criterion a result refers to."
        )
    )
    value: float = Field(description="Observed value of the metric for this specific prediction.")
    threshold: float = Field(
        description=(
            "Minimum (for cosine similarity, mutual_similarity, embedding_variance) or maximum (for "
            "euclidean_distance, cross_model_consistency) threshold for this criterion to pass. "
            "Compare 'value' against 'threshold' using the direction indicated by 'metric' name."
        )
    )
    passed: bool = Field(
        description=(
            "True if the criterion was satisfied (value meets threshold). False if the criterion "
            "failed. ALL criteria must pass for a MATCH verdict. Use this field to programmatically "
            "determine the outcome without parsing 'description'."
        )
    )
    description: str = Field(
        description=(
            "Human-readable explanation of what was checked, the observed value, the threshold, and "
            "whether it passed. Use this for display to end users (e.g., 'The cosine similarity (0.88) "
            "meets the required threshold (0.62)')."
        )
    )


class DomainCheckDecision(BaseModel):
    """Whether a photo shows a muzzle."""

    model_config = examples_of("DomainCheckDecision")
    verdict: str = Field(
        description=(
            "Validation verdict for the submitted photo. 'VALID_MUZZLE' -- the photo appears to be a "
            "valid muzzle image with meaningful content. 'INVALID_INPUT' -- the photo failed at least "
            "one validation criterion. Failed photos may be blank, extremely low-quality, random "
            "noise, or completely outside the types of images the models were trained on."
        )
    )
    explanation: str = Field(
        description=(
            "Plain-language explanation of the validation result. For VALID_MUZZLE: describes what "
            "passed. For INVALID_INPUT: names which criterion/criteria failed and why. Use this for "
            "display to end users."
        )
    )


class DomainCheckSummary(BaseModel):
    """Why it does or does not."""

    model_config = examples_of("DomainCheckSummary")
    criteria: list[CriterionResult] = Field(
        description=(
            "Detailed breakdown of every validation criterion evaluated for this image. Each entry "
            "shows the metric name, observed value, threshold, pass/fail, and a human-readable "
            "description. Use this to explain to users WHY the verdict was reached, which criteria "
            "passed/failed, and what the observed values were."
        )
    )


class DomainCheckRequest(BaseModel):
    """One photo."""

    model_config = examples_of("DomainCheckRequest")
    photo: str = Field(
        description=(
            "A single base64-encoded JPEG or PNG image to validate as a potential muzzle photo. The "
            "image will be analyzed to determine if it appears to be a bovine muzzle (as opposed to "
            "random noise, blank images, or completely out-of-domain content). No reference photos are "
            "needed -- this check uses embedding statistics only."
        )
    )


class DomainCheckResponse(BaseModel):
    """Answer of /domain-check."""

    model_config = examples_of("DomainCheckResponse")
    decision: DomainCheckDecision = Field(
        description=(
            "CONSUMER-FACING: The validation verdict (VALID_MUZZLE or INVALID_INPUT) and a "
            "plain-language explanation. Start here -- most integrations only need 'decision' to "
            "determine whether to accept the image."
        )
    )
    embedding_variance: float = Field(
        description=(
            "Variance (spread) of the 384-dimensional ensemble embedding vector values. Range: [0.0, "
            "~0.25]. Meaningful muzzle images produce embeddings with moderate variance (typically "
            ">0.005). Blank images, solid colors, or completely random noise produce near-zero "
            "variance. This is one of the two criteria used for validation."
        )
    )
    cross_model_consistency: float = Field(
        description=(
            "Mean pairwise cosine similarity between the 3 individual model embeddings (model 60, 62, "
            "64). Range: [-1.0, 1.0], but typically near 0.0 for normal images. VERY HIGH values (near "
            "1.0) indicate the 3 models collapsed to producing near-identical embeddings, which "
            "strongly suggests the input image is out-of-domain (e.g., random noise, solid color, or "
            "garbage). This is one of the two criteria used for validation."
        )
    )
    summary: DomainCheckSummary = Field(
        description=(
            "CONSUMER-FACING: The detailed breakdown of every validation criterion evaluated. Use this "
            "to explain to users WHY the verdict was reached. Each criterion includes a human-readable "
            "description ready for display."
        )
    )
    quality: PhotoCheck | None = Field(
        default=None,
        description=(
            "With ?include=quality: whether the photo is good enough to be enrolled, with advice for the next one; "
            "otherwise null. Beyond the original contract."
        ),
    )


class ModelEmbeddingCode(BaseModel):
    """The code of a photo by one model."""

    model_id: int = Field(description="Model identifier that generated this embedding code (60, 62, or 64).")
    code: list[float] = Field(
        description=(
            "Normalized 128-dimensional embedding code generated by this model for the input image. "
            "This is the per-model biometric representation."
        )
    )


class EncodedImageResult(BaseModel):
    """One photo in codes."""

    index: int = Field(
        description=(
            "Input order index of the image in the request. Use this to map each output code back to "
            "the original image."
        )
    )
    filename: str = Field(
        description=(
            "Image identifier returned by the API. For JSON input, generated as photo_{index}. For "
            "multipart input, preserves the uploaded filename."
        )
    )
    decision: DomainCheckDecision = Field(
        description=(
            "Domain-check verdict for this image before encoding. VALID_MUZZLE means the image passed "
            "quality/domain checks."
        )
    )
    domain_summary: DomainCheckSummary = Field(
        description=("Detailed domain-check criteria for this specific image, including pass/fail and thresholds.")
    )
    model_codes: list[ModelEmbeddingCode] = Field(
        description=(
            "Individual per-model embedding codes. Always contains exactly 3 entries: model IDs 60, 62, and 64."
        )
    )
    ensemble_code: list[float] = Field(
        description="Concatenated ensemble embedding code with 384 dimensions (3 models x 128 dimensions)."
    )


class EncodeRequest(BaseModel):
    """Photos to encode."""

    model_config = examples_of("EncodeRequest")
    photos: list[str] = Field(
        min_length=1,
        max_length=12,
        description=(
            "List of 1 to 12 base64-encoded JPEG or PNG images. Each image is transformed into ML "
            "embedding codes using model IDs 60, 62, and 64."
        ),
    )


class EncodeResponse(BaseModel):
    """Answer of /encode."""

    model_config = examples_of("EncodeResponse")
    images: list[EncodedImageResult] = Field(
        description=(
            "Encoded results for each input image in the same order as received. Use `index` and "
            "`filename` to identify each image."
        )
    )


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
    print: PrintVerification = Field(
        description=(
            "The print match behind the criterion 'print_match': how many places of the probe's print agree with each "
            "reference, the transformation, and whether the photos are good enough. Beyond the original contract."
        )
    )


AnimalId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


class EnrolRequest(BaseModel):
    """An animal and photos of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"animal_id": "DE-0123456789", "photos": [PHOTO, PHOTO, PHOTO]}]}
    )
    animal_id: AnimalId = Field(description="Your id of the animal: letters, digits and . _ : -")
    photos: list[str] = Field(
        min_length=3, max_length=12, description="3 to 12 base64-encoded JPEG or PNG images of its muzzle"
    )
    allow_duplicate: bool = Field(
        default=False, description="Enrol it although its print is that of an animal that is enrolled under another id"
    )
    allow_poor_photos: bool = Field(
        default=False, description="Enrol it although photos are blurred, too small, too dark or badly framed"
    )


class Candidate(BaseModel):
    """An enrolled animal and how near it is."""

    animal_id: str
    cosine_similarity: float = Field(description="Probe and template; 0.0 to 1.0, higher is more alike")
    euclidean_distance: float = Field(description="Probe and template; 0.0 to 2.0, lower is more alike")
    print_inliers: int | None = Field(
        default=None,
        description=(
            "Places of the print that agree with the best photo it was enrolled with, from 0; null where the prints "
            "were not compared: it was enrolled before prints were kept, or is not among the nearest 16"
        ),
    )


class AnimalModel(BaseModel):
    """An enrolled animal."""

    animal_id: str
    photos: int = Field(
        description="How many reference photos it was enrolled with; only their codes and prints are kept"
    )
    mutual_similarity: float = Field(description="Mean cosine of all pairs of them")
    model_version: str = Field(description="What made its codes; other models do not find it")
    model_ids: list[int]
    created_at: datetime


class AnimalPage(BaseModel):
    """A page of the registry, the latest animals first."""

    animals: list[AnimalModel]
    next: str | None = Field(description="`after` of the next page; null where there is none")
    enrolled: int = Field(description="Animals of the whole registry")


class EnrolResponse(BaseModel):
    """The enrolled animal; ``similar`` are others that its photos match as well: perhaps it is enrolled twice."""

    animal: AnimalModel
    similar: list[Candidate]
    photo_checks: list[PhotoCheck] = Field(description="The quality of each photo, in order")


class DeletedAnimal(BaseModel):
    """An animal that is enrolled no more."""

    animal_id: str
    deleted: Literal[True] = True


class IdentifyRequest(BaseModel):
    """One photo of an unknown animal."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"photo": PHOTO, "top_k": 3}]})
    photo: str = Field(description="A single base64-encoded JPEG or PNG image of a muzzle")
    top_k: Annotated[int, Field(ge=1, le=50), WHOLE] = Field(default=5, description="How many candidates to tell")


class IdentifyDecision(BaseModel):
    """Who it is."""

    verdict: Literal["IDENTIFIED", "UNKNOWN", "INVALID_INPUT"] = Field(
        description="IDENTIFIED when all criteria pass; INVALID_INPUT when the photo shows no muzzle; otherwise UNKNOWN"
    )
    animal_id: str | None = Field(description="Null unless IDENTIFIED")
    score: float = Field(description="Cosine similarity to the best candidate, 0.0 to 1.0; 0 without any")
    confidence: float = Field(description="As of /predict, of the distance to the best candidate")
    confidence_label: str = Field(description="As of /predict")
    margin: float = Field(description="Score less that of the next candidate; the score itself without one")
    explanation: str


class IdentifySummary(BaseModel):
    """Why: cosine_similarity, euclidean_distance, margin, domain_check, print_match."""

    criteria: list[CriterionResult]


class IdentifyResponse(BaseModel):
    """Answer of /identify."""

    decision: IdentifyDecision
    summary: IdentifySummary
    candidates: list[Candidate] = Field(
        description="Best first: those whose print agrees, then by distance. Unless IDENTIFIED it is none of these"
    )
    none_of_these: bool = Field(description="Whether a muzzle was seen that none of the candidates matches")
    quality: PhotoCheck = Field(description="Whether the photo is good enough, with advice for the next one")
    searched: int = Field(description="Animals enrolled by the present models")
    outdated: int = Field(description="Animals enrolled by other models, which were not searched: enrol them again")
