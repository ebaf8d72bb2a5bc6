"""The Ray Data pipeline: numbers of items → DecodeVideos → LookAtFrames → FindCuts → rows for the driver.

It streams: a row is on its way as soon as its chunk is decoded, no operator runs far ahead of the next, and what lies
between them is in Ray's object store, whose share Ray Data keeps to. A worker that dies is replaced, and its rows are
made again.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import ray
from ray.exceptions import RayActorError, RayError

from ops.bulk.actors import DecodeVideos, FindCuts, LookAtFrames, Models
from ops.bulk.desk import Mailbox, RemoteDesk
from ops.bulk.file import Finishers
from ops.bulk.finisher import DIED, Finisher, Order
from ops.bulk.plan import Plan
from ops.bulk.rows import Piece, piece_of
from ops.bulk.run import Answer, PipelineBroken
from stores.documents import StoreError
from stores.jobs import Json
from vision.errors import StageError, StageUnavailable

logger = logging.getLogger("ray.serve")

RESTARTS: Final = -1
RETRIES: Final = 5
"""Of a row whose worker died; else what kills every worker would do so for ever."""
AT_ONCE: Final = 1000
"""Questions at the desk at a time."""
LEAVE_S: Final = 20.0
"""How long a pipeline that is left may take to end."""
ROWS_AHEAD: Final = 8
"""That lie in the driver before they are looked at."""


class RayPipeline:
    """Runs on the cluster that this process is connected to. ``runtime_env``: of its workers."""

    def __init__(self, plan: Plan, models: Models, runtime_env: dict[str, Any]) -> None:
        self._plan = plan
        self._models = models
        self._runtime_env = runtime_env
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=AT_ONCE).remote()

    async def rows(self, numbers: Sequence[int], answer: Answer) -> AsyncGenerator[Piece, None]:
        """As ``Pipeline`` says. Raises PipelineBroken when the workers cannot go on."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Piece | BaseException | None](ROWS_AHEAD)
        left = threading.Event()
        serving = asyncio.create_task(self._serve(answer))

        def hand_over(what: Piece | BaseException | None) -> None:
            if not left.is_set():
                asyncio.run_coroutine_threadsafe(queue.put(what), loop).result()

        def iterate() -> None:
            try:
                for piece in self._iterate(numbers, left):
                    hand_over(piece)
            except BaseException as error:
                hand_over(error)
            else:
                hand_over(None)

        # A daemon: nobody can interrupt Ray Data while it waits for a row.
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
            # Decoders are still answered, so that they come to their end: behind a shutdown the thread would have Ray
            # started anew.
            await asyncio.to_thread(thread.join, LEAVE_S)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def drop(self, attempt: str) -> None:
        """As ``Pipeline`` says."""
        try:
            await self._mailbox.drop.remote(attempt)
        except RayError as error:
            logger.warning("the desk does not answer: %s", type(error).__name__)

    def _iterate(self, numbers: Sequence[int], left: threading.Event) -> Iterator[Piece]:
        for batch in self._dataset(numbers).iter_batches(batch_size=None, prefetch_batches=0):
            if left.is_set():
                return
            yield piece_of(batch)

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
        # A block for each row, so that it goes on at once; and neither large blocks nor a backlog of small ones.
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
            fn_constructor_args=(RemoteDesk(self._mailbox), self._models.niceness),
            # A video waits for the first decoder that is free, and not in the queue of one that is busy.
            compute=data.ActorPoolStrategy(size=plan.decoders, max_tasks_in_flight_per_actor=1),
            **options,
        )
        rows = rows.map_batches(
            LookAtFrames,
            fn_constructor_args=(self._models,),
            compute=data.ActorPoolStrategy(size=plan.lookers, max_tasks_in_flight_per_actor=2),
            **options,
        )
        return rows.map_batches(
            FindCuts,
            fn_constructor_args=(self._models,),
            compute=data.ActorPoolStrategy(size=plan.cutters, max_tasks_in_flight_per_actor=2),
            num_gpus=plan.gpus,
            **options,
        )

    async def _serve(self, answer: Answer) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                asked = await self._mailbox.next.remote()
                if asked is not None:
                    group.create_task(self._answered(answer, *asked))

    async def _answered(self, answer: Answer, ticket: int, number: int) -> None:
        grant = None
        try:
            grant = await answer(number)
        except (StageError, StoreError) as error:
            logger.warning("item %d is left for later: %s", number, error)
        except Exception:  # one item must not end the others
            logger.exception("item %d is left for later", number)
        await self._mailbox.answer.remote(ticket, grant)


def _remote_args() -> dict[str, Any]:
    return {"max_task_retries": RETRIES}


class FinisherPool(Finishers):
    """Actors that finish videos, the least busy one first."""

    def __init__(self, plan: Plan, models: Models, runtime_env: dict[str, Any]) -> None:
        options = {"num_cpus": plan.cpus, "num_gpus": plan.gpus, "runtime_env": runtime_env}
        actor = ray.remote(Finisher).options(max_restarts=RESTARTS, **options)
        self._actors = [actor.remote(models) for _ in range(plan.finishers)]
        self._busy = [0] * plan.finishers
        self._of: dict[str, int] = {}

    async def infos(self) -> dict[str, dict[str, Any]]:
        """What each stage says of itself. Raises PipelineBroken."""
        try:
            found: list[dict[str, dict[str, Any]]] = await asyncio.gather(
                *(actor.infos.remote() for actor in self._actors)
            )
        except RayError as error:
            raise PipelineBroken(f"No worker can be started: {str(error).strip().splitlines()[-1]}") from error
        return found[0]

    async def make(self, order: Order) -> StageError | None:
        """As ``Finishers`` says."""
        place = min(range(len(self._busy)), key=self._busy.__getitem__)
        self._busy[place] += 1
        self._of[order.job_id] = place
        try:
            made: StageError | None = await self._actors[place].make.remote(order)
        except RayActorError:
            return StageUnavailable(DIED)
        return made

    async def store(self, order: Order) -> Json | StageError:
        """As ``Finishers`` says."""
        try:
            stored: Json | StageError = await self._actors[self._of[order.job_id]].store.remote(order)
        except RayActorError:
            return StageUnavailable(DIED)
        return stored

    async def drop(self, order: Order) -> None:
        """As ``Finishers`` says."""
        place = self._of.pop(order.job_id, None)
        if place is not None:
            self._busy[place] -= 1
            try:
                await self._actors[place].drop.remote(order.job_id)
            except RayError as error:
                logger.warning("a finisher does not answer: %s", type(error).__name__)
