"""Routes that verify an animal, check a photo and give its codes."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, File, Query, UploadFile

from graphs.muzzle.photos import MuzzlePhotos, Photo
from graphs.muzzle.prints import MuzzlePrints
from graphs.muzzle.schemas import (
    DomainCheckRequest,
    DomainCheckResponse,
    EncodedImageResult,
    EncodeRequest,
    EncodeResponse,
    ModelEmbeddingCode,
    PredictRequest,
    PredictResponse,
)
from graphs.muzzle.texts import ENCODE_DESCRIPTION, FILES_RESPONSES, PHOTO_RESPONSES, PHOTOS_RESPONSES
from graphs.muzzle.verdicts import domain_check, limits_of, predicted
from graphs.web.context import Context
from vision.errors import InvalidInput
from vision.muzzle.ensemble import MuzzleEncoding

MOST_PHOTOS = 12
CODE_PLACES = 6

IncludeMatches = Annotated[
    Sequence[Literal["matches"]], Query(description="`matches`: a picture of the places of the print that agree")
]
IncludeQuality = Annotated[
    Sequence[Literal["quality"]], Query(description="`quality`: whether the photo is sharp, large and well framed")
]


def add_predict_routes(router: APIRouter, context: Context) -> None:
    """Add /predict and /predict/file."""
    photos, prints = MuzzlePhotos(context), MuzzlePrints(context)

    async def verify(references: Sequence[Photo], probe: Photo, include: Sequence[str]) -> PredictResponse:
        together = [*references, probe]
        *templates, encoding = encodings = await photos.encode(together)
        compared = await prints.compare(together, encodings, picture="matches" in include)
        return predicted(templates, encoding, compared, limits_of(context.settings, encoding.thresholds))

    @router.post("/predict", tags=["Verification"], responses=PHOTOS_RESPONSES)
    async def predict_endpoint(request: PredictRequest, include: IncludeMatches = ()) -> PredictResponse:
        """Compare a probe photo with three reference photos of one animal (JSON base64 input).

        `MATCH` when all criteria pass: the four of the codes and `print_match`, that beads and ridges lie in the same
        places. `INVALID_INPUT` when a photo shows no muzzle or the references are unlike each other, `NO_MATCH`
        otherwise.
        """
        references = await photos.from_texts("reference_photos", request.reference_photos)
        return await verify(references, await photos.from_text("probe_photo", request.probe_photo), include)

    @router.post("/predict/file", tags=["Verification"], responses=FILES_RESPONSES)
    async def predict_file_endpoint(
        reference_photo_1: Annotated[UploadFile, File(description="First reference muzzle image (JPEG or PNG)")],
        reference_photo_2: Annotated[UploadFile, File(description="Second reference muzzle image (JPEG or PNG)")],
        reference_photo_3: Annotated[UploadFile, File(description="Third reference muzzle image (JPEG or PNG)")],
        probe_photo: Annotated[UploadFile, File(description="Probe muzzle image to verify (JPEG or PNG)")],
        include: IncludeMatches = (),
    ) -> PredictResponse:
        """Compare a probe photo with three reference photos of one animal (multipart input)."""
        files = (reference_photo_1, reference_photo_2, reference_photo_3)
        references = [await photos.from_file(f"reference_photo_{number}", file) for number, file in enumerate(files, 1)]
        return await verify(references, await photos.from_file("probe_photo", probe_photo), include)


def add_encode_routes(router: APIRouter, context: Context) -> None:
    """Add /encode and /encode/file."""
    photos = MuzzlePhotos(context)

    async def encode(files: Sequence[Photo], names: Sequence[str]) -> EncodeResponse:
        encodings = await photos.encode(files)
        images = [
            encoded(index, name, encoding, domain_check(encoding, limits_of(context.settings, encoding.thresholds)))
            for index, (name, encoding) in enumerate(zip(names, encodings, strict=True))
        ]
        return EncodeResponse(images=images)

    @router.post("/encode", tags=["Encode"], responses=PHOTOS_RESPONSES, description=ENCODE_DESCRIPTION)
    async def encode_endpoint(request: EncodeRequest) -> EncodeResponse:
        names = [f"photo_{index}" for index in range(len(request.photos))]
        return await encode(await photos.from_texts("photos", request.photos), names)

    @router.post("/encode/file", tags=["Encode"], responses=FILES_RESPONSES)
    async def encode_file_endpoint(
        photos_: Annotated[
            list[UploadFile], File(alias="photos", description="One to twelve muzzle images (JPEG or PNG)")
        ],
    ) -> EncodeResponse:
        """Generate ML embedding codes for 1 to 12 images (multipart input); file names are kept."""
        if len(photos_) > MOST_PHOTOS:
            raise InvalidInput(f"{len(photos_)} photos in one request; the limit is {MOST_PHOTOS}.")
        files = [await photos.from_file(f"photos[{index}]", file) for index, file in enumerate(photos_)]
        return await encode(files, [file.name for file in files])


def add_domain_check_routes(router: APIRouter, context: Context) -> None:
    """Add /domain-check and /domain-check/file."""
    photos, prints = MuzzlePhotos(context), MuzzlePrints(context)

    async def check(photo: Photo, include: Sequence[str]) -> DomainCheckResponse:
        (encoding,) = await photos.encode([photo])
        checked = domain_check(encoding, limits_of(context.settings, encoding.thresholds))
        if "quality" in include:
            checked.quality = await prints.check(photo, encoding)
        return checked

    @router.post("/domain-check", tags=["Domain Check"], responses=PHOTO_RESPONSES)
    async def domain_check_endpoint(request: DomainCheckRequest, include: IncludeQuality = ()) -> DomainCheckResponse:
        """Tell whether a photo shows a muzzle (JSON base64 input); no references are needed."""
        return await check(await photos.from_text("photo", request.photo), include)

    @router.post("/domain-check/file", tags=["Domain Check"], responses=FILES_RESPONSES)
    async def domain_check_file_endpoint(
        photo: Annotated[UploadFile, File(description="Muzzle image to validate (JPEG or PNG)")],
        include: IncludeQuality = (),
    ) -> DomainCheckResponse:
        """Tell whether a photo shows a muzzle (multipart input); no references are needed."""
        return await check(await photos.from_file("photo", photo), include)


def encoded(index: int, name: str, encoding: MuzzleEncoding, checked: DomainCheckResponse) -> EncodedImageResult:
    """Return one photo of a response; values to six places, the resolution of a float32 near 0.1."""
    codes: list[list[float]] = np.round(encoding.codes.astype(np.float64), CODE_PLACES).tolist()
    return EncodedImageResult(
        index=index,
        filename=name,
        decision=checked.decision,
        domain_summary=checked.summary,
        model_codes=[
            ModelEmbeddingCode(model_id=number, code=code)
            for number, code in zip(encoding.model_ids, codes, strict=True)
        ],
        ensemble_code=[value for code in codes for value in code],
    )
