"""Admission: what finds no slot waits, or is refused with a message."""

import asyncio

import pytest

from graphs.web.admission import Admission
from vision.errors import StageOverloaded


async def test_what_does_not_fit_waits_and_what_may_not_wait_is_refused() -> None:
    admission, order = Admission("videos", 1, 1), list[str]()

    async def second() -> None:
        async with admission.slot(None):
            order.append("second")

    async with admission.slot(None):
        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        with pytest.raises(StageOverloaded, match="1 videos are being processed and 1 more are waiting"):
            async with admission.slot(None):
                pytest.fail("there was no slot")
        order.append("first")
    await task
    assert order == ["first", "second"]


async def test_waiting_ends() -> None:
    admission = Admission("videos", 1, 5)
    async with admission.slot(None):
        with pytest.raises(StageOverloaded, match="No slot for videos"):
            async with admission.slot(0.01):
                pytest.fail("there was no slot")
    async with admission.slot(0.01):
        pass  # its place in the queue was given back


async def test_leaving_the_queue_frees_its_place() -> None:
    admission = Admission("videos", 1, 1)
    async with admission.slot(None):
        for _ in range(3):
            task = asyncio.create_task(admission.slot(None).__aenter__())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    async with admission.slot(0.01):
        pass
