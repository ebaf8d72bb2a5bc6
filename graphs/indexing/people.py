"""Who is in a video: traces and identities, made of the faces that were seen in it."""

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from deployments.analysis.tracks import Detections, Trace, TrackRequest
from graphs.indexing.assigning import Assigned
from graphs.indexing.findings import stretch
from graphs.indexing.keeping import check_asset
from graphs.indexing.patience import patiently
from graphs.indexing.representatives import faces_folder
from graphs.indexing.watch import Timeline
from graphs.web.context import Context, task_group
from stores import derived as belongings
from stores.people import VideoIndex
from vision.errors import MediaNotFound

TRACKS: Final = "analysis/tracks"
SHOTS_AT_ONCE: Final = 16


async def traces_of(context: Context, found: Detections, first_frames: Sequence[int], watch: Timeline) -> list[Trace]:
    """Shot by shot, since no trace goes beyond one: the messages stay small, and shots are linked side by side."""
    bounds = [0, *np.searchsorted(found.frames, first_frames).tolist(), len(found.frames)]
    room = asyncio.Semaphore(SHOTS_AT_ONCE)

    async def shot(start: int, end: int) -> tuple[Trace, ...]:
        part = stretch(found, start, end)
        async with room:
            request = TrackRequest(part, cuts=(), fps=watch.facts.fps, step=watch.step)
            traces: tuple[Trace, ...] = await patiently(partial(context.stages[TRACKS], request))
        return traces

    async with task_group() as group:
        tasks = [group.create_task(shot(*ends)) for ends in itertools.pairwise(bounds) if ends[0] < ends[1]]
    return [trace for task in tasks for trace in task.result()]


async def store_people(context: Context, index: VideoIndex, assigned: Assigned) -> None:
    """Replace the index of a video. Raises MediaNotFound, leaving nothing, where it was deleted meanwhile."""
    for identity in assigned.new:
        await context.people.put_identity(identity)
    await context.people.put_index(index, assigned.traces)
    await belongings.remove(context.objects, faces_folder(index.asset_id))  # those of the index before
    try:
        await check_asset(context, index.asset_id)
    except MediaNotFound:
        # It was deleted since it was last looked for, so nobody else takes this away.
        await context.people.delete_index(index.asset_id)
        for identity in assigned.new:
            await context.people.delete_identity(identity.identity_uuid)
        raise
