"""Damaged files of every accepted kind through all that opens one: ``python -m tests.cases.fuzz --files 20000``.

Files are small ones of each kind with one to three seeded mutations: bits and runs of bytes, missing and repeated
parts, an end cut off or taken from another file, extreme values in headers and in sizes beside four-character codes.
A child process probes each file, reads frames, decodes it as an image and as a sound. Only a ``StageError`` may come
out; anything else that is raised, a child that dies, takes more than ``HANG_S`` of processor time or more than
``MOST_MB``, is a find, and the number of the file makes it again.
"""

import argparse
import io
import multiprocessing
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from PIL import Image, PngImagePlugin

from configs.settings import settings
from ops.bench.report import made_by, publish, table
from tests.cases import files
from tests.cases.films import Film, write
from vision.errors import StageError
from vision.images import decode
from vision.media.audio import Sound
from vision.media.container import MediaFile
from vision.media.probe import Limits, probe
from vision.media.reader import VideoReader
from vision.media.sniff import sniff

HANG_S: Final = 10.0
"""Seconds of processor time; a busy machine makes no hang."""
STARVED_S: Final = 120.0
"""Seconds after which a child that does not run at all is given up."""
MOST_MB: Final = 2048
CHILDREN: Final = 2

Mutation = Callable[[bytearray, random.Random, bytes], None]


# --- whole files ---


def whole_files() -> dict[str, bytes]:
    """One small file of each kind, or more, by a name that begins with the kind."""
    with tempfile.TemporaryDirectory() as folder:
        return {**_pictures(), **_films(Path(folder)), **_sounds()}


def _pictures() -> dict[str, bytes]:
    picture = files.photo(1, 64, 48)
    image = Image.fromarray(picture)
    alpha = Image.fromarray(np.dstack([picture, np.full(picture.shape[:2], 128, np.uint8)]))
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "node " * 100, zip=True)

    def several() -> dict[str, Any]:
        # New ones each time: an image keeps what the writer of one format has set for it, to the surprise of the next.
        return {"save_all": True, "append_images": [Image.fromarray(files.photo(seed, 64, 48)) for seed in (2, 3)]}

    profile = files.profile(files.P3, 2.2, "p3")
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "JPG": (image, "JPEG", {"exif": exif, "icc_profile": profile}),
        "JPG progressive": (image, "JPEG", {"progressive": True}),
        "JPG of CMYK": (image.convert("CMYK"), "JPEG", {}),
        "JPG of several": (image, "MPO", several()),
        "PNG": (alpha, "PNG", {"pnginfo": text, "icc_profile": profile}),
        "PNG of a palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "PNG of 16 bits": (Image.fromarray(picture[..., 0].astype(np.uint16) * 257), "PNG", {}),
        "WEBP": (alpha, "WEBP", {"icc_profile": profile}),
        "WEBP animated": (image, "WEBP", {**several(), "lossless": True}),
        "GIF": (image, "GIF", several()),
        "BMP": (image, "BMP", {}),
        "BMP of a palette": (image.quantize(16), "BMP", {}),
        "TIFF": (image, "TIFF", {**several(), "compression": "tiff_lzw"}),
        "TIFF deflated": (image, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "TIFF of JPEG": (image, "TIFF", {"compression": "jpeg"}),
        "AVIF": (alpha, "AVIF", {}),
        "HEIC": (image, "HEIF", {}),
    }
    import pillow_heif

    pillow_heif.register_heif_opener()
    return {name: files.saved(picture.copy(), kind, **options) for name, (picture, kind, options) in made.items()}


def _films(folder: Path) -> dict[str, bytes]:
    film = Film(frames=8, key_every=4, sound=(0.0, 0.0))
    made = {
        "MP4": replace(film, b_frames=2, hidden=1, cover="last", turn=90),
        "MP4 in fragments": replace(film, container="fragmented"),
        "MP4 of HEVC": replace(film, codec="hevc"),
        "MP4 of AV1": replace(film, codec="av1"),
        "MP4 interlaced": replace(film, interlaced=True, pixel=Fraction(4, 3)),
        "MOV": replace(film, container="mov", timecode=True),
        "MOV of ProRes": replace(film, codec="prores", container="mov", frames=3),
        "MOV of Motion JPEG": replace(film, codec="mjpeg", container="mov"),
        "AVI": replace(film, codec="mpeg4", container="avi", b_frames=1),
        "AVI of H.264": replace(film, container="avi"),
        "AVI of MPEG-2": replace(film, codec="mpeg2video", container="avi"),
        "WebM": replace(film, codec="vp9", container="webm"),
        "WebM of VP8": replace(film, codec="vp8", container="webm", start_s=10.0),
        "WebM of AV1": replace(film, codec="av1", container="webm"),
        "MKV": replace(film, container="mkv", b_frames=2),
        "MKV of FFV1": replace(film, codec="ffv1", container="mkv", frames=3, uneven=True),
    }
    read = {name: write(recipe, folder).read_bytes() for name, recipe in made.items()}
    files.hdr_video(folder)
    files.size_change(folder)
    hdr, sizes = (folder / "hdr_pq.mp4").read_bytes(), (folder / "size_change.webm").read_bytes()
    return read | {"MP4 of HDR": hdr, "WebM of two sizes": sizes}


