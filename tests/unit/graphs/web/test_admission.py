"""Admission: what finds no slot waits, or is refused with a message."""

import asyncio
import time

import pytest

from graphs.web.admission import Admission
from vision.deadlines import request_deadline
from vision.errors import StageOverloaded


async def test_what_does_not_fit_waits_and_what_may_not_wait_is_refused() -> None:
    admission, order = Admission("videos", 1, 1), list[str]()

    async def second() -> None:
        async with admission.slot():
            order.append("second")

    async with admission.slot():
        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        with pytest.raises(StageOverloaded, match="1 videos are being processed and 1 more are waiting"):
            async with admission.slot():
                pytest.fail("there was no slot")
        order.append("first")
    await task
    assert order == ["first", "second"]


async def test_waiting_ends() -> None:
    admission = Admission("videos", 1, 5)
    async with admission.slot():
        for deadline, share in ((0.01, 1.0), (100.0, 0.0001)):
            request_deadline.set(time.time() + deadline)
            with pytest.raises(StageOverloaded, match="No slot for videos became free in time"):
                async with admission.slot(share):
                    pytest.fail("there was no slot")
    async with admission.slot():
        pass  # its place in the queue was given back


async def test_leaving_the_queue_frees_its_place() -> None:
    admission = Admission("videos", 1, 1)
    async with admission.slot():
        for _ in range(3):
            task = asyncio.create_task(admission.slot().__aenter__())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    async with admission.slot():
        pass
