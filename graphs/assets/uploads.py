"""Routes of uploads that survive broken connections: the tus protocol 1.0.0 (https://tus.io).

Of its extensions there are creation, checksum, expiration and termination.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Coroutine
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from graphs.web.errors import CODED, Failure, failure_of
from graphs.web.hosts import link
from graphs.web.schemas import BINARY, Responses, error_responses
from graphs.web.uploads.resumable import CHECKSUMS, Checksum, Resumable, parse_metadata
from stores.partial_uploads import PartialUpload
from vision.errors import InvalidInput, StageError

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,checksum,expiration,termination"
OCTETS: Final = "application/offset+octet-stream"
MAX_LENGTH: Final = 2**53
"""More than any file; numbers in headers may have thousands of digits."""
ERRORS: Final = error_responses(
    {
        400: "the request or the file is not what the route takes",
        404: "no such upload of yours; it may have expired",
        409: "the bytes begin elsewhere than where the last ones ended",
        412: "Tus-Resumable names another version than 1.0.0",
        415: f"the bytes are not sent as {OCTETS}",
        423: "another request is storing the file",
        460: "the bytes do not have the checksum that was given",
    }
)
BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {OCTETS: BINARY}}}

UploadId = Annotated[str, Path(min_length=1, max_length=64, description="the last part of the Location of the upload")]
Version = Annotated[
    str, Header(alias="Tus-Resumable", description=f"version of the protocol: {VERSION}", examples=[VERSION])
]
Offset = Annotated[int, Header(alias="Upload-Offset", ge=0, le=MAX_LENGTH, description="bytes that are there already")]
ChecksumText = Annotated[
    str, Header(alias="Upload-Checksum", max_length=256, description="sha1 or sha256, a space, the hash in base64")
]


class UnsupportedVersion(StageError):
    """The client speaks another version of the protocol, or does not say which."""

    code = "UNSUPPORTED_VERSION"
    status = 412


class UploadState(BaseModel):
    """How far an upload is; the headers of the same answer say it as tus does."""

    upload_id: str
    offset: int = Field(description="bytes that are here")
    length: int = Field(description="bytes of the file")
    status: Literal["uploading", "storing", "stored"]
    asset_id: str | None = Field(description="of the asset that was made of it; null before")
    expires_at: datetime = Field(description="until when it is kept; later with each part that comes")

    @classmethod
    def of(cls, upload: PartialUpload) -> "UploadState":
        """Describe an upload."""
        whole = upload.offset == upload.length
        return cls(
            upload_id=upload.upload_id,
            offset=upload.offset,
            length=upload.length,
            status="stored" if upload.asset_id else "storing" if whole else "uploading",
            asset_id=upload.asset_id or None,
            expires_at=upload.expires_at,
        )


class _TusRoute(APIRoute):
    """A route that names the version of the protocol with every answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except StageError as error:
                versions = {"tus-version": VERSION} if isinstance(error, UnsupportedVersion) else {}
                response = CODED.response(failure_of(error), versions)
            response.headers["tus-resumable"] = VERSION
            return response

        return handle