def _sounds() -> dict[str, bytes]:
    tone = files.tone(0.4, 48_000)

    def sound(codec: str, container: str, block: int = 1024, **options: Any) -> bytes:
        return files.sound_bytes(tone, codec, container, 48_000, block=block, **options)

    flac = sound("flac", "flac", 4096)
    tag = b"ID3\x03\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    pages = {"muxer": {"page_duration": "100000"}}  # microseconds
    ogg = sound("libopus", "ogg", 960, **pages)
    mp3 = sound("libmp3lame", "mp3", 1152)
    return {
        "WAV": sound("pcm_s16le", "wav"),
        "WAV of floats": sound("pcm_f32le", "wav"),
        "WAV of mu-law": sound("pcm_mulaw", "wav"),
        "WAV as RF64": sound("pcm_s24le", "wav", muxer={"rf64": "always"}),
        "MP3": mp3,
        "MP3 without a table": sound("libmp3lame", "mp3", 1152, muxer={"write_xing": "0", "id3v2_version": "0"}),
        "M4A": sound("aac", "ipod"),
        "M4A of ALAC": sound("alac", "ipod", 4096),
        "FLAC": flac,
        "FLAC behind a tag": tag + flac,
        "OGG": ogg,
        "OGG of FLAC": sound("flac", "ogg", 4096, **pages),
        "OGG, two in a row": ogg * 2,
    }


# --- mutations ---


def mutated(number: int, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """Name of the whole file that this one was made of, and its bytes."""
    rng = random.Random(number)
    names = list(whole)
    name = names[number % len(names)]
    data = bytearray(whole[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_MUTATIONS)(data, rng, whole[rng.choice(names)])
    if rng.random() < 0.7:  # else the checksums keep most damage from all but the first lines of a decoder
        _mend_png(data)
        _mend_ogg(data)
    return name, bytes(data)


def _mend_png(data: bytearray) -> None:
    """Put right checksums into the chunks of a PNG."""
    at = 8
    while data.startswith(b"\x89PNG") and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def _mend_ogg(data: bytearray) -> None:
    """Put right checksums into the pages of an Ogg file."""
    at = data.find(b"OggS") if data.startswith(b"OggS") else -1
    while at >= 0 and at + 27 <= len(data):
        segments = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + len(segments) + sum(segments)
        data[at + 22 : at + 26] = bytes(4)
        data[at + 22 : at + 26] = _ogg_checksum(data[at:end]).to_bytes(4, "little")
        at = data.find(b"OggS", at + 4)


def _ogg_checksum(page: bytes) -> int:
    register = 0
    for byte in page:
        register = register << 8 & 0xFFFFFFFF ^ _OGG_TABLE[register >> 24 ^ byte]
    return register


def _ogg_row(byte: int) -> int:
    register = byte << 24
    for _ in range(8):
        register = register << 1 ^ (0x104C11DB7 if register >> 31 else 0)
    return register


_OGG_TABLE: Final = [_ogg_row(byte) for byte in range(256)]


def _flip_bits(data: bytearray, rng: random.Random, other: bytes) -> None:
    for _ in range(rng.choice((1, 4, 16, 64))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random, other: bytes) -> None:
    start, size = _part(data, rng)
    data[start : start + size] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))


def _cut_short(data: bytearray, rng: random.Random, other: bytes) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _lose(data: bytearray, rng: random.Random, other: bytes) -> None:
    start, size = _part(data, rng)
    del data[start : start + size]


def _repeat(data: bytearray, rng: random.Random, other: bytes) -> None:
    start, size = _part(data, rng)
    data[start:start] = data[start : start + size] * rng.choice((1, 1, 2, 8))


def _splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other)) :]


