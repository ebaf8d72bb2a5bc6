"""A soak: half an hour of mixed requests to all APIs at 70 % of what the service can do; does anything grow?

    python -m ops.bench.soak --minutes 30 --media MEDIA --out ops/bench/reports/soak.md

Every process of the service is sampled, and what it keeps: uploads being received, the object store of Ray, the disk.
What clients upload they delete again, so that in a steady state all of it is flat. After a warm-up a line is fitted to
each series; the run fails when the slope is, with 95 % confidence, over its bound.
"""

import argparse
import asyncio
import base64
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import httpx
import numpy as np
import psutil
from PIL import Image
from scipy import stats

from ops.bench.load import jpegs
from ops.bench.report import made_by, publish, table
from ops.cluster import free_port

MEASURE_S: Final = 45.0
SHARE: Final = 0.7
CLIENTS: Final = 12
SAMPLE_S: Final = 5.0
BLOCKS: Final = 15
"""Neighbouring samples resemble each other, so the line is fitted to the means of this many blocks."""
READY_WITHIN_S: Final = 600
MB: Final = 2**20
COUNT_BOUND: Final = 30
"""Of threads and descriptors: a pool adds a few at its first peak, a leak one in some hundred of 12,000 requests."""
KEPT: Final = 20
"""Uploads that each client keeps before it deletes the oldest."""
WEIGHTS: Final = {
    "upload, features, similarity": 4,
    "quality": 3,
    "photo analysis": 2,
    "clusters of vectors": 1,
    "film: clip, frame, range": 2,
    "film: shots": 1,
    "muzzle": 1,
    "authenticity of a picture": 1,
    "authenticity of a voice": 1,
}


@dataclass(frozen=True, slots=True)
class Media:
    """Files to send: pictures, films of seconds, and voices."""

    pictures: list[bytes]
    films: list[bytes]
    sounds: list[bytes]


@dataclass(slots=True)
class Series:
    """Samples of one number of one process or store, over seconds since the start; ``bound`` is per hour."""

    name: str
    unit: str
    bound: float
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def slope(self, after: float) -> tuple[float, float, float]:
        """Return the mean after so many seconds, the slope per hour, and half its 95 % confidence interval."""
        times, values = np.asarray(self.times), np.asarray(self.values)
        steady = times >= after
        times, values = times[steady] / 3600, values[steady]
        blocks = min(BLOCKS, len(times))
        x = [block.mean() for block in np.array_split(times, blocks)]
        y = [block.mean() for block in np.array_split(values, blocks)]
        line = stats.linregress(x, y)
        half = float(stats.t.ppf(0.975, blocks - 2) * line.stderr)
        return float(values.mean()), float(line.slope), half

    def grows(self, after: float) -> bool:
        """Whether the slope is over its bound with 95 % confidence."""
        _, slope, half = self.slope(after)
        return slope - half > self.bound


class Sampler:
    """Samples the processes below one, and its folder, until the task is cancelled."""

    def __init__(self, pid: int, home: Path, metrics_url: str, bound_mb: float) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self.begun = time.monotonic()
        self._root = psutil.Process(pid)
        self._home = home
        self._metrics_url = metrics_url
        self._bound_mb = bound_mb

    async def run(self) -> None:
        """Sample every ``SAMPLE_S`` seconds."""
        while True:
            await asyncio.to_thread(self.sample)
            await asyncio.sleep(SAMPLE_S)

    def sample(self) -> None:
        """Add one sample to every series."""
        now = time.monotonic() - self.begun
        for process in [self._root, *self._root.children(recursive=True)]:
            with suppress(psutil.Error):
                name = _name(process)
                memory = process.memory_full_info()
                with process.oneshot():
                    self._add(name, "RSS", "MB", self._bound_mb, now, memory.rss / MB)
                    # Not judged: it also grows when another process no longer shares a page.
                    self._add(name, "USS", "MB", math.inf, now, memory.uss / MB)
                    self._add(name, "file descriptors", "", COUNT_BOUND, now, process.num_fds())
                    self._add(name, "threads", "", COUNT_BOUND, now, process.num_threads())
        spool = _size(self._home / "spool")
        self._add("uploads being received", "size", "MB", self._bound_mb, now, spool / MB)
        self._add("stores on disk", "size", "MB", 10 * self._bound_mb, now, (_size(self._home) - spool) / MB)
        stored = self._object_store()
        if stored is not None:
            self._add("Ray's object store", "size", "MB", self._bound_mb, now, stored / MB)

    def _add(self, name: str, what: str, unit: str, bound: float, now: float, value: float) -> None:
        series = self.series.setdefault((name, what), Series(name, unit, bound))
        series.times.append(now)
        series.values.append(value)

    def _object_store(self) -> float | None:
        """Return the bytes of the objects in Ray's object store, where its metrics say so."""
        if not self._metrics_url:
            return None
        try:
            text = httpx.get(self._metrics_url, timeout=5).text
        except httpx.HTTPError:
            return None
        lines = re.findall(r"(?m)^ray_object_store_memory\{[^}]*\} (\S+)$", text)
        return sum(map(float, lines)) if lines else None

    def steady(self, after: float) -> dict[tuple[str, str], Series]:
        """Return the series of what lived from the warm-up to the last sample."""
        end = max(series.times[-1] for series in self.series.values())
        return {
            key: series
            for key, series in self.series.items()
            if series.times[0] <= after + SAMPLE_S and series.times[-1] >= end - 4 * SAMPLE_S and len(series.times) >= 8
        }


