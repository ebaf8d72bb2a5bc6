"""The Ray Data pipeline: numbers of items → DecodeVideos → InferObjects → InferFrames → InferCuts → messages.

The messages are for the driver. It streams: a row moves on as soon as its chunk is decoded, no operator runs far ahead
of the next, and rows in between are in Ray's object store, within Ray Data's share of it. A worker that dies is
replaced, and its rows are made again.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ops.bulk.plan import Plan
from ops.bulk.run import Finalizers, OnRequest, PipelineBroken
from ops.bulk.workers import (
    FINALIZER_DIED,
    DecodeVideos,
    Finalizer,
    FinalizeRequest,
    Grant,
    InferCuts,
    InferFrames,
    InferObjects,
    Message,
    StageSetup,
    from_row,
)
from stores.errors import StoreError
from stores.jobs import Json
from vision.errors import StageError, StageUnavailable

logger = logging.getLogger("ray.serve")

RESTARTS: Final = -1
RETRIES: Final = 5
"""Of a row whose worker died; without a limit, a row that kills every worker would do so for ever."""
MAX_REQUESTS: Final = 1000
"""Calls of the mailbox at a time."""
POLL_S: Final = 5.0
"""How long the driver's call for the next request waits."""
STOP_S: Final = 20.0
"""How long a pipeline that is left may take to end."""
ROWS_AHEAD: Final = 8
"""Rows in the driver that are not processed yet."""


