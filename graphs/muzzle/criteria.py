"""Criteria and verdicts on single photos, in the words of the contract."""

from pydantic import BaseModel, Field

from graphs.muzzle.examples import examples_of


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
