"""A worker process that saves a checkpoint and works on, until it is killed."""

import asyncio
import sys
from typing import Any

from graphs.jobs.runner import JobContext, JobRunner, Timing
from stores.open import Stores


async def work(job: JobContext) -> dict[str, Any]:
    await job.save({"frame": 70})
    print("saved", flush=True)
    await asyncio.Event().wait()
    return {}


async def main() -> None:
    runner = JobRunner(Stores(documents=sys.argv[1]).jobs, {"index": work}, timing=Timing(lease_s=1.0))
    runner.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