class MailboxActor:
    """The mailbox between decoders and the driver, since Ray can call actors but not drivers.

    A decoder asks before it opens a video, so that a job is claimed when its turn has come and not before.
    """

    def __init__(self) -> None:
        self._requests: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Grant | None]] = {}
        self._wanted: set[str] = set()
        self._count = 0

    async def request(self, number: int) -> Grant | None:
        """Wait for the grant to decode an item; called by decoders."""
        self._count += 1
        ticket = self._count
        self._answers[ticket] = asyncio.get_running_loop().create_future()
        self._requests.put_nowait((ticket, number))
        try:
            grant = await self._answers[ticket]
        finally:
            del self._answers[ticket]
        if grant is not None:
            self._wanted.add(grant.attempt)
        return grant

    async def is_wanted(self, attempt: str) -> bool:
        """Return whether the rows of an attempt are still wanted; called by decoders."""
        return attempt in self._wanted

    async def next(self) -> tuple[int, int] | None:
        """Return ticket and item number of the next request, or None when none came in time; called by the driver."""
        try:
            return await asyncio.wait_for(self._requests.get(), POLL_S)
        except TimeoutError:
            return None

    async def answer(self, ticket: int, grant: Grant | None) -> None:
        """Answer a request; called by the driver."""
        waiting = self._answers.get(ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(grant)

    async def drop(self, attempt: str) -> None:
        """Mark the rows of an attempt as no longer wanted; called by the driver."""
        self._wanted.discard(attempt)


class RemoteMailbox:
    """The ``Mailbox`` of decoders, which calls the actor."""

    def __init__(self, actor: "ActorHandle[Any]") -> None:
        self._actor = actor

    def request(self, number: int) -> Grant | None:
        """As in ``Mailbox``."""
        grant: Grant | None = ray.get(self._actor.request.remote(number))
        return grant

    def is_wanted(self, attempt: str) -> bool:
        """As in ``Mailbox``."""
        return bool(ray.get(self._actor.is_wanted.remote(attempt)))


class RayPipeline:
    """Runs on the cluster that this process is connected to; ``runtime_env`` is that of its workers."""

    def __init__(self, plan: Plan, setup: StageSetup, runtime_env: dict[str, Any]) -> None:
        self._plan = plan
        self._setup = setup
        self._runtime_env = runtime_env
        # Beside the driver, so that no node can take it away on which only workers are.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": MAX_REQUESTS, "scheduling_strategy": here}
        self._mailbox = ray.remote(MailboxActor).options(**options).remote()

    async def rows(self, numbers: Sequence[int], on_request: OnRequest) -> AsyncGenerator[Message, None]:
        """As in ``Pipeline``. Raises PipelineBroken when the workers cannot continue."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Message | BaseException | None](ROWS_AHEAD)
        left = threading.Event()
        serving = asyncio.create_task(self._serve(on_request))

        def put(what: Message | BaseException | None) -> None:
            if not left.is_set():
                asyncio.run_coroutine_threadsafe(queue.put(what), loop).result()

        def iterate() -> None:
            try:
                for message in self._iterate(numbers, left):
                    put(message)
            except BaseException as error:
                put(error)
            else:
                put(None)

        # A daemon: Ray Data cannot be interrupted while it waits for a row.
        thread = threading.Thread(target=iterate, name="bulk-rows", daemon=True)
        thread.start()
        try:
            while (what := await queue.get()) is not None:
                if isinstance(what, RayError):
                    raise PipelineBroken(str(what).strip().splitlines()[-1]) from what
                if isinstance(what, BaseException):
                    raise what
                yield what
        finally:
            left.set()
            with suppress(asyncio.QueueEmpty):
                while True:
                    queue.get_nowait()
            # Decoders are still answered, so that they end: after a shutdown the thread would start Ray anew.
            await asyncio.to_thread(thread.join, STOP_S)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def drop(self, attempt: str) -> None:
        """As in ``Pipeline``."""
        try:
            await self._mailbox.drop.remote(attempt)
        except RayError as error:
            logger.warning("the mailbox does not answer: %s", type(error).__name__)

    def _iterate(self, numbers: Sequence[int], left: threading.Event) -> Iterator[Message]:
        for batch in self._dataset(numbers).iter_batches(batch_size=None, prefetch_batches=0):
            if left.is_set():
                return
            yield from_row(batch)

    def _dataset(self, numbers: Sequence[int]) -> Any:
        with warnings.catch_warnings():
            # For the number of retries there is no parameter by name yet.
            warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")
            return self._steps(numbers)

    def _steps(self, numbers: Sequence[int]) -> Any:
        import ray.data as data

        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # A block for each row, so that it moves on at once; and neither large blocks nor a backlog of small ones.
        context.target_max_block_size = 1
        context.target_min_block_size = 0
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        plan = self._plan
        options: dict[str, Any] = {
            "batch_size": None,
            "num_cpus": plan.cpus,
            "runtime_env": self._runtime_env,
            "ray_remote_args_fn": _remote_args,
        }
        rows = data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
        rows = rows.map_batches(
            DecodeVideos,
            fn_constructor_args=(RemoteMailbox(self._mailbox), self._setup.niceness),
            # A video waits for the first decoder that is free, and not in the queue of one that is busy.
            compute=data.ActorPoolStrategy(size=plan.decoders, max_tasks_in_flight_per_actor=1),
            **options,
        )
        if plan.object_workers:
            rows = rows.map_batches(
                InferObjects,
                fn_constructor_args=(self._setup,),
                compute=data.ActorPoolStrategy(size=plan.object_workers, max_tasks_in_flight_per_actor=2),
                num_gpus=plan.gpus,
                **options,
            )
        rows = rows.map_batches(
            InferFrames,
            fn_constructor_args=(self._setup,),
            compute=data.ActorPoolStrategy(size=plan.frame_workers, max_tasks_in_flight_per_actor=2),
            **options,
        )
        return rows.map_batches(
            InferCuts,
            fn_constructor_args=(self._setup,),
            compute=data.ActorPoolStrategy(size=plan.cut_workers, max_tasks_in_flight_per_actor=2),
            num_gpus=plan.gpus,
            **options,
        )

    async def _serve(self, on_request: OnRequest) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                request = await self._mailbox.next.remote()
                if request is not None:
                    group.create_task(self._answer(on_request, *request))

    async def _answer(self, on_request: OnRequest, ticket: int, number: int) -> None:
        grant = None
        try:
            grant = await on_request(number)
        except (StageError, StoreError) as error:
            logger.warning("item %d is retried later: %s", number, error)
        except Exception:  # one item must not end the others
            logger.exception("item %d is retried later", number)
        await self._mailbox.answer.remote(ticket, grant)


class FinalizerPool(Finalizers):
    """Finalizers as actors; each video goes to the least busy one."""

    def __init__(self, plan: Plan, setup: StageSetup, runtime_env: dict[str, Any]) -> None:
        options = {"num_cpus": plan.cpus, "num_gpus": plan.gpus, "runtime_env": runtime_env}
        actor = ray.remote(Finalizer).options(max_restarts=RESTARTS, **options)
        self._actors = [actor.remote(setup) for _ in range(plan.finalizers)]
        self._busy = [0] * plan.finalizers
        self._places: dict[str, int] = {}

    async def infos(self) -> dict[str, dict[str, Any]]:
        """Return the info of each stage. Raises PipelineBroken."""
        try:
            infos: list[dict[str, dict[str, Any]]] = await asyncio.gather(
                *(actor.infos.remote() for actor in self._actors)
            )
        except RayError as error:
            raise PipelineBroken(f"No worker can be started: {str(error).strip().splitlines()[-1]}") from error
        return infos[0]

    async def draft(self, request: FinalizeRequest) -> StageError | None:
        """As in ``Finalizers``."""
        place = min(range(len(self._busy)), key=self._busy.__getitem__)
        self._busy[place] += 1
        self._places[request.job_id] = place
        try:
            error: StageError | None = await self._actors[place].draft.remote(request)
        except RayActorError:
            return StageUnavailable(FINALIZER_DIED)
        return error

    async def store(self, request: FinalizeRequest) -> Json | StageError:
        """As in ``Finalizers``."""
        try:
            stored: Json | StageError = await self._actors[self._places[request.job_id]].store.remote(request)
        except RayActorError:
            return StageUnavailable(FINALIZER_DIED)
        return stored

    async def drop(self, request: FinalizeRequest) -> None:
        """As in ``Finalizers``."""
        place = self._places.pop(request.job_id, None)
        if place is not None:
            self._busy[place] -= 1
            try:
                await self._actors[place].drop.remote(request.job_id)
            except RayError as error:
                logger.warning("a finalizer does not answer: %s", type(error).__name__)


def _remote_args() -> dict[str, Any]:
    return {"max_task_retries": RETRIES}
