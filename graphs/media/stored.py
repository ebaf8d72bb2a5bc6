"""A stored file, bit by bit: all of it, or the range that a player asks for."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request
from fastapi.responses import Response

from graphs.media.ranges import StoredFile, select
from graphs.media.streams import Stream
from graphs.web.context import Context
from graphs.web.contracts import MEDIA
from graphs.web.errors import AssetNotFound, Failure
from stores.objects import ObjectNotFound
from stores.records import Asset


async def stored_video(context: Context, request: Request, asset: Asset) -> Response:
    """The file, or what the headers of a GET or HEAD ask of it."""
    # The id is a digest of the bytes, so it changes with them, and nothing else does.
    file = StoredFile(f'"{asset.asset_id}"', asset.uploaded_at.replace(microsecond=0), asset.file_size)
    wanted = select(request.method, request.headers, file)
    validators = {"etag": file.etag, "last-modified": file.last_modified, "cache-control": "private, max-age=86400"}
    if wanted.status in (304, 412):
        return Response(status_code=wanted.status, headers=validators)
    if wanted.status == 416:
        message = f"This file has {file.size} bytes; there are none in the range asked for."
        failure = Failure(416, "RANGE_NOT_SATISFIABLE", message)
        return MEDIA.errors.response(failure, {"content-range": f"bytes */{file.size}"})
    headers = validators | {
        "accept-ranges": "bytes",
        "content-length": str(wanted.end - wanted.start),
        # The bytes are a stranger's: a browser may show them as what they are, and run nothing in them.
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if wanted.status == 206:
        headers["content-range"] = f"bytes {wanted.start}-{wanted.end - 1}/{file.size}"
    if request.method == "HEAD":
        if await context.objects.head(asset.asset_id) is None:
            raise AssetNotFound([asset.asset_id])
        return Response(headers=headers, media_type=asset.content_type)
    source = _bytes(context, asset.asset_id, wanted.start, wanted.end)
    return Stream(source, asset.content_type, headers, wanted.status)


async def _bytes(context: Context, key: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
    source = context.objects.stream(key, start, end)
    assert isinstance(source, AsyncGenerator)
    async with aclosing(source) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
        except ObjectNotFound:
            raise AssetNotFound([key]) from None
