"""What the OpenAPI document says of the routes, in the words of the contract."""

from typing import Final

from fastapi.security import APIKeyHeader

from graphs.web.schemas import Responses

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


PHOTOS: Final = responses("Invalid payload (missing images, oversized, wrong format)")
PHOTO: Final = responses("Invalid payload (missing image, oversized, wrong format)")
FILES: Final = responses("Invalid file (wrong format, oversized, missing)")
NOT_FOUND: Final[Responses] = {404: {"description": "No such animal"}}
EXISTS: Final[Responses] = {409: {"description": "The animal is enrolled already"}}

ENCODE: Final = """Generate ML embedding codes for 1 to 12 images (JSON base64 input).

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
