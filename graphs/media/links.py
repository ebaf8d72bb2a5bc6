"""Links to a file that need no key and expire, for browsers and for people without one."""

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from graphs.web.access import MAX_LINK_S
from graphs.web.context import Context
from graphs.web.hosts import link
from graphs.web.schemas import WHOLE, FileUuid
from graphs.web.uploads.library import Library

PATH: Final = r"^[A-Za-z0-9/._-]*(\?[A-Za-z0-9=&._-]*)?$"
HOUR_S: Final = 3600


class LinkRequest(BaseModel):
    """What a link is to lead to."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(
        default="",
        max_length=512,
        pattern=PATH,
        description="route below the file, with its query; empty: the file's own facts",
        examples=["video", "thumbnail?frame=100", "clip?start_time=1&end_time=4"],
    )
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_LINK_S), WHOLE] = Field(
        default=HOUR_S, description="seconds for which it opens"
    )


class FileLink(BaseModel):
    """A link; whoever has it can read everything of this one file until it expires."""

    url: str
    expires_at: datetime


def links_router(context: Context, library: Library) -> APIRouter:
    """Return the route link."""
    router = APIRouter(tags=["media: links"])

    @router.post("/file/{file_uuid}/link")
    async def link_to_file(
        file_uuid: FileUuid, request: Request, body: Annotated[LinkRequest | None, "optional"] = None
    ) -> FileLink:
        """Return a link by which everything of one file can be read without a key, until it expires.

        It is signed for whoever asks: when their key is revoked or expires, so does the link.
        """
        await library.get(file_uuid)
        wanted = body or LinkRequest()
        url = link(request, "details", file_uuid=file_uuid)
        if wanted.path:
            url = f"{url}/{wanted.path.removeprefix('/')}"
        signed, expires_at = await context.access.signed(url, file_uuid, wanted.expires_in_s)
        return FileLink(url=signed, expires_at=expires_at)

    return router
