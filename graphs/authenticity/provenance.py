"""Where a file comes from: what of it goes to the stage forensics/provenance, and what the answer says of it."""

import asyncio
import mmap
from typing import Final, TypeVar

import numpy as np
from pydantic import BaseModel

from deployments.forensics.provenance import PROVENANCE
from deployments.serving.stage import SharedImage, SharedPixels
from deployments.serving.streams import in_time
from graphs.authenticity import schemas
from graphs.authenticity.findings import Absent, result_or_absent
from graphs.authenticity.fusion import Verdict, provenance_score
from graphs.authenticity.uploads import Submission
from graphs.web.context import Context
from vision.errors import InvalidMedia
from vision.media.container import NO_CODECS, MediaFile
from vision.provenance.credentials import FileBytes, may_have_credentials
from vision.provenance.findings import Provenance
from vision.provenance.xmp import find_packet

T = TypeVar("T", bound=BaseModel)

NOT_CONFIGURED: Final = Absent("the configuration of this service has no stage forensics/provenance", fault=False)
"""Of a configuration that is older than the stage."""
NOTHING: Final = "nothing in the file says that it was generated or changed, which proves neither"


def provenance_block(found: Provenance) -> schemas.Provenance:
    """Return what was found as a part of an answer."""
    return schemas.Provenance(
        status=_status(found),
        declaration=_part(schemas.ProvenanceDeclaration, found.declaration),
        credentials=_part(schemas.ContentCredentials, found.credentials),
        metadata=schemas.FileMetadata.model_validate(found.metadata),
        findings=[schemas.ProvenanceFinding.model_validate(finding) for finding in found.findings],
    )


def provenance_signal(found: Provenance | Absent, verdict: Verdict | None) -> schemas.ProvenanceSignal:
    """Return what was found as a signal; ``verdict``: that of all signals, None without one."""
    if isinstance(found, Absent):
        return schemas.ProvenanceSignal(
            score=None, weight=0, effective_weight=0, unavailable=found.reason, status="none", declared=None
        )
    score = provenance_score(found)
    share = 0.0 if verdict is None else verdict.weights.get("provenance", 0.0)
    return schemas.ProvenanceSignal(
        score=score,
        weight=0.0 if score is None else 1.0,
        effective_weight=share,
        unavailable=NOTHING if score is None else None,
        status=_status(found),
        declared=None if found.declaration is None else found.declaration.basis,
    )


def _status(found: Provenance) -> schemas.ProvenanceStatus:
    if found.credentials is not None:
        return found.credentials.state
    return "unsigned" if any(finding.severity != "info" for finding in found.findings) else "none"


def _part(schema: type[T], part: object | None) -> T | None:
    return None if part is None else schema.model_validate(part)


async def picture_provenance(context: Context, image: SharedImage, data: bytes) -> Provenance | Absent:
    """Return where a picture comes from; ``data`` is its file."""
    if PROVENANCE.key not in context.stages:
        return NOT_CONFIGURED
    return await result_or_absent(context.stage(PROVENANCE)((image, SharedPixels(np.frombuffer(data, np.uint8)), {})))


async def media_provenance(context: Context, submission: Submission) -> Provenance | Absent:
    """Return where a film or a sound comes from; its file goes to the stage only where it may hold credentials."""
    if PROVENANCE.key not in context.stages:
        return NOT_CONFIGURED
    file, tags = await in_time(asyncio.to_thread(_read, submission))
    shared = None if file is None else SharedPixels(file)
    return await result_or_absent(context.stage(PROVENANCE)((None, shared, tags)))


def _read(submission: Submission) -> tuple[FileBytes | None, dict[str, str]]:
    """Return the bytes of a film or sound if they may hold credentials, and its tags with any XMP packet as ``xmp``."""
    path, demuxer, label = submission.path, submission.demuxer, submission.facts.format
    tags: dict[str, str] = {}
    try:
        with MediaFile(path, demuxer=demuxer, label=label, probed=True, codecs=NO_CODECS) as media:
            for stream in media.container.streams:
                tags |= stream.metadata
            tags |= media.container.metadata
    except InvalidMedia:
        tags = {}  # those who decode it say what is wrong with it
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        packet = find_packet(data)
        signed = may_have_credentials(data)
    if packet:
        tags["xmp"] = packet.decode("utf-8", "replace")
    return np.asarray(np.memmap(path, np.uint8, "r")) if signed else None, tags