def _insert(data: bytearray, rng: random.Random, other: bytes) -> None:
    start, size = _part(bytearray(other), rng)
    at = rng.randrange(len(data) + 1)
    data[at:at] = other[start : start + size]


def _extreme_header(data: bytearray, rng: random.Random, other: bytes) -> None:
    _write_extreme(data, rng, rng.randrange(max(min(len(data), 512), 1)))


def _extreme_size(data: bytearray, rng: random.Random, other: bytes) -> None:
    """Before or after a four-character code stands the size of what it names, and what is in it begins behind."""
    codes = [match.start() for match in re.finditer(rb"[A-Za-z0-9]{3}[A-Za-z0-9 ]", data)]
    if codes:
        _write_extreme(data, rng, max(rng.choice(codes) + rng.choice((-4, 4, 8, 12, 16, 20, 24, 28)), 0))


def _write_extreme(data: bytearray, rng: random.Random, at: int) -> None:
    size = rng.choice((1, 2, 4, 8))
    top = 1 << 8 * size
    value = rng.choice((0, 1, 7, top // 2 - 1, top // 2, top - 1, top - 8, rng.randrange(top)))
    data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))  # type: ignore[arg-type]


def _part(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """Start and length of a part of up to 2 kB."""
    start = rng.randrange(len(data) + 1)
    return start, min(rng.choice((1, 4, 16, 100, 500, 2000)), len(data) - start)


_MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(_flip_bits, _overwrite, _cut_short, _lose, _repeat, _splice, _insert),
    *(_extreme_header, _extreme_header, _extreme_size, _extreme_size),
)


# --- what is done with a file, in the child ---


