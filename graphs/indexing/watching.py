"""Has the stages look at a video chunk by chunk, while the next chunk is decoded."""

import asyncio
from collections import deque
from typing import Final

from graphs.indexing.findings import Findings
from graphs.indexing.keeping import Keeper
from graphs.indexing.looking import Looking
from graphs.indexing.passes import Chunk
from graphs.indexing.watch import Watch
from graphs.jobs.runner import JobContext
from graphs.web.context import Context, task_group

CHUNKS_AT_ONCE: Final = 2
"""One is looked at while the next one is decoded."""


async def watch_all(context: Context, job: JobContext, watch: Watch, keeper: Keeper, *, faces: bool) -> None:
    """Look at all frames that are not kept yet; for ``faces`` too, unless only shots are wanted. Raises StageError."""
    start = await keeper.resume()
    if start >= len(watch.times):
        return
    looking = Looking(context.stages, f"job {job.job_id}", keeper.tell)
    watch.start(start, faces=faces)

    async def look_at(chunk: Chunk) -> tuple[Chunk, Findings]:
        return chunk, await looking.all(chunk)

    async def keep(looked: asyncio.Task[tuple[Chunk, Findings]]) -> None:
        chunk, found = await looked
        await keeper.keep(chunk.end, found, chunk.candidates)

    async with task_group() as group:
        waiting: deque[asyncio.Task[tuple[Chunk, Findings]]] = deque()
        while (chunk := await watch.next()) is not None:
            waiting.append(group.create_task(look_at(chunk)))
            if len(waiting) == CHUNKS_AT_ONCE:
                await keep(waiting.popleft())
        while waiting:
            await keep(waiting.popleft())
