"""Who uploaded an asset: the same bytes are one asset, with an upload of each client that sent them.

An asset lives while any of its uploads does. A client sees its own name and time of an asset, else those of the
earliest upload. What it has deleted it does not see any more, while the uploads of others keep the asset.
"""

from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

ANYONE: Final = ""
"""Owner of what was uploaded without an API key."""
Withdrawal = Literal["unknown", "of others", "withdrawn", "last"]
"""Outcome of a delete: no such asset; only others have uploads of it; others remain; none remains."""
Addition = Literal["added", "there", ""]
"""Outcome of adding an upload: there is one more; its owner has one already; nothing, of an unknown asset."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One client's upload of an asset.

    ``owner`` is an opaque name of the client. A ``withdrawn`` one has no name and no time: it hides the asset from its
    owner.
    """

    owner: str
    filename: str
    uploaded_at: datetime
    withdrawn: bool = False


Uploads = tuple[Upload, ...]
WITHDRAWN_AT: Final = datetime(1970, 1, 1, tzinfo=UTC)


def earliest(uploads: Uploads) -> Upload:
    """Return the first upload that was not withdrawn; there is one."""
    if len(uploads) == 1:
        return uploads[0]
    return min((each for each in uploads if not each.withdrawn), key=lambda each: (each.uploaded_at, each.owner))


def latest(uploads: Uploads) -> datetime:
    """Return the time of the last upload that was not withdrawn."""
    return max(each.uploaded_at for each in uploads)


def with_upload(uploads: Uploads, upload: Upload) -> Uploads:
    """Return uploads with one more, in place of one that its owner withdrew; those of an owner that has one already."""
    own = [each for each in uploads if each.owner == upload.owner]
    if own and not own[0].withdrawn:
        return uploads
    return (*(each for each in uploads if each.owner != upload.owner), upload)


def without_upload(uploads: Uploads, owner: str, clients: Container[str]) -> tuple[Withdrawal, Uploads]:
    """Return what a client's delete of an asset comes to, and the uploads after it, unchanged unless "withdrawn".

    Its own upload goes, and those of nobody: of owners that are not among the ``clients`` there are.
    """
    living = [each for each in uploads if not each.withdrawn]
    left = [each for each in living if each.owner != owner and each.owner in clients]
    if len(left) == len(living):
        return ("of others" if living else "unknown"), uploads
    if not left:
        return "last", uploads
    hidden = [each for each in uploads if each.withdrawn and each.owner != owner]
    return "withdrawn", (*left, *hidden, Upload(owner, "", WITHDRAWN_AT, withdrawn=True))