def _name(process: psutil.Process) -> str:
    """Return a short name of a process, with its id."""
    words = process.cmdline() or [process.name()]
    if words[0].startswith(("ray::", "ray-")):
        name = words[0].removeprefix("ray::").split(".")[0]  # what follows is the method that runs at the moment
    else:
        name = Path(words[0]).name
        scripts = [Path(word).stem for word in words[1:] if word.endswith(".py")]
        if name.startswith("python"):
            name = "serve" if "serve" in words else scripts[0] if scripts else name
    return f"{name.split()[0]} ({process.pid})"


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


class Client:
    """One client of all APIs: asks for one thing after the other, and deletes what it no longer needs."""

    def __init__(self, http: httpx.AsyncClient, media: Media, seed: int, answers: Counter[tuple[str, int]]) -> None:
        self._http = http
        self._media = media
        self._rng = random.Random(seed)
        self._answers = answers
        self._kept: list[str] = []
        self._actions: dict[str, Callable[[], Awaitable[None]]] = {
            "upload, features, similarity": self._features,
            "quality": self._quality,
            "photo analysis": self._photo,
            "clusters of vectors": self._clusters,
            "film: clip, frame, range": self._film,
            "film: shots": self._shots,
            "muzzle": self._muzzle,
            "authenticity of a picture": self._image,
            "authenticity of a voice": self._voice,
        }
        self._doing = ""

    async def act(self, only: Sequence[str]) -> None:
        """Do one of these things, by their weights."""
        self._doing = self._rng.choices(only, [WEIGHTS[name] for name in only])[0]
        await self._actions[self._doing]()
        while len(self._kept) > KEPT:
            await self._ask("DELETE", f"/api/v1/media/{self._kept.pop(0)}")

    async def leave(self) -> None:
        """Delete all that is left."""
        for asset_id in self._kept:
            await self._ask("DELETE", f"/api/v1/media/{asset_id}")

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        """Return the answer if it has status 200, 201, 202 or 206."""
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.HTTPError:
            self._answers[self._doing, 0] += 1
            return None
        self._answers[self._doing, answer.status_code] += 1
        return answer if answer.is_success else None

    async def _json(self, path: str, **body: Any) -> httpx.Response | None:
        return await self._ask("POST", path, json=body)

    def _fresh(self, data: bytes) -> bytes:
        # Bytes behind the end of a file make another file of it, at no cost to this client.
        return data + self._rng.randbytes(16)

    async def _upload(self, data: bytes, name: str) -> str | None:
        answer = await self._ask("POST", "/api/v1/upload-media", files={"file": (name, data)})
        if answer is None:
            return None
        self._kept.append(str(answer.json()["asset_id"]))
        return self._kept[-1]

    async def _features(self) -> None:
        asset_id = await self._upload(self._fresh(self._rng.choice(self._media.pictures)), "a.jpg")
        if asset_id:
            await self._json("/api/v1/extract-features", asset_id=asset_id)
            await self._json("/api/v1/calculate-similarity", asset_id_1=asset_id, asset_id_2=self._kept[0])
            await self._ask("GET", f"/api/v1/media/{asset_id}")

    async def _quality(self) -> None:
        asset_id = await self._upload(self._fresh(self._rng.choice(self._media.pictures)), "a.jpg")
        if asset_id:
            await self._json("/api/v1/analyze-quality", asset_id=asset_id)
            await self._ask("GET", f"/api/v1/media/{asset_id}/content")

    async def _photo(self) -> None:
        data = base64.b64encode(self._rng.choice(self._media.pictures)).decode()
        await self._json("/v1/analyze", image={"image_id": "a", "data": data}, accept_fallback=True)

    async def _clusters(self) -> None:
        vectors = np.random.default_rng(self._rng.randrange(2**31)).normal(size=(60, 32)).round(3).tolist()
        await self._json("/v1/cluster", embeddings=vectors, image_ids=[str(number) for number in range(60)])

    async def _film(self) -> None:
        file_uuid = await self._upload(self._rng.choice(self._media.films), "film.mp4")
        if file_uuid:
            film_url = f"/api/v1/file/{file_uuid}"
            await self._ask("GET", f"{film_url}/clip?start_frame=2&end_frame=20")
            await self._ask("GET", f"{film_url}/thumbnail?frame=5")
            await self._ask("GET", f"{film_url}/video", headers={"range": "bytes=0-65535"})
            self._kept.remove(file_uuid)  # others have the same one

    async def _shots(self) -> None:
        asset_id = await self._upload(self._rng.choice(self._media.films), "film.mp4")
        if asset_id:
            await self._json("/api/v1/analyze-video-shots", video_asset_id=asset_id)
            self._kept.remove(asset_id)

    async def _muzzle(self) -> None:
        await self._ask(
            "POST", "/domain-check/file", files={"photo": ("a.jpg", self._rng.choice(self._media.pictures))}
        )

    async def _image(self) -> None:
        picture = self._rng.choice(self._media.pictures)
        await self._ask("POST", "/api/v1/analyze/image/", files={"file": ("a.jpg", picture)})

    async def _voice(self) -> None:
        sound = self._rng.choice(self._media.sounds)
        await self._ask("POST", "/api/v1/analyze/audio/", files={"file": ("a.wav", sound)})


