"""A process that runs a stage and is called through its pipes, as a replica of Serve is by its handles."""

import asyncio
import logging
import pickle
import sys
from typing import Any, BinaryIO

from deployments.serving.catalog import LocalStages
from deployments.serving.loading import LoadQueue
from deployments.serving.runner import StageRunner
from deployments.serving.stage import Stage, StageConfig
from vision.spans import flush
from vision.tracing import log_request_ids


class Talkative(Stage[StageConfig, Any, Any, Any]):
    """Logs what it prepares, and each of its batches."""

    key = "room/talkative"
    prepare_threads = 1

    def prepare(self, item: Any) -> Any:
        logging.getLogger("ray.serve").info("prepared %s", item)
        return item

    def predict_batch(self, items: list[Any]) -> list[Any]:
        logging.getLogger("ray.serve").info("batch of %s", "+".join(sorted(items)))
        return items


def write(pipe: BinaryIO, message: Any) -> None:
    """Write a message with its length."""
    data = pickle.dumps(message)
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def read(pipe: BinaryIO) -> Any:
    """Read what ``write`` wrote; None at the end."""
    size = pipe.read(4)
    return pickle.loads(pipe.read(int.from_bytes(size, "big"))) if size else None


async def main() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(request_id)s %(message)s", defaults={"request_id": "-"}))
    logger = logging.getLogger("ray.serve")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [handler], False
    log_request_ids()
    stages = LocalStages([])
    stages._runners = {Talkative.key: StageRunner(Talkative, None, LoadQueue())}
    await stages.reconfigure({Talkative.key: {"max_batch_size": 8, "batch_wait_s": 5.0}})
    await stages._runners[Talkative.key].loaded()
    while (call := await asyncio.to_thread(read, sys.stdin.buffer)) is not None:
        positional, named = call
        write(sys.stdout.buffer, await stages.run(*positional, **named))
    await stages._runners[Talkative.key].close()
    flush()


if __name__ == "__main__":
    asyncio.run(main())
