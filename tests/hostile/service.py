"""A service of its own to attack: every API on a socket, real decoders and stores, dummies where a stage has weights.

``python -m tests.hostile.service HOME`` serves until its standard input ends, and says its port first.
"""

import asyncio
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from deployments.serving.catalog import AnyStage
from graphs.web.api import find_apis
from tests.dummies import DummyEmbed, LocalNearest
from tests.dummies.assets import thumbnail
from tests.dummies.forensics import DummySpeech, DummyVisual, DummyVoice
from tests.dummies.muzzle import DummyMuzzle, LocalGallery
from tests.dummies.photos import FACES, DummyBrisque, DummyClip, DummyDescribe, DummyEmotion, DummyNima
from tests.dummies.texts import DummySentence
from tests.dummies.video import DummyCuts, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces
from tests.graphs.harness import Service, handles, listening, serving, settings_in
from vision.embed.clip import ClipEmbedding
from vision.images import decode
from vision.muzzle.photo import muzzle_pixels

REQUEST_S: Final = 10.0
ANALYSIS_S: Final = 20.0
"""Deadlines of requests, shorter than the usual ones: 60 and 300 s."""
SIDE: Final = 256
"""Shortest side that the models of dummies would get."""
FEW_PIXELS: Final = 1_000_000


class Embed(DummyEmbed):
    """Decodes as the real stage does: any size that is accepted, a JPEG no larger than it needs."""

    prepare_threads = 2

    def prepare(self, item: str | bytes) -> NDArray[np.float32]:
        data = self._pictures.encoded(item)
        return thumbnail(decode(data, max_pixels=settings().max_image_pixels, shrink_to=2 * SIDE))

    def predict(self, item: NDArray[np.float32]) -> Any:
        return super().predict(np.clip(item, 0.01, 0.99))


class Clip(DummyClip):
    """Takes texts as well: the vector of one is any."""

    def predict(self, item: Any) -> ClipEmbedding:
        if not isinstance(item, str):
            return super().predict(item)
        vector = np.random.default_rng(len(item)).normal(size=512).astype(np.float32)
        return ClipEmbedding(vector / np.linalg.norm(vector), "dummy/clip")


class Emotion(DummyEmotion):
    """Has an answer for faces of any colour."""

    def predict(self, item: Any) -> Any:
        image, faces = item
        return super().predict((np.broadcast_to(np.array(next(iter(FACES)), np.uint8), image.shape), faces))


class Faces(DummyPhotoFaces):
    """Looks at a few of the pixels, as the real stage does: a dummy must not take more than what it stands for."""

    def predict(self, item: Any) -> Any:
        image = item[0] if isinstance(item, tuple) else item
        step = math.ceil(math.sqrt(image.shape[0] * image.shape[1] / FEW_PIXELS))
        return super().predict(image[::step, ::step])


class Muzzle(DummyMuzzle):
    """Decodes as the real stage does."""

    prepare_threads = 2

    def prepare(self, item: bytes) -> NDArray[np.float32]:
        image = decode(item, max_pixels=settings().max_image_pixels, shrink_to=SIDE)
        muzzle_pixels(image)  # refuses what the stage refuses
        return thumbnail(image)


DUMMIES: Final[dict[str, AnyStage]] = {
    cls.key: cls
    for cls in (
        *(Embed, LocalNearest, Muzzle, LocalGallery, DummyBrisque, Clip, DummyDescribe, Emotion, DummyNima),
        *(DummySentence, DummyCuts, Faces, DummyRecognizer, DummyVideoFaces),
        *(DummySpeech, DummyVisual, DummyVoice),
    )
}


async def _serve() -> None:
    apis = list(find_apis())
    keys = dict.fromkeys(key for name in apis for key in find_apis()[name].stage_keys)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    async with (
        handles(*(DUMMIES.get(key, key) for key in keys)) as stages,
        serving(Service, settings(), apis, stages) as service,
        listening(service.app) as port,
    ):
        print(port, flush=True)
        await ended.wait()


def main() -> None:
    """Serve."""
    limits = {"request_timeout_s": REQUEST_S, "analysis_timeout_s": ANALYSIS_S, "part_cache_bytes": 2**30}
    with settings_in(Path(sys.argv[1]), **limits):
        asyncio.run(_serve())


@contextmanager
def running(environment: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Run the service as a process of its own over empty stores, and return its URL and process id."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as home:
        command = [sys.executable, "-m", "tests.hostile.service", home]
        with (Path(home) / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        try:
            line = (process.stdout or sys.stdin.buffer).readline()
            if not line.strip().isdigit():
                raise RuntimeError(f"the service did not start: {(Path(home) / 'log').read_text()[-2000:]}")
            yield f"http://127.0.0.1:{int(line)}", process.pid
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
