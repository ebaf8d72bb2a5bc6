"""Videos of coloured rectangles that the dummies take for people, and a service that indexes them."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
from PIL import Image

from configs.settings import Settings, settings
from graphs.jobs.kinds import find_job_kinds
from graphs.jobs.runner import JobRunner, Timing
from stores.jobs import Job
from stores.records import Asset
from tests.dummies import DummyEmbed
from tests.dummies.objects import OBJECTS, DummyDetector
from tests.dummies.photos import DummyClip
from tests.dummies.texts import DummySentence
from tests.dummies.video import PEOPLE, DummyCuts, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces
from tests.graphs.harness import Service, handles, serving
from tests.graphs.media import MediaService
from tests.graphs.samples import encoded
from tests.waiting import PATIENCE_S
from vision.errors import StageError

SIZE = (192, 108)
FPS = 25
BACKGROUNDS = ((200, 200, 120), (90, 90, 90), (150, 120, 200))
Walk = tuple[int, int, tuple[int, int], tuple[int, int]]
"""First and last frame, and where the top left corner is in the first and in the last one."""
Shot = tuple[int, Mapping[str, Walk]]
"""How many frames, and who walks where; frames count from the first one of the shot."""
FACE = (32, 40)
THINGS = {"dog": (30, 20), "car": (60, 24), "person": (44, 72)}
"""Width and height of objects; they walk as people do."""
COLOURS = {label: colour for colour, (label, _) in OBJECTS.items()}

# Ada is alone, Bob comes in at frame 21; after the cut at 60 Cyd is alone; after the one at 90 Ada is back.
FILM: tuple[Shot, ...] = (
    (60, {"ada": (0, 59, (10, 30), (60, 34)), "bob": (21, 59, (150, 50), (110, 40))}),
    (30, {"cyd": (0, 29, (70, 20), (90, 40))}),
    (40, {"ada": (0, 39, (120, 40), (80, 30))}),
)
REAL = (
    *("media/clips", "media/frames", "media/sharpness", "shots/camera"),
    *("analysis/tracks", "analysis/identities"),
)
DUMMIES = (
    DummyVideoFaces,
    DummyPhotoFaces,
    DummyRecognizer,
    DummyCuts,
    DummyEmbed,
    DummyClip,
    DummySentence,
    DummyDetector,
)
QUICK = Timing(lease_s=2.0, heartbeat_s=0.1, progress_s=0.05, retry_s=0.01)


_films: dict[str, bytes] = {}


def film(
    shots: Sequence[Shot] = FILM, fps: int | Fraction = FPS, form: str = "mp4", stamps: Sequence[int] = ()
) -> bytes:
    """A film with H.264; encoded once, since on a busy machine a second encoding may differ by some bytes.

    ``stamps``: when each frame is shown, in milliseconds, in place of a constant rate.
    """
    key = f"{shots} {fps} {form} {stamps}"
    if key not in _films:
        _films[key] = _encode(shots, fps, form, stamps)
    return _films[key]


def _encode(shots: Sequence[Shot], fps: int | Fraction, form: str, stamps: Sequence[int]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as output:
        stream = output.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        if stamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        at = iter(stamps)
        for number, (frames, walks) in enumerate(shots):
            for frame in range(frames):
                pixels = _frame(frame, walks, BACKGROUNDS[number % len(BACKGROUNDS)])
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                if stamps:
                    picture.pts, picture.time_base = next(at), Fraction(1, 1000)
                output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return file.getvalue()


def long_film(seconds: int) -> bytes:
    """Ada walks, ten frames a second; each ten seconds are a part of the index."""
    walk: Walk = (0, 10 * seconds - 1, (10, 30), (150, 60))
    return film(((10 * seconds, {"ada": walk}),), 10)


def photo(*people: str) -> bytes:
    """A picture with these people in it, side by side, the first one the largest."""
    pixels = np.full((120, 300, 3), 128, np.uint8)
    for place, person in enumerate(people):
        pixels[20 : 100 - 10 * place, 20 + 90 * place : 90 + 80 * place] = PEOPLE[person]
    return encoded(Image.fromarray(pixels), "PNG")


def _frame(frame: int, walks: Mapping[str, Walk], background: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    width, height = SIZE
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = background
    for person, (first, last, start, end) in walks.items():
        if first <= frame <= last:
            share = (frame - first) / max(1, last - first)
            x, y = (round(a + share * (b - a)) for a, b in zip(start, end, strict=True))
            width, height = THINGS.get(person, FACE)
            pixels[y : y + height, x : x + width] = PEOPLE.get(person) or COLOURS[person]
    return pixels


@dataclass
class IndexService(MediaService):
    """A media API with its worker, which a test starts."""

    faces: DummyVideoFaces

    @asynccontextmanager
    async def working(self) -> AsyncIterator[JobRunner]:
        """While this lasts jobs are done."""
        kinds = {name: partial(kind.function, self.context) for name, kind in find_job_kinds().items()}
        runner = JobRunner(self.context.jobs, kinds, poll_s=(0.01, 0.05), timing=QUICK)
        runner.start()
        try:
            yield runner
        finally:
            self.faces.released.set()
            await runner.stop()

    async def post_index(self, asset: Asset) -> dict[str, Any]:
        """The answer to a request for an index, which must be accepted."""
        answer = await self.client.post(f"/api/v1/file/{asset.asset_id}/index")
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def until(self, job_id: str, reached: Callable[[Job], bool]) -> Job:
        """The job when it has come so far."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                job = await self.context.jobs.get(job_id)
                assert job is not None
                if reached(job):
                    return job
                await asyncio.sleep(0.01)

    async def ended(self, job_id: str) -> Job:
        """The job when it has ended."""
        return await self.until(job_id, lambda job: job.finished)

    async def index(self, asset: Asset) -> Job:
        """Have a video indexed, whatever comes of it."""
        job_id = (await self.post_index(asset))["job_id"]
        async with self.working():
            return await self.ended(job_id)

    async def indexed(self, data: bytes | None = None) -> Asset:
        """A video that was indexed."""
        asset = await self.add(film() if data is None else data)
        job = await self.index(asset)
        assert job.status == "succeeded", job.error
        return asset

    async def ok(self, asset: Asset, route: str, **query: Any) -> Any:
        """The answer to a GET of a route of this file that must succeed."""
        answer = await self.get(asset, route, **query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["success"] is True
        return answer.json()

    async def people(self, method: str, path: str = "", status: int = 200, **body: Any) -> Any:
        """The answer to a request about identities that must have this status."""
        answer = await self.client.request(method, f"/api/v1/identities{path}", json=body or None)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def derived_objects(self, asset: Asset) -> list[str]:
        """Keys of the derived objects of a video, but for the keyframes of its shots."""
        keys = [info.key async for info in self.context.objects.list(f"{asset.asset_id}/")]
        return [key for key in keys if "/shots/" not in key]


def without_weights(service: Service, key: str, error: StageError) -> Callable[[], None]:
    """Have a stage answer everything with this error; return what makes it well again."""

    async def refuse(_: Any) -> Any:
        raise error

    async def not_loaded() -> dict[str, Any]:
        return {"stage": key, "loaded": False}

    handle = service.context.stages[key]
    call, info = handle._call, handle._info
    handle._call, handle._info = (lambda items, _: refuse(items)), not_loaded

    def mend() -> None:
        handle._call, handle._info = call, info

    return mend


@asynccontextmanager
async def index_service(config: Settings) -> AsyncIterator[IndexService]:
    """A service over the stores of the settings; the models are dummies."""
    async with (
        handles(*REAL, *DUMMIES) as stages,
        serving(IndexService, config, ["media", "shots", "jobs"], stages, faces=DummyVideoFaces.running) as service,
    ):
        yield service


async def _work_for_ever() -> None:
    """A worker in a process of its own, over the stores of the environment; each frame takes its time."""
    async with index_service(settings()) as service:
        predict = service.faces.predict

        def slowly(image: Any) -> Any:
            service.faces.released.wait(0.01)
            return predict(image)

        service.faces.predict = slowly  # type: ignore[method-assign]
        async with service.working():
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_work_for_ever())
