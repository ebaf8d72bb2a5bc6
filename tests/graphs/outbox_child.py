"""A worker process that announces and delivers, until it is killed; its settings are in the environment."""

import asyncio

from configs.settings import settings
from graphs.jobs.runner import Timing
from graphs.jobs.webhooks.outbox import Outbox
from graphs.web.gateway import open_context


async def main() -> None:
    Outbox(open_context(settings(), {}), poll_s=0.01, timing=Timing(lease_s=1.0)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
