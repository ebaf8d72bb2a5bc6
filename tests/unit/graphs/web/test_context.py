"""Calls that run at once: the first failure is raised alone, and nothing runs on behind it."""

import asyncio

import pytest

from graphs.web.context import task_group


async def test_results_are_there_when_the_block_ends() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async with task_group() as group:
        tasks = [group.create_task(double(number)) for number in range(3)]
    assert [task.result() for task in tasks] == [0, 2, 4]


async def test_a_failure_cancels_the_others_and_keeps_its_class() -> None:
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("this one")

    async def all_three() -> None:
        async with task_group() as group:
            for call in (hang, fail, hang):
                group.create_task(call())

    with pytest.raises(KeyError, match="this one"):
        await all_three()
    assert ended == ["cancelled"] * 2


async def test_leaving_cancels_everything() -> None:
    started, ended = asyncio.Event(), []

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def caller() -> None:
        async with task_group() as group:
            group.create_task(hang())

    task = asyncio.create_task(caller())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]
