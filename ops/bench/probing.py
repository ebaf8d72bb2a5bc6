"""Time what an upload of a large film waits for: the probe of its facts, with the file in the page cache.

``python -m ops.bench.probing [--megabytes 2048] [--out FILE]`` writes films of H.264 and AAC of that size into a
temporary folder and probes each, poster included.
"""

import argparse
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from ops.bench.report import made_by, table
from vision.media.probe import Limits, probe

CONTAINERS: Final = ("mp4", "mov", "mkv")
FPS: Final = 25
FRAMES: Final = 250
RATE: Final = 48_000
ROUNDS: Final = 7
BOUNDLESS: Final = Limits(10**12, 10**12, 10**12, 10**8)


def film(path: Path, size: int) -> int:
    """Write ten seconds of noise again and again, up to this many bytes; return the number of frames."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "18", "bf": "2"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound: Any = output.add_stream("aac", rate=RATE, layout="stereo")
        pictures: list[Any] = []
        for number in range(FRAMES):
            noise = rng.integers(90, 166, (240, 320, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            pictures += video.encode(frame)
        pictures += video.encode(None)
        packets = [(bytes(p), int(p.pts), int(p.dts), bool(p.is_keyframe)) for p in pictures]
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts = RATE, 0
        block = bytes([*sound.encode(silence), *sound.encode(None)][0])
        written = turn = heard = 0
        while written < size:
            for data, pts, dts, key in packets:
                _mux(output, video, data, (pts + turn * FRAMES, dts + turn * FRAMES, 1), Fraction(1, FPS), key=key)
                while heard * FPS < (dts + turn * FRAMES) * RATE:
                    _mux(output, sound, block, (heard, heard, 1024), Fraction(1, RATE), key=True)
                    heard += 1024
                written += len(data)
            turn += 1
    return turn * FRAMES


def _mux(
    output: Any, stream: Any, data: bytes, stamps: tuple[int, int, int], time_base: Fraction, *, key: bool
) -> None:
    packet: Any = av.Packet(data)
    packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, key
    packet.pts, packet.dts, packet.duration = stamps
    output.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for container in CONTAINERS:
            path = Path(folder) / f"film.{container}"
            frames = film(path, arguments.megabytes * 2**20)
            walls, cpus = [], []
            for _ in range(ROUNDS):
                wall, cpu = time.perf_counter(), time.process_time()
                facts = probe(path, BOUNDLESS, poster=Path(folder) / "poster.jpg")
                walls.append(1000 * (time.perf_counter() - wall))
                cpus.append(1000 * (time.process_time() - cpu))
                if facts.frame_count != frames:
                    raise SystemExit(f"{container}: {facts.frame_count} frames instead of {frames}")
            size = f"{path.stat().st_size / 2**30:.2f}"
            rows.append((container, size, frames, f"{statistics.median(walls):.0f}", f"{statistics.median(cpus):.0f}"))
            path.unlink()
    lines = [
        "# Probing large films",
        "",
        made_by(f"ops.bench.probing --megabytes {arguments.megabytes}", "av"),
        "",
        f"Facts and poster of a film of H.264 and AAC that is in the page cache; medians of {ROUNDS} rounds. An MP4 or "
        "MOV is indexed by the tables of its header. Matroska has no such tables, and neither have AVI and "
        "MP4 in fragments: every packet is read there, so the time grows with the size of the file.",
        "",
        *table(("container", "GiB", "frames", "ms", "CPU ms"), rows),
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
