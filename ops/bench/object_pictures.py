"""Draw what a small detector finds in composed films: ``python -m ops.bench.object_pictures MEDIA CHECKPOINT OUT``.

Films of several kinds are rendered with objects of several classes, indexed as every film is, and drawn as
``/video/bbox?mode=debug`` streams them. OUT becomes one picture with a row of frames for each film.
"""

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from deployments.objects.detector import OBJECTS
from deployments.serving.catalog import find_stage, local_handle
from graphs.media.boxes import Boxes
from graphs.media.spans import Span
from graphs.web.context import Context
from ops.bench import detectors
from ops.bench.indexing import index, opened
from ops.bench.object_films import KINDS, SIZE, cast, rendered
from ops.bench.scenes import Material, material
from vision.images import Pixels
from vision.media.encoder import encode
from vision.media.plan import BoxTrack, ClipPlan
from vision.media.reader import VideoReader

FPS: Final = 24
SHOWN: Final = {"crossing": 5, "hidden up to 0.9 s": 3, "camera pans": 4, "crowd": 7}
"""Kinds of films, and the seed of each."""
PRIVATE: Final = ("person", "cow")
"""Classes whose pictures are not to be passed on."""
FRAMES: Final = 3
WIDTH: Final = 480
QUALITY: Final = 82


def film(path: Path, kind: str, parts: Material) -> None:
    """Render and encode a film."""
    import av

    random = np.random.default_rng((15, SHOWN[kind]))
    planned, cutouts = cast(KINDS[kind](random, float(FPS)), parts, random, mixed=True)
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for pixels in rendered(planned, cutouts, parts, range(len(planned.times)), SHOWN[kind]):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())


async def drawn(context: Context, path: Path) -> list[Pixels]:
    """Index a film, and return all its frames with what was found."""
    indexed = await index(context, path)
    boxes = await Boxes(context).of_all(indexed.index.asset_id, Span(), numbers=True)
    return await asyncio.to_thread(lambda: list(_frames(path, boxes)))


def _frames(path: Path, boxes: BoxTrack | None) -> Iterator[Pixels]:
    import av

    with VideoReader(path) as reader:
        data = b"".join(encode(reader, lambda: path.open("rb"), ClipPlan("overlay", caption="DEBUG"), boxes))
    with av.open(BytesIO(data)) as video:
        for frame in video.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


async def sheet(media: Path, checkpoint: Path, least: float) -> Image.Image:
    """Return the picture."""
    parts = material(media).part(held_out=False)
    shown = tuple(each for each in parts.cutouts if each.label not in PRIVATE)
    parts = Material(shown, parts.backgrounds)
    height = WIDTH * SIZE[1] // SIZE[0]
    result = Image.new("RGB", (FRAMES * WIDTH, len(SHOWN) * height))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        detectors.register(root, given_checkpoint=checkpoint)
        handle = await local_handle(
            find_stage(OBJECTS.key), {"models": ["given-checkpoint"], "engine": "torch-fp32", "confidence": least}
        )
        async with opened(root / "home") as context:
            stages: dict[str, object] = context.stages  # type: ignore[assignment]  # a dict, as it was given one
            stages[OBJECTS.key] = handle
            for row, kind in enumerate(SHOWN):
                path = root / f"{row}.mp4"
                await asyncio.to_thread(film, path, kind, parts)
                frames = await drawn(context, path)
                for column, place in enumerate(np.linspace(0.25, 0.75, FRAMES) * len(frames)):
                    small = Image.fromarray(frames[int(place)]).resize((WIDTH, height), Image.Resampling.LANCZOS)
                    result.paste(small, (column * WIDTH, row * height))
        await handle.close()
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--confidence", type=float, default=0.3)
    given = parser.parse_args(arguments)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    asyncio.run(sheet(given.media, given.checkpoint, given.confidence)).save(given.out, quality=QUALITY)


if __name__ == "__main__":
    main()
