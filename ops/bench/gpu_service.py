"""What ``ops.bench.gpu`` asks of the running service: every route once, features from many clients, a film indexed.

python -m ops.bench.gpu_service routes|features|film --port 8177 [--media FOLDER] [--film FILE] [--small]
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from ops.bench.load import closed_loop, jpegs, json_request, upload_request
from ops.bench.report import table
from ops.bench.soak import WEIGHTS, Client, media_of
from vision.media import nvdec
from vision.media.nvdec import Decoder
from vision.media.reader import VideoReader

CLIENTS: Final = 64
PICTURES: Final = 1500
SAMPLE_S: Final = 0.5
POLL_S: Final = 0.2
USES: Final = ("utilization.gpu", "utilization.decoder", "memory.used")
"""What nvidia-smi is asked for: per cent, per cent, MiB."""
SHOT_S: Final = 4
FPS: Final = 25
DECODE_S: Final = 8.0
"""For which each decoder is measured."""


@contextmanager
def card_use() -> Iterator[list[str]]:
    """Yield a list that has a sentence on how busy the GPU was when the block is over; none without one."""
    said: list[str] = []
    if shutil.which("nvidia-smi") is None:
        yield said
        return
    samples: list[list[float]] = []
    over = threading.Event()

    def sample() -> None:
        query = ["nvidia-smi", f"--query-gpu={','.join(USES)}", "--format=csv,noheader,nounits"]
        while not over.wait(SAMPLE_S):
            answer = subprocess.run(query, capture_output=True, text=True)
            values = [value.strip() for value in answer.stdout.partition("\n")[0].split(",")]
            if len(values) == len(USES) and all(value.isdecimal() for value in values):
                samples.append([float(value) for value in values])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()
    if samples:
        busy, decoding, memory = np.array(samples).T
        said.append(
            f"Meanwhile the GPU was busy {busy.mean():.0f} % of the time, its decoder {decoding.mean():.0f} %, "
            f"with {memory.max():.0f} MiB taken at most."
        )


async def routes(port: int, media: Path | None) -> tuple[list[str], bool]:
    """Ask for everything once; return the lines of the report, and whether nothing failed."""
    answers: Counter[tuple[str, int]] = Counter()
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=40) as http:
        document = (await http.get("/openapi.json")).json()
        for path, methods in sorted(document["paths"].items()):
            parameters = methods.get("get", {}).get("parameters", [])
            if "get" in methods and "{" not in path and not any(each.get("required") for each in parameters):
                answers[f"GET {path}", (await http.get(path)).status_code] += 1
        client = Client(http, media_of(media), 0, answers)
        for action in WEIGHTS:
            await client.act([action])
        await client.leave()
    by_action: dict[str, dict[int, int]] = {}
    for (action, status), count in answers.items():
        by_action.setdefault(action, {})[status] = count
    lines = table(
        ("what", "answers"),
        [(action, ", ".join(f"{n} x {status}" for status, n in its.items())) for action, its in by_action.items()],
    )
    failed = [action for action, its in by_action.items() if any(status in (0, 500) for status in its)]
    if failed:
        lines += [f"**Failed**: {', '.join(failed)}.", ""]
    missing = [action for action, its in by_action.items() if 503 in its]
    if missing:
        lines += [f"Not there (503): {', '.join(missing)}.", ""]
    return lines, not failed


async def features(port: int, clients: int, pictures: int) -> tuple[list[str], bool]:
    """Upload pictures and compute their features; return the lines, and whether all answers were 200."""
    images = jpegs(pictures)
    uploads = [upload_request("/api/v1/upload-media", f"{n}.jpg", data, port) for n, data in enumerate(images)]
    uploaded, bodies = await closed_loop(uploads, port=port, clients=min(16, clients))
    requests = [
        json_request("/api/v1/extract-features", {"asset_id": json.loads(body)["asset_id"]}, port) for body in bodies
    ]
    warm = min(len(requests) // 4, 2 * clients)
    await closed_loop(requests[:warm], port=port, clients=clients)
    with card_use() as use:
        extracted, _ = await closed_loop(requests[warm:], port=port, clients=clients)
    rows = [
        (what, f"{result.rate:.0f}", f"{result.percentile(0.5):.0f}", f"{result.percentile(0.99):.0f}", each)
        for what, result, each in (("upload", uploaded, min(16, clients)), ("features, uncached", extracted, clients))
    ]
    lines = table(("", "images/s", "p50 ms", "p99 ms", "clients"), rows)
    answered = all(set(result.statuses) == {200} for result in (uploaded, extracted))
    return [f"{pictures} JPEGs of 640 x 480.", "", *lines, *use, ""], answered


def film(port: int, path: Path | None, seconds: int, size: tuple[int, int]) -> tuple[list[str], bool]:
    """Index a film over HTTP and decode it here; return the lines, and whether it was indexed."""
    with tempfile.TemporaryDirectory() as folder:
        made = path or write_film(Path(folder) / "film.mp4", seconds, size)
        with VideoReader(made) as reader:
            facts = reader.facts
        size = facts.width, facts.height
        lines = [f"{facts.duration:.0f} s of {size[0]} x {size[1]}, {facts.fps:.0f} frames/s, {facts.codec}.", ""]
        with card_use() as use:
            state, took = indexed(f"http://127.0.0.1:{port}", made)
        ok = state == "succeeded"
        rows = [("indexed", f"{took:.1f}", f"{facts.duration / took:.2f}", f"{facts.frame_count / took:.0f}")]
        if not ok:
            lines += [f"**The job ended as {state}.**", ""]
            rows = []
        decoders: tuple[Decoder, ...] = ("software", "nvdec") if nvdec.is_available() else ("software",)
        for decoder in decoders:
            rate = decoded(made, decoder)
            rows.append((f"decoded alone, {decoder}", "", f"{rate / facts.fps:.1f}", f"{rate:.0f}"))
        lines += table(("", "seconds", "times real time", "frames/s"), rows)
    return [*lines, *use, ""], ok


def indexed(base: str, path: Path) -> tuple[str, float]:
    """Upload and index a film; return how the job ended, and the seconds from its submission to its end."""
    with httpx.Client(base_url=base, timeout=120) as http, path.open("rb") as file:
        answer = http.post("/api/v1/upload-media", files={"file": (path.name, file)})
        answer.raise_for_status()
        began = time.perf_counter()
        submitted = http.post(f"/api/v1/file/{answer.json()['asset_id']}/index")
        submitted.raise_for_status()
        while True:
            job: dict[str, Any] = http.get(submitted.json()["status_url"]).json()
            if job["status"] not in ("queued", "running"):
                return str(job["status"]), time.perf_counter() - began
            time.sleep(POLL_S)


def decoded(path: Path, decoder: Decoder) -> float:
    """Return the frames a second that a reader gives, shrunk as for finding faces."""
    with VideoReader(path, threads=4, decoder=decoder) as reader:
        began, count = time.perf_counter(), 0
        for _, picture in reader.pictures():
            reader.luminance(picture, (320, 180))
            count += 1
            if time.perf_counter() - began > DECODE_S:
                break
        return count / (time.perf_counter() - began)


def write_film(path: Path, seconds: int, size: tuple[int, int]) -> Path:
    """Make a film of moving fields of colour with grain, a cut every few seconds, in H.264."""
    import av

    width, height = size
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "26", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * FPS):
            if number % (SHOT_S * FPS) == 0:
                coarse = rng.integers(16, 236, (-(-height // 40) + 1, -(-width // 40) + 1), dtype=np.uint8)
                bright = coarse.repeat(40, 0).repeat(40, 1)[:height, :width]
                bright = (bright * 0.9 + rng.normal(12, 6, (height, width))).clip(16, 235).astype(np.uint8)
                colour = rng.integers(90, 166, 2, dtype=np.uint8).repeat(width * height // 4).reshape(-1, width)
            plane = np.concatenate([np.roll(bright, (number % 7, 3 * number), (0, 1)), colour])
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["routes", "features", "film"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--media", type=Path, help="folder of pictures, films and sounds; else they are made")
    parser.add_argument("--film", type=Path, help="the film to index; else one of a minute is made")
    parser.add_argument("--small", action="store_true", help="few clients and pictures, a short film")
    args = parser.parse_args()
    if args.what == "routes":
        lines, ok = asyncio.run(routes(args.port, args.media))
    elif args.what == "features":
        clients, pictures = (8, 60) if args.small else (CLIENTS, PICTURES)
        lines, ok = asyncio.run(features(args.port, clients, pictures))
    else:
        seconds, size = (8, (640, 360)) if args.small else (60, (1920, 1080))
        lines, ok = film(args.port, args.film, seconds, size)
    print(*lines, sep="\n", flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
