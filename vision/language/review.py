"""What language/describe takes and gives; apart from the stage, so that a gateway can read it without litellm."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

_MOST_FAULTS: Final = 5
# Beyond what every provider's structured output understands; Review checks these itself.
_UNSHARED_KEYWORDS: Final = {"title", "default", "minimum", "maximum", "minLength"}


class Review(BaseModel):
    """A photo editor's opinion of one picture."""

    model_config = ConfigDict(frozen=True)

    overall_score: int = Field(ge=1, le=10, description="1 to 10, higher is better")
    discard_reason: Words | None = Field(
        default=None, description="why the picture should not be used; null when it can be"
    )
    best_in_group: bool | None = Field(
        default=None,
        description="whether you would pick this frame out of a series of similar ones; null when one cannot tell",
    )
    composition: Words = Field(description="a few words")
    pose_quality: Words = Field(description="a few words; 'no people' when there are none")
    background_quality: Words = Field(description="a few words")
    highlights: list[Words] = Field(description="what is good, most important first, at most 5")
    issues: list[Words] = Field(description="what is wrong, most important first, at most 5")
    summary: Words = Field(description="one or two sentences")

    @field_validator("discard_reason", mode="before")
    @classmethod
    def _blank_is_none(cls, given: Any) -> Any:
        return None if isinstance(given, str) and not given.strip() else given


@dataclass(frozen=True, slots=True)
class Question:
    """``image_url``: https://… or data:image/…;base64,…; ``model``: provider/name; ``prompt``: wishes of the client.

    ``timeout_s`` holds for the whole answer, a second try included; ``max_tokens`` for each try.
    """

    image_url: str
    model: str
    prompt: str | None = None
    max_tokens: int = 500
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``model``: as the provider names it; ``tokens``: in and out, of all tries."""

    review: Review
    model: str
    tokens: int


def review_schema() -> dict[str, Any]:
    """JSON schema of a Review that the structured outputs of all providers take: every field required, no others."""

    def shared(node: Any) -> Any:
        if isinstance(node, list):
            return [shared(part) for part in node]
        if not isinstance(node, dict):
            return node
        return {key: shared(value) for key, value in node.items() if key not in _UNSHARED_KEYWORDS}

    schema: dict[str, Any] = shared(Review.model_json_schema())
    return {**schema, "required": list(schema["properties"]), "additionalProperties": False}


def read_review(text: str) -> Review:
    """The Review in a model's answer, whatever stands around its braces. ValueError with what is wrong, for the model
    to correct.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it, or it does not end")
    try:
        return Review.model_validate_json(text[start : end + 1])
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'JSON'}: {fault['msg']}" for fault in error.errors()]
        raise ValueError("; ".join(faults[:_MOST_FAULTS])) from None
