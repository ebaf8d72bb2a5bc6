"""Pictures in photo requests, and what an error of the photo API must look like."""

import base64
import io
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

from deployments.serving.handle import StageHandle
from deployments.serving.stage import resolved
from tests.graphs.harness import Service, body_of
from tests.graphs.samples import encoded
from vision.images import Pixels

HAPPY, SAD = (255, 0, 255), (0, 255, 255)


def data_of(data: bytes, image_id: str | None = None) -> dict[str, Any]:
    """The image input that holds these bytes."""
    return {"data": base64.b64encode(data).decode(), "image_id": image_id}


def pixels_of(data: bytes) -> Pixels:
    """What a stage sees of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def textured(level: int, noise: int = 8, size: tuple[int, int] = (64, 48)) -> bytes:
    """A grey picture of this brightness, 0-255, with the texture that quality models want."""
    rng = np.random.default_rng(level)
    grey = rng.integers(level - noise, level + noise + 1, (size[1], size[0], 1)).clip(0, 255)
    return encoded(Image.fromarray(np.repeat(grey, 3, 2).astype(np.uint8)), "PNG")


def faces(*boxes: tuple[tuple[int, int, int], tuple[int, int, int, int]], size: tuple[int, int] = (100, 80)) -> bytes:
    """A picture with faces that the dummies see: (colour, (left, top, right, bottom)), the last pixels included."""
    image = Image.new("RGB", size, (40, 60, 50))
    for colour, box in boxes:
        ImageDraw.Draw(image).rectangle(box, colour)
    return encoded(image, "PNG")


def photo_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an answer that must have this status and code, and tell nothing of the machine."""
    body: dict[str, Any] = body_of(answer, status)
    assert {"error", "message"} <= set(body) <= {"error", "message", "detail"}
    assert body["error"] == code
    assert isinstance(body["message"], str)
    assert body["message"]
    return body


def replace_stage(service: Service, key: str, answer: Callable[[Any], Any]) -> None:
    """Have this service's stage answer every item so; an awaitable is waited for. Other services keep theirs."""
    original = service.context.stages[key]

    async def call(items: list[Any], _: float | None) -> list[Any]:
        answers = [answer(await resolved(item)) for item in items]
        return [await given if isinstance(given, Awaitable) else given for given in answers]

    stages: dict[str, Any] = service.context.stages  # type: ignore[assignment]
    stages[key] = StageHandle(key, call, original.info)


@contextmanager
def stage_replaced(service: Service, key: str, answer: Any) -> Iterator[None]:
    """While the block runs, this service's stage answers every item so."""
    original = service.context.stages[key]
    replace_stage(service, key, lambda _: answer)
    yield
    stages: dict[str, Any] = service.context.stages  # type: ignore[assignment]
    stages[key] = original
