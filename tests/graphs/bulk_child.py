"""A bulk run in a process of its own, which stops once a part of a video is stored: ``python -m … FOLDER``."""

import asyncio
import sys

from configs.settings import settings
from ops.bulk.driver import recorded
from ops.bulk.run import BulkRun
from ops.bulk.sources import Item, find_items
from tests.graphs.bulk import LocalFinalizer, LocalPipeline, Log
from tests.graphs.indexing import QUICK, index_service


class Waiting(Log):
    """A monitor that says that a part is stored, and blocks the whole process then, until it is killed."""

    def frame(self, item: Item, reached: int, frames: int) -> None:
        if reached > 100:
            print("stored", flush=True)
            sys.stdin.read()


async def main() -> None:
    async with index_service(settings()) as service:
        del service.context.stages["objects/detector"]  # type: ignore[attr-defined]  # as in the run that resumes it
        run = BulkRun(service.context, find_items(sys.argv[1:]), LocalPipeline(), LocalFinalizer(), Waiting(), QUICK)
        await recorded(service.context, sys.argv[1:], run, asyncio.Event(), QUICK)


if __name__ == "__main__":
    asyncio.run(main())
