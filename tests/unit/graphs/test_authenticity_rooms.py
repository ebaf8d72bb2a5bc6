"""Places for files: who comes when all are taken waits, or is sent away with a word."""

import asyncio

import pytest

from graphs.authenticity.rooms import Room
from vision.errors import StageOverloaded


async def test_what_does_not_fit_waits_and_what_may_not_wait_is_refused() -> None:
    room, order = Room("videos", 1, 1), list[str]()

    async def second() -> None:
        async with room.entered(None):
            order.append("second")

    async with room.entered(None):
        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        with pytest.raises(StageOverloaded, match="1 videos at hand and 1 more waiting"):
            async with room.entered(None):
                pytest.fail("there was no place")
        order.append("first")
    await task
    assert order == ["first", "second"]


async def test_waiting_ends() -> None:
    room = Room("videos", 1, 5)
    async with room.entered(None):
        with pytest.raises(StageOverloaded, match="No place for videos"):
            async with room.entered(0.01):
                pytest.fail("there was no place")
    async with room.entered(0.01):
        pass  # its place in the queue was given back


async def test_who_leaves_the_queue_gives_its_place_back() -> None:
    room = Room("videos", 1, 1)
    async with room.entered(None):
        for _ in range(3):
            task = asyncio.create_task(room.entered(None).__aenter__())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    async with room.entered(0.01):
        pass
