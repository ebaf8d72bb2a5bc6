"""Whose the traces of a video are: people known from other videos and photographs, or seen for the first time."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.analysis.identities import Assignment, IdentityRequest
from deployments.analysis.tracks import Trace
from graphs.web.context import Context
from stores.people import Identity, TraceBoxes, TraceRecord

IDENTITIES: Final = "analysis/identities"
LEAST_DETECTIONS: Final = 5
"""Of somebody new; who was seen less often is left without an identity."""
NAMESPACE: Final = uuid.UUID("6f0b6c1e-2f0d-4a64-9c56-6d2b35d8a7b4")


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """``traces`` of a video as they are stored; ``new``: identities that are theirs and not stored yet."""

    traces: list[tuple[TraceRecord, TraceBoxes]]
    new: list[Identity]

    @property
    def identities(self) -> set[str]:
        """All whom traces belong to."""
        return {record.identity_uuid for record, _ in self.traces if record.identity_uuid is not None}


async def assign(
    context: Context, asset_id: str, traces: Sequence[Trace], times: NDArray[np.float64], model: str
) -> Assigned:
    """Number the traces from 1 and say whose they are; ``model`` made their vectors, ``times`` are of all frames.

    Done again, it comes to the same identities, whether those of the first time were stored or not.
    """
    known = [identity for identity in await context.people.list_identities() if identity.models == model]
    request = IdentityRequest(
        vectors=_stacked([trace.vector for trace in traces]),
        spans=np.array([(trace.frames[0], trace.frames[-1]) for trace in traces], np.int64).reshape(-1, 2),
        counts=np.array([trace.detected.sum() for trace in traces], np.int64),
        known=tuple(identity.identity_uuid for identity in known),
        known_vectors=_stacked([identity.vector for identity in known]),
    )
    assignments: tuple[Assignment, ...] = await context.stages[IDENTITIES](request)
    new = _new_identities(asset_id, request, assignments, model)
    owners = [each.known or (new[each.group].identity_uuid if each.group in new else None) for each in assignments]
    stored = [
        (
            TraceRecord(
                asset_id=asset_id,
                trace_id=number,
                first_frame=int(trace.frames[0]),
                last_frame=int(trace.frames[-1]),
                first_time=float(times[trace.frames[0]]),
                last_time=float(times[trace.frames[-1]]),
                face_count=int(trace.detected.sum()),
                identity_uuid=owner,
                vector=trace.vector,
            ),
            TraceBoxes(trace.frames, trace.boxes, trace.confidences, trace.detected),
        )
        for number, (trace, owner) in enumerate(zip(traces, owners, strict=True), 1)
    ]
    return Assigned(stored, list(new.values()))


def _new_identities(
    asset_id: str, request: IdentityRequest, assignments: Sequence[Assignment], model: str
) -> dict[int, Identity]:
    """By group, of those groups that are nobody known and were seen often enough."""
    now = datetime.now(UTC)
    new: dict[int, Identity] = {}
    for group in sorted({each.group for each in assignments if each.known is None}):
        members = [index for index, each in enumerate(assignments) if each.group == group]
        counts = request.counts[members]
        if counts.sum() < LEAST_DETECTIONS:
            continue
        mean = (request.vectors[members] * counts[:, None]).sum(0)
        new[group] = Identity(
            identity_uuid=str(uuid.uuid5(NAMESPACE, f"{asset_id} {model} {members[0]}")),
            name=None,
            models=model,
            vector=unit(mean),
            weight=float(counts.sum()),
            references=(),
            created_at=now,
        )
    return new


def unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """The vector as float32 of length 1."""
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _stacked(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
