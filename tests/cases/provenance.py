"""Files of every kind, signed and then treated as people and attackers do: ``python -m tests.cases.provenance``.

Each is judged as the service judges it, but for models: by what the file says of itself alone. ``--pictures FOLDER``
compares thumbnails with the pictures that they were made of, and with others.
"""

import argparse
import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image, ImageOps

from graphs.authenticity.fusion import fuse, with_provenance
from ops.bench.report import made_by, publish, table
from tests.credentials import CAPTURED, GENERATED, identity, signed
from tests.unit.vision.provenance.test_credentials import MIME, plain, turned
from tests.unit.vision.provenance.test_findings import encoded, shape, with_thumbnail
from vision.errors import StageError
from vision.images import decode
from vision.provenance.consistency import LEAST_CORRELATION, thumbnail_correlation
from vision.provenance.findings import examine

GENUINE: Final = {"visual": 0.2, "forensic": 0.2}
"""Signals of models that see nothing, as beside a generator that they do not know."""
MAX_PIXELS: Final = 80_000_000


def changed(data: bytes, whole: bytes) -> bytes:
    """Return a signed file with one bit of picture or sound turned over; ``whole``: the file before it was signed."""
    piece = whole[len(whole) // 2 : len(whole) // 2 + 24]
    return turned(data, data.rfind(piece) + 5)


def saved_again(data: bytes, kind: str) -> bytes:
    """Return a picture that was saved again, or a film or sound that was remuxed, as platforms do."""
    out = io.BytesIO()
    if kind in ("jpeg", "png", "webp", "tiff"):
        Image.open(io.BytesIO(data)).save(out, kind.upper())
        return out.getvalue()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format="matroska") as output:
        stream = source.streams[0]
        copied = output.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
    return out.getvalue()


def verdict(data: bytes) -> str:
    """Return state and verdict beside models that see nothing."""
    found = examine(np.frombuffer(data, np.uint8), None, {}, identity().root.decode())
    judged = with_provenance(fuse(GENUINE), found)
    assert judged is not None
    state = found.credentials.state if found.credentials else "none"
    return f"{state}: {judged.classification} {judged.risk_score:.0f}"


def treatments(kind: str) -> Iterator[str]:
    """Yield the verdicts on a kind of file, in the order of the table."""
    data, mime = plain(kind), MIME[kind]
    generated = signed(data, mime, GENERATED)
    yield verdict(data)
    yield verdict(generated)
    yield verdict(signed(data, mime, GENERATED, by=identity("Nobody", "Nowhere")))
    yield verdict(signed(data, mime, CAPTURED))
    yield verdict(changed(generated, data))
    yield verdict(changed(signed(data, mime, CAPTURED), data))
    yield "-" if kind in ("heic", "avif") else verdict(saved_again(generated, kind))


def milliseconds(function: Callable[[], Any], count: int = 15) -> float:
    """Return the processor time of a call, the median of several."""
    spent = []
    for _ in range(count):
        started = time.process_time()
        function()
        spent.append(time.process_time() - started)
    return 1000 * sorted(spent)[count // 2]


def costs() -> list[list[Any]]:
    """Return what is spent on pictures of two sizes beside decoding them; credentials are read in a child."""
    rows = []
    for size in ((640, 480), (4032, 3024)):
        picture = shape(1, size)
        small = picture.copy()
        small.thumbnail((160, 160))
        data = encoded(picture, quality=90)
        for name, each in (("plain", data), ("with a thumbnail", with_thumbnail(data, encoded(small)))):
            pixels, array = decode(each, max_pixels=MAX_PIXELS), np.frombuffer(each, np.uint8)
            spent = milliseconds(lambda a=array, p=pixels: examine(a, p, {}))  # type: ignore[misc]
            decoding = milliseconds(lambda e=each: decode(e, max_pixels=MAX_PIXELS), 5)  # type: ignore[misc]
            rows.append([f"{size[0]} x {size[1]}", name, f"{spent:.1f}", f"{decoding:.1f}"])
    return rows


def thumbnails(folder: Path) -> list[str]:
    """Return how alike thumbnails are to their own and to other pictures of a folder."""
    rng, pictures = random.Random(1), []
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    for path in rng.sample(paths, len(paths)):
        try:
            pixels = decode(path.read_bytes(), max_pixels=MAX_PIXELS)
        except StageError:
            continue
        if min(pixels.shape[:2]) >= 120:
            pictures.append(pixels)
    pictures = pictures[:60]
    pad, cut = ImageOps.pad, ImageOps.fit
    made = []
    for pixels in pictures:
        image = Image.fromarray(pixels)
        large, small = image.copy(), image.copy()
        large.thumbnail((320, 320))
        small.thumbnail((160, 160))
        made.append([encoded(each) for each in (large, small, *(fit(image, (160, 120)) for fit in (pad, cut)))])
    own = [thumbnail_correlation(each, pixels, 1) for pixels, all_ in zip(pictures, made, strict=True) for each in all_]
    others = [
        thumbnail_correlation(all_[1], pixels, 1)
        for place, pixels in enumerate(pictures)
        for all_ in rng.sample(made[:place] + made[place + 1 :], 12)
    ]
    alike, apart = ([value for value in values if value is not None] for values in (own, others))
    low, high = sum(value < LEAST_CORRELATION for value in alike), sum(value >= LEAST_CORRELATION for value in apart)
    return [
        f"Of {len(alike)} thumbnails of {len(pictures)} pictures {low} are below {LEAST_CORRELATION} (least "
        f"{min(alike):.2f}); of {len(apart)} of other pictures {high} are not (99th percentile "
        f"{np.percentile(apart, 99):.2f}).",
        "",
    ]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder of pictures for the comparison of thumbnails")
    parser.add_argument("--out", type=Path, help="write the report here")
    arguments = parser.parse_args()
    head = ("kind", "never signed", "generated, signed", "by an unknown signer", "captured, signed")
    head += ("generated, then a bit changed", "captured, then a bit changed", "generated, then saved again")
    lines = [
        "# Provenance",
        "",
        made_by("tests.cases.provenance --pictures FOLDER --out REPORT", "c2pa-python", "pillow", "av"),
        "",
        "State of the credentials and the verdict, beside models that see nothing (both at 0.2). Certificates are the",
        "tests' own. A file that was saved again says nothing any more, and is judged as one that never said anything.",
        "",
        *table(head, [[kind, *treatments(kind)] for kind in MIME]),
        "Processor time of the stage on ordinary pictures, in milliseconds, beside decoding them:",
        "",
        *table(("size", "JPEG", "stage", "decoding"), costs()),
        *(thumbnails(arguments.pictures) if arguments.pictures else []),
    ]
    publish(lines, arguments.out)


if __name__ == "__main__":
    main()