def uploads_router(uploads: Resumable) -> APIRouter:
    """Return the routes of uploads in parts."""
    router = APIRouter(tags=["assets: uploads"], route_class=_TusRoute, responses=ERRORS)

    @router.options("/uploads", status_code=204, response_class=Response)
    async def describe_uploads() -> Response:
        """Say which version and extensions of tus there are, and how large a file may be."""
        headers = {
            "tus-version": VERSION,
            "tus-extension": EXTENSIONS,
            "tus-max-size": str(uploads.max_bytes),
            "tus-checksum-algorithm": ",".join(CHECKSUMS),
        }
        return Response(status_code=204, headers=headers)

    @router.post("/uploads", status_code=201, response_class=Response, responses=_made("the upload; see Location"))
    async def create_upload(
        request: Request,
        length: Annotated[int, Header(alias="Upload-Length", ge=1, le=MAX_LENGTH, description="bytes of the file")],
        metadata: Annotated[
            str,
            Header(
                alias="Upload-Metadata",
                description="filename, label and sha256 (64 hexadecimal digits), each with a space and its value in "
                "base64 behind it, separated by commas",
            ),
        ] = "",
        defer: Annotated[str, Header(alias="Upload-Defer-Length", description="is not there: give the length")] = "",
        version: Version = "",
    ) -> Response:
        """Begin an upload. Where you may read a file with the `sha256` given, it is whole at once: send nothing."""
        _check(version)
        if defer:
            raise InvalidInput("Give the size of the file as Upload-Length; it cannot be given later.")
        said = parse_metadata(metadata)
        upload = await uploads.create(
            length, metadata, said.get("filename", ""), said.get("label", ""), said.get("sha256", "").lower()
        )
        location = link(request, "upload_state", upload_id=upload.upload_id)
        return Response(status_code=201, headers={**_headers(upload), "location": location})

    @router.get("/uploads/{upload_id}")
    async def upload_state(upload_id: UploadId, response: Response, version: Version = "") -> UploadState:
        """Return how far an upload is; HEAD has it in the headers Upload-Offset and Upload-Length."""
        _check(version)
        upload = await uploads.settled(upload_id)
        response.headers.update({**_headers(upload), "upload-length": str(upload.length), "cache-control": "no-store"})
        if upload.metadata:
            response.headers["upload-metadata"] = upload.metadata
        return UploadState.of(upload)

    @router.patch(
        "/uploads/{upload_id}",
        status_code=204,
        response_class=Response,
        openapi_extra=BODY,
        responses=_made("the bytes are kept; Upload-Offset says how many there are, Upload-Asset-Id which asset", 204),
    )
    async def append_to_upload(
        request: Request, upload_id: UploadId, offset: Offset, checksum: ChecksumText = "", version: Version = ""
    ) -> Response:
        """Send the bytes from an offset on; with the last one the file is stored as any other upload is."""
        _check(version)
        if request.headers.get("content-type") != OCTETS:
            return CODED.response(Failure(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the bytes as Content-Type: {OCTETS}."))
        given = request.headers.get("content-length", "")
        size = int(given[:19]) if given.isdigit() else None
        upload = await uploads.append(upload_id, offset, request.stream, size, _checksum(checksum))
        return Response(status_code=204, headers=_headers(upload))

    @router.delete("/uploads/{upload_id}", status_code=204, response_class=Response)
    async def delete_upload(upload_id: UploadId, version: Version = "") -> Response:
        """Forget an upload with all that came of it. An asset that was made of it stays."""
        _check(version)
        await uploads.terminate(upload_id)
        return Response(status_code=204)

    @router.post(
        "/uploads/{upload_id}",
        status_code=204,
        response_class=Response,
        responses=_made("as the answer of that method", 204),
    )
    async def override_method(
        request: Request,
        upload_id: UploadId,
        method: Annotated[Literal["PATCH", "DELETE"], Header(alias="X-HTTP-Method-Override")],
        offset: Offset = 0,
        checksum: ChecksumText = "",
        version: Version = "",
    ) -> Response:
        """Do what another method does, for clients that can send neither PATCH nor DELETE."""
        if method == "DELETE":
            return await delete_upload(upload_id, version)
        return await append_to_upload(request, upload_id, offset, checksum, version)

    return router


def _check(version: str) -> None:
    if version != VERSION:
        raise UnsupportedVersion(f"Send the header Tus-Resumable: {VERSION}; this is the version that there is.")


def _made(text: str, status: int = 201) -> Responses:
    return {status: {"description": text}}


def _headers(upload: PartialUpload) -> dict[str, str]:
    headers = {"upload-offset": str(upload.offset), "upload-expires": format_datetime(upload.expires_at, usegmt=True)}
    return {**headers, "upload-asset-id": upload.asset_id} if upload.asset_id else headers


def _checksum(given: str) -> Checksum | None:
    if not given:
        return None
    algorithm, _, encoded = given.partition(" ")
    if algorithm not in CHECKSUMS:
        raise InvalidInput(f"Upload-Checksum takes {' and '.join(CHECKSUMS)}, not {algorithm[:40]!r}.")
    try:
        return Checksum(algorithm, b64decode(encoded.strip(), validate=True))
    except binascii.Error:
        raise InvalidInput("Upload-Checksum: the hash is not base64.") from None
