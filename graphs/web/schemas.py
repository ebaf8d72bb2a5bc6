"""Request and response types that several APIs share."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from vision.errors import InvalidInput

ID_1: Final = "9f86d081884c7d659a2feaa0c55ad015"
"""An asset id for examples."""

AssetId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
FileUuid = Annotated[AssetId, Path(description="the asset id that the upload gave", examples=[ID_1])]


def _no_other_type(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


Flag = StrictBool
Number = Annotated[StrictFloat, AllowInfNan(False)]
"""Of JSON bodies: 0 is not ``false``, and neither ``true`` nor "0.5" is a number."""
WHOLE: Final = BeforeValidator(_no_other_type)
"""Last in the annotation of an ``int`` of a JSON body: as above, but 5.0 is a whole number, as in JSON Schema."""

NOT_BLANK: Final = Field(json_schema_extra={"pattern": r"\S"})
"""Of a text that is stripped and must not be empty then."""

Responses = dict[int | str, dict[str, Any]]
"""What OpenAPI says about the responses of a route, by status."""
BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
"""OpenAPI's media type object of a body of bytes."""


RANGES: Final[Responses] = {
    206: {"description": "the bytes that Range asks for; Content-Range says which they are, and how many there are"},
    304: {"description": "the client has this version already"},
    412: {"description": "not the version that the client wants"},
    416: {"description": "there are no bytes in this range; Content-Range says how many there are"},
}
"""OpenAPI's responses of what is sent in ranges."""


_NUMBER: Final = re.compile(r"\d+", re.ASCII)
_ID: Final = re.compile(r"[\w-]{1,128}", re.ASCII)


def example(**values: Any) -> ConfigDict:
    """Return a ``model_config`` that shows these values as the example of a model."""
    return ConfigDict(json_schema_extra={"examples": [values]})


def numbered(after: str, digits: int) -> tuple[int, str]:
    """Return the number, of so many digits at most, and the asset id of a cursor ``number-id``. Raises InvalidInput."""
    number, _, asset_id = after.partition("-")
    if len(number) > digits or not _NUMBER.fullmatch(number) or not _ID.fullmatch(asset_id):
        raise InvalidInput("`after` is the `next` of an earlier page; leave it out for the first one.")
    return int(number), asset_id


class Answer(BaseModel):
    """Fields of every response of the asset API."""

    processing_time: float = Field(description="seconds")


class RemovedCounts(BaseModel):
    """How much a delete removed from each store."""

    model_config = example(objects=2, documents=3, jobs=1, vectors=1, cache=0)
    objects: int = Field(description="files, and pictures and parts that were made of them")
    documents: int = Field(description="records: of files, features, faces, objects, traces, shots, identities")
    jobs: int = Field(description="of the file, and deliveries to webhooks that tell of them")
    vectors: int = Field(description="of the search index")
    cache: int


class ErrorDetail(BaseModel):
    """What went wrong and what to do next."""

    code: str
    message: str
    details: Any = None
    timestamp: datetime


class ErrorBody(BaseModel):
    """Body of every error of the asset API."""

    model_config = example(
        error={
            "code": "ASSET_NOT_FOUND",
            "message": f"No asset with id {ID_1}; upload it first with POST /api/v1/upload-media.",
            "details": {"asset_ids": [ID_1]},
            "timestamp": "2026-01-15T12:00:00Z",
        }
    )
    error: ErrorDetail


def upload_body(field: str, max_files: int = 1, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route that takes a form with a file in this part, or several files.

    ``texts`` describes optional text fields by name.
    """
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    others = {name: {"type": "string", "description": text} for name, text in (texts or {}).items()}
    part = file if max_files == 1 else {"type": "array", "items": file, "minItems": 1, "maxItems": max_files}
    schema = {"type": "object", "required": [field], "properties": {field: part, **others}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def error_responses(
    texts: Mapping[int, str] | Mapping[int | str, str], model: type[BaseModel] = ErrorBody
) -> Responses:
    """Return OpenAPI's description of errors: a text for each status, and the model of their body."""
    # FastAPI builds a validator for each model of each route, which was most of the time that an application took to
    # be built. One brings the schema into the document; the others refer to it.
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    responses: Responses = {status: {"description": text, "content": body} for status, text in texts.items()}
    first, text = next(iter(texts.items()))
    responses[first] = {"description": text, "model": model}
    return responses