def opened_everywhere(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each use of a file, by name."""
    data = path.read_bytes()
    yield "probe", lambda: probe(path, Limits.of(settings()), poster=path.with_suffix(".jpg"))
    guess = sniff(io.BytesIO(data))
    if guess.kind == "image":
        yield "image", lambda: decode(data, max_pixels=settings().max_image_pixels)
    if guess.kind == "container":
        yield "frames", lambda: _read_frames(path)
        yield "sound", lambda: _hear(path, guess.demuxer)


def _read_frames(path: Path) -> None:
    with VideoReader(path, threads=1) as reader:
        count = reader.facts.frame_count
        for number in dict.fromkeys((0, count // 2, count - 1)):
            _forgive(reader.frame, number)
        _forgive(reader.keyframe, reader.facts.duration / 2)
        for _ in reader.frames(0, 50):
            pass


def _hear(path: Path, demuxer: str) -> None:
    with MediaFile(path, demuxer=demuxer) as media, media.errors():
        if (stream := media.audio()) is not None:
            start = float((stream.start_time or 0) * stream.time_base)
            sound = Sound(media, stream, start, start + 600, rate=16_000, mono=True)
            for seconds in range(20, 620, 20):
                if sound.ended:
                    break
                sound.take(seconds)


def _forgive(read: Callable[[Any], object], what: Any) -> None:
    """One frame may be damaged where others are whole."""
    with suppress(StageError):
        read(what)


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    ``answers``: by use, "decoded" or the class of the StageError; ``find``: a traceback of any other exception, or how
    the child ended; ``seconds``: of processor time; ``megabytes``: the most memory that its child had at once.
    """

    number: int
    name: str
    answers: dict[str, str] = field(default_factory=dict)
    find: str = ""
    seconds: float = 0.0
    megabytes: int = 0


def tried(number: int, name: str, data: bytes, folder: Path) -> Outcome:
    """Put a file through each use in this process."""
    path = folder / "file"
    path.write_bytes(data)
    answers, find, since = {}, "", time.process_time()
    for use, run in opened_everywhere(path):
        try:
            run()
            answers[use] = "decoded"
        except StageError as error:
            answers[use] = type(error).__name__
        except Exception:
            answers[use], find = "raised", f"{use}: {traceback.format_exc(limit=-4)}"
    return Outcome(number, name, answers, find, time.process_time() - since, _peak_mb())


def _peak_mb() -> int:
    """The most memory of this process since the last call, or since its start where the kernel counts only once."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(peak.split()[1]) // 1024


def _child(pipe: Connection, whole: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _peak_mb()
        while (number := pipe.recv()) is not None:
            pipe.send(tried(number, *mutated(number, whole), Path(folder)))


# --- the run ---


class _Child:
    """A process that opens one file at a time."""

    def __init__(self, whole: dict[str, bytes]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, whole), daemon=True)
        self._process.start()
        theirs.close()
        self.number = -1
        self._since = self._cpu = 0.0

    def give(self, number: int) -> None:
        self.number, self._since, self._cpu = number, time.monotonic(), self._used()
        self.pipe.send(number)

    def overdue(self) -> str:
        """What is wrong with a child that has not answered yet."""
        if self._used() - self._cpu > HANG_S or time.monotonic() - self._since > STARVED_S:
            return "hung"
        return "memory" if self._memory_mb() > MOST_MB else ""

    def end(self) -> str:
        """End the process and say how it ended by itself, if it did."""
        self._process.join(0.5)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        self._process.join()
        self.pipe.close()
        return "" if code is None else f"crashed: exit code {code}"

    def _used(self) -> float:
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _memory_mb(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss) // 2**20
        except psutil.Error:
            return 0


def run(numbers: range, children: int = CHILDREN) -> Iterator[Outcome]:
    """Yield the outcome of each of these files, as they come."""
    whole = whole_files()
    names, todo = list(whole), iter(numbers)
    busy: list[_Child] = []
    for number in [number for _, number in zip(range(children), todo, strict=False)]:
        busy.append(_Child(whole))
        busy[-1].give(number)
    while busy:
        ready = wait([child.pipe for child in busy], timeout=0.5)
        for place, child in list(enumerate(busy)):
            outcome = Outcome(child.number, names[child.number % len(names)])
            if child.pipe in ready:
                try:
                    outcome = child.pipe.recv()
                except EOFError:
                    outcome = replace(outcome, find=child.end())
            elif wrong := child.overdue():
                child.end()
                outcome = replace(outcome, find=wrong, seconds=HANG_S if wrong == "hung" else 0.0)
            else:
                continue
            if outcome.find and not outcome.answers:  # that child is gone
                busy[place] = child = _Child(whole)
            elif outcome.megabytes > MOST_MB:
                outcome = replace(outcome, find=f"memory: {outcome.megabytes} MB")
            yield outcome
            following = next(todo, None)
            if following is None:
                child.pipe.send(None)
                busy[place].end()
                busy[place].number = -2
            else:
                child.give(following)
        busy = [child for child in busy if child.number != -2]


def report(outcomes: list[Outcome], command: str, took: float) -> list[str]:
    """Lines of the report."""
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.name, []).append(outcome)
    rows = []
    for name, group in sorted(by_name.items(), key=lambda item: item[0].lower()):
        ends = Counter(_end(outcome) for outcome in group)
        slowest, largest = max(o.seconds for o in group), max(o.megabytes for o in group)
        counts = [ends[end] for end in ("decoded", "refused", "raised", "crashed", "hung", "memory")]
        rows.append([name, len(group), *counts, largest, f"{slowest:.2f}"])
    answers = Counter((use, answer) for outcome in outcomes for use, answer in outcome.answers.items())
    finds = [outcome for outcome in outcomes if outcome.find]
    return [
        "# Damaged files",
        "",
        made_by(command, "av", "pillow", "pillow-heif"),
        "",
        f"Commit {_commit()}: {len(outcomes)} files in {took:.0f} s with {CHILDREN} children; {len(finds)} finds.",
        "",
        *table(
            ("made of", "files", "decoded", "refused", "raised", "crashed", "hung", "memory", "peak MB", "slowest, s"),
            rows,
        ),
        "Decoded: at least one use gave pictures or sound. Refused: each use gave a StageError. Seconds are of the "
        "processor, memory is that of the process with all its libraries.",
        "",
        *table(("use", "answer", "files"), [[use, answer, n] for (use, answer), n in sorted(answers.items())]),
        *(f"- file {o.number} ({o.name}): {o.find.strip().splitlines()[-1]}" for o in finds[:50]),
    ]


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def _end(outcome: Outcome) -> str:
    if outcome.find:
        word = outcome.find.partition(":")[0]
        return word if word in ("crashed", "hung", "memory") else "raised"
    return "decoded" if "decoded" in outcome.answers.values() else "refused"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--out", type=Path, help="write the report here")
    arguments = parser.parse_args()
    since, outcomes = time.monotonic(), []
    for outcome in run(range(arguments.first, arguments.first + arguments.files)):
        outcomes.append(outcome)
        if outcome.find:
            print(f"file {outcome.number} ({outcome.name}): {outcome.find}", flush=True)
        if len(outcomes) % 500 == 0:
            print(f"{len(outcomes)} files, {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
    command = f"tests.cases.fuzz {' '.join(sys.argv[1:])}"
    publish(report(outcomes, command, time.monotonic() - since), arguments.out)


if __name__ == "__main__":
    main()