async def load(clients: Sequence[Client], only: Sequence[str], seconds: float, rate: float | None = None) -> float:
    """Let clients act for so long, at ``rate`` actions a second or as fast as they can; return actions a second."""
    loop = asyncio.get_running_loop()
    begun, done, due = loop.time(), 0, 0.0

    async def run(client: Client) -> None:
        nonlocal done, due
        while loop.time() < begun + seconds:
            if rate is not None:
                # One schedule for all: an action that is late does not make the next ones later.
                due = max(due + 1 / rate, loop.time() - begun - 1.0)
                if due > seconds:
                    return
                await asyncio.sleep(begun + due - loop.time())
            await client.act(only)
            done += 1

    await asyncio.gather(*map(run, clients))
    return done / (loop.time() - begun)


def media_of(folder: Path | None) -> Media:
    """Return small files of a folder of pictures, films and sounds, or made ones where it has none of a kind."""

    def files(*endings: str, most: int, largest: int) -> list[bytes]:
        paths = sorted(folder.rglob("*")) if folder else []
        fitting = [path for path in paths if path.suffix.lower() in endings and path.stat().st_size <= largest]
        return [path.read_bytes() for path in random.Random(0).sample(fitting, min(most, len(fitting)))]

    return Media(
        files(".jpg", ".jpeg", most=60, largest=2 * MB) or jpegs(30),
        files(".mp4", most=6, largest=2 * MB) or [_film()],
        files(".wav", ".flac", most=20, largest=MB) or [_sound()],
    )


def _film(seconds: int = 4, fps: int = 25) -> bytes:
    """Make an MP4 whose picture changes every second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number, picture in enumerate(jpegs(seconds)):
            with Image.open(io.BytesIO(picture)) as image:
                frame = av.VideoFrame.from_image(image)
            for index in range(fps):
                frame.pts, frame.time_base = number * fps + index, Fraction(1, fps)
                output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def _sound(seconds: int = 4, rate: int = 16_000) -> bytes:
    """Make a WAV of a chirp."""
    time_s = np.arange(seconds * rate) / rate
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((8000 * np.sin(2 * np.pi * (200 + 150 * time_s) * time_s)).astype("<i2").tobytes())
    return file.getvalue()


@contextmanager
def service(home: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the service on these stores; gives its process and its port."""
    port = free_port(8100)
    argv = [sys.executable, "-m", "ops.cli.main", "serve", "--port", str(port)]
    environment = os.environ | {"VISION_HOME": str(home), "RATE_LIMIT_ENABLED": "false"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*argv, "--dashboard-port", str(free_port(8266))],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while "Ctrl-C" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text())
            time.sleep(0.5)
        yield process, port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


@dataclass(slots=True)
class Run:
    """What a soak gave."""

    capacity: float
    rate: float
    warm_up_s: float
    sampler: Sampler
    answers: Counter[tuple[str, int]]


async def soak(args: argparse.Namespace, pid: int, port: int, home: Path, metrics_url: str) -> Run:
    """Measure the capacity, then load the service with a share of it and sample it."""
    answers: Counter[tuple[str, int]] = Counter()
    only = args.only or list(WEIGHTS)
    media = media_of(args.media)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=120, limits=httpx.Limits(max_connections=None)
    ) as http:
        clients = [Client(http, media, seed, answers) for seed in range(CLIENTS)]
        await load(clients, only, MEASURE_S)  # stages on demand start
        capacity = await load(clients, only, MEASURE_S)
        answers.clear()
        sampler = Sampler(pid, home, metrics_url, args.bound_mb)
        sampling = asyncio.create_task(sampler.run())
        seconds = args.minutes * 60
        rate = await load(clients, only, seconds, SHARE * capacity)
        sampling.cancel()
        await asyncio.wait({sampling})
        for client in clients:
            await client.leave()
    return Run(capacity, rate, seconds * args.warm_up, sampler, answers)


def report(run: Run, title: str, plot: Path | None) -> tuple[list[str], list[str]]:
    """Return the lines of the report, and what was over its bound."""
    steady = run.sampler.steady(run.warm_up_s)
    rows, over = [], []
    for (name, what), series in sorted(steady.items()):
        mean, slope, half = series.slope(run.warm_up_s)
        grows = series.grows(run.warm_up_s)
        if grows:
            over.append(f"{name}: {what} grows by {slope:.1f} {series.unit} an hour (± {half:.1f})")
        rows.append(
            [
                name,
                what,
                f"{mean:.1f} {series.unit}",
                f"{slope:+.1f} ± {half:.1f}",
                "" if math.isinf(series.bound) else f"{series.bound:g}",
            ]
        )
        rows[-1].append("**over**" if grows else "")
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    for (action, status), count in run.answers.items():
        statuses[action][status] += count
    bad = {
        action: {status: count for status, count in counts.items() if not 200 <= status < 300}
        for action, counts in statuses.items()
    }
    over += [f"{action}: {counts}" for action, counts in bad.items() if set(counts) - {429, 503}]
    gone = sorted({name for name, _ in run.sampler.series} - {name for name, _ in steady})
    lines = [
        "# Soak",
        "",
        f"{title}.",
        "",
        f"Capacity {run.capacity:.1f} actions a second with {CLIENTS} clients in a closed loop; the soak ran at "
        f"{run.rate:.1f}. An action is a few requests. Slopes are least squares over {BLOCKS} blocks after a warm-up "
        f"of {run.warm_up_s / 60:.1f} minutes, with 95 % confidence; one is over its bound when all of its "
        "interval is.",
        "",
        *([f"![Memory and more over time]({plot.name})", ""] if plot else []),
        *table(["process or store", "what", "mean", "slope an hour", "bound", ""], rows),
        *table(
            ["action", "answers"],
            [
                [action, ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))]
                for action, counts in sorted(statuses.items())
            ],
        ),
    ]
    if gone:
        lines += [f"Processes that did not live all the time: {', '.join(gone)}.", ""]
    lines += [f"Over a bound: {'; '.join(over)}." if over else "Nothing is over its bound."]
    return lines, over


def draw(run: Run, path: Path) -> None:
    """Draw all series, each from 0."""
    from matplotlib.figure import Figure

    kinds = ("USS", "RSS", "file descriptors", "threads", "size")
    figure = Figure(figsize=(11, 15), layout="constrained")
    for axes, kind in zip(figure.subplots(len(kinds), 1, sharex=True), kinds, strict=True):
        shown = {name: series for (name, what), series in run.sampler.series.items() if what == kind}
        largest = sorted(shown.items(), key=lambda item: -max(item[1].values))[:10]
        for name, series in largest:
            axes.plot(np.asarray(series.times) / 60, series.values, label=name, linewidth=1)
        axes.axvline(run.warm_up_s / 60, color="grey", linestyle=":")
        axes.set_title(kind if kind != "size" else "stores", loc="left")
        axes.set_ylabel(largest[0][1].unit if largest else "")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("minutes")
    figure.savefig(path, dpi=80)


def main() -> int:
    """Run the command line; the status is 1 when something grows or a request fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=0.25, help="share of the time that is not looked at")
    parser.add_argument("--media", type=Path, help="folder of pictures, films and sounds; by default made ones")
    parser.add_argument("--only", nargs="*", choices=list(WEIGHTS), help="only these actions, to find what leaks")
    parser.add_argument("--bound-mb", type=float, default=24, help="MB that a process may grow in an hour")
    parser.add_argument("--out", type=Path, help="Markdown file; the plot is beside it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, log = Path(folder) / "home", Path(folder) / "serve.log"
        with service(home, log) as (process, port):
            lines = [line.split()[-1] for line in log.read_text().splitlines() if line.startswith("metrics")]
            run = asyncio.run(soak(args, process.pid, port, home, lines[0] if lines else ""))
    plot = args.out.with_suffix(".png") if args.out else None
    if plot:
        draw(run, plot)
    given = json.dumps(sys.argv[1:])[1:-1].replace(",", "").replace('"', "") if len(sys.argv) > 1 else ""
    text, over = report(run, made_by(f"ops.bench.soak {given}", "ray", "uvicorn"), plot)
    publish(text, args.out)
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
