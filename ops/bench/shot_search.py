"""Measure suggest-shots on a library of shots described by hand: the rank of the right shot, and latency.

    VISION_MODELS_DIR=... python -m ops.bench.shot_search MEDIA --report ops/bench/reports/shot_search.md

MEDIA is the folder of the videos that ``shot_library.yaml`` names. Everything but the network is as in the service:
routes, stores, embed/sentence with its real weights, media/frames; embed/clip where its text tower is available.
"""

import argparse
import asyncio
import io
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from ops.bench.report import processor

LIBRARY: Final = Path(__file__).with_name("shot_library.yaml")
STAGES: Final = ("embed/sentence", "embed/clip", "media/frames")
ROUNDS: Final = 20
Ids = dict[tuple[str, int], str]
"""Ids of shots by video and first frame."""
TOP: Final = 3
WAYS: Final = {
    "suggest-shots": "description, tone, genre and tags",
    "description alone": "only `scene_description`: the sentence encoder, and the key frame where CLIP serves",
    "tags alone": "only tone, genre and tags; shots with the same share of them tie",
}


@dataclass(frozen=True)
class Result:
    """One scene: ranks of the right shot by each way (ties count half), its best matches, and words in common."""

    wants: str
    ranks: dict[str, float]
    best: list[dict[str, Any]]
    right: str
    shared: list[str]


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the asset and shot routes in this process, over empty stores."""
    os.environ |= {"VISION_HOME": str(home), "RATE_LIMIT_ENABLED": "false", "VISION_CACHE_URL": ""}
    from configs.settings import settings
    from deployments.serving.catalog import find_stage, local_handle
    from graphs.web.api import find_apis
    from graphs.web.gateway import build_app, open_context

    settings.cache_clear()
    needed = dict.fromkeys(key for name in ("assets", "shots") for key in find_apis()[name].stage_keys)
    handles: dict[str, Any] = {key: _Absent() for key in needed} | {
        key: await local_handle(find_stage(key)) for key in STAGES
    }
    context = open_context(settings(), handles)
    transport = httpx.ASGITransport(build_app(context, ["assets", "shots"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=120) as client:
        yield client
    await context.close()


class _Absent:
    """A stage that is not loaded: an upload asks for its info."""

    async def info(self) -> dict[str, Any]:
        return {"loaded": False}


async def store(client: httpx.AsyncClient, media: Path, shots: Sequence[Mapping[str, Any]]) -> Ids:
    """Upload the videos and store the shots; return their ids by video and first frame."""
    ids: Ids = {}
    for video in dict.fromkeys(shot["video"] for shot in shots):
        path = media / video
        answer = await client.post("/api/v1/upload-media", files={"file": (path.name, path.read_bytes())})
        answer.raise_for_status()
        asset = answer.json()
        fps = asset["fps"]
        own = [shot for shot in shots if shot["video"] == video]
        body = {"video_asset_id": asset["asset_id"], "shots": [_as_sent(shot, fps) for shot in own]}
        stored = await client.post("/api/v1/store-shot-data", json=body)
        if stored.is_error:
            raise SystemExit(f"{video}: {stored.json()['error']['message']}")
        starts = [(video, shot["frames"][0]) for shot in own]
        ids |= zip(starts, stored.json()["stored_shot_ids"], strict=True)
    return ids


def _as_sent(shot: Mapping[str, Any], fps: float) -> dict[str, Any]:
    first, last = shot["frames"]
    return {
        "start_frame": first,
        "end_frame": last,
        "start_timestamp": first / fps,
        "end_timestamp": (last + 1) / fps,
        "camera_movement": shot.get("movement"),
        "shot_size": shot.get("size"),
        "shot_angle": shot.get("angle"),
        "scene_description": shot["says"],
        "emotional_tone": shot.get("tone"),
        "genre": shot.get("genre"),
        "manual_tags": shot["tags"],
        "usage_situations": shot.get("uses"),
    }


def request_of(scene: Mapping[str, Any], way: str) -> dict[str, Any]:
    """Return the request of a scene."""
    wishes = {
        "emotional_tone": scene.get("tone"),
        "genre_context": scene.get("genre"),
        "desired_tags": scene.get("tags"),
    }
    return {"scene_description": scene["wants"], "limit": 100, **(wishes if way == "suggest-shots" else {})}


async def find(client: httpx.AsyncClient, scene: Mapping[str, Any], ids: Ids) -> Result:
    """Search for a scene, and rank its right shot."""
    from graphs.shots.texts import shared_words

    video, first = scene["right"]
    right = ids[video, first]
    answers = {way: await _suggested(client, request_of(scene, way)) for way in WAYS if way != "tags alone"}
    ranks = {
        way: next(rank for rank, shot in enumerate(shots, 1) if shot["shot_id"] == right)
        for way, shots in answers.items()
    }
    shot = next(shot for shot in answers["suggest-shots"] if shot["shot_id"] == right)
    shares = {each["shot_id"]: _earned(each) for each in answers["suggest-shots"]}
    better = sum(share > shares[right] for share in shares.values())
    equal = sum(share == shares[right] for share in shares.values())
    said = f"{shot['scene_description']} {' '.join(shot['usage_situations'])}"
    return Result(
        scene["wants"],
        {**ranks, "tags alone": better + (equal + 1) / 2},
        answers["suggest-shots"][:TOP],
        right,
        shared_words(scene["wants"], said),
    )


def _earned(shot: Mapping[str, Any]) -> float:
    parts = (reason for reason in shot["reasons"] if reason["part"] not in ("text", "keyframe"))
    return round(sum(float(reason["score"] * reason["weight"]) for reason in parts), 6)


async def _suggested(client: httpx.AsyncClient, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post("/api/v1/suggest-shots", json=body)
    answer.raise_for_status()
    shots: list[dict[str, Any]] = answer.json()["recommendations"]
    return shots


async def firsts(client: httpx.AsyncClient, scenes: Sequence[Mapping[str, Any]], ids: Ids) -> list[int]:
    """Return the ranks of the right shots by descriptions alone."""
    ranks = []
    for scene in scenes:
        video, first = scene["right"]
        shots = await _suggested(client, request_of(scene, "description alone"))
        ranks.append(next(rank for rank, shot in enumerate(shots, 1) if shot["shot_id"] == ids[video, first]))
    return ranks


async def latency(client: httpx.AsyncClient, scenes: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return milliseconds of each request with ten matches, one after the other, and of the encoder alone."""
    from deployments.embed.sentence import Config, SentenceEmbedder

    whole = []
    for _ in range(ROUNDS):
        for scene in scenes:
            started = time.perf_counter()
            await _suggested(client, {**request_of(scene, "suggest-shots"), "limit": 10})
            whole.append((time.perf_counter() - started) * 1000)
    stage = SentenceEmbedder(Config())
    stage.load()
    alone = []
    for scene in list(scenes) * ROUNDS:
        started = time.perf_counter()
        stage.predict_batch([stage.prepare(scene["wants"])])
        alone.append((time.perf_counter() - started) * 1000)
    return whole, alone


async def sheet(client: httpx.AsyncClient, results: Sequence[Result], path: Path) -> None:
    """Draw a row for each scene: its text, and the first three shots; the right one has a green frame."""
    from PIL import Image, ImageDraw, ImageFont

    left, width, height, gap = 300, 200, 132, 10
    canvas = Image.new("RGB", (left + TOP * (width + gap), len(results) * (height + gap) + gap), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for row, each in enumerate(results):
        top = gap + row * (height + gap)
        draw.multiline_text((gap, top + 8), _wrapped(each.wants, 38), fill="black", font=font, spacing=4)
        for place, shot in enumerate(each.best):
            answer = await client.get(shot["thumbnail_url"])
            answer.raise_for_status()
            image = Image.open(io.BytesIO(answer.content))
            image.thumbnail((width, height - 18))
            x = left + place * (width + gap)
            canvas.paste(image, (x, top))
            if shot["shot_id"] == each.right:
                draw.rectangle((x - 2, top - 2, x + image.width + 1, top + image.height + 1), outline="#0a0", width=3)
            draw.text((x, top + height - 16), f"{shot['relevance_score']:.2f}  {shot['emotional_tone']}", "black", font)
    canvas.quantize(128).save(path, optimize=True)


def _wrapped(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [lines[-1], word]
    return "\n".join(lines)


def report(
    results: Sequence[Result], others: Sequence[int], shots: int, times: tuple[list[float], list[float]], models: str
) -> str:
    """Return the report in Markdown."""
    whole, alone = times
    ranks = [*(each.ranks["description alone"] for each in results), *others]
    lines = [
        "# suggest-shots",
        "",
        f"`python -m ops.bench.shot_search MEDIA`, {date.today().isoformat()}; {processor()}. {models}",
        "",
        f"{shots} shots of six real videos, described by hand from what is visible in them "
        f"([shot_library.yaml](../shot_library.yaml)), and {len(results)} scenes in a director's words. The benchmark "
        "compares the words of a scene with the description of its right shot; the last column has those in both.",
        "",
        "Rank of the right shot, by the parts of the request that are used:",
        "",
        f"| scene | {' | '.join(WAYS)} | words in common |",
        f"|---|{'---|' * (len(WAYS) + 1)}",
    ]
    lines += [
        f"| {each.wants} | {' | '.join(f'{each.ranks[way]:g}' for way in WAYS)} | {', '.join(each.shared) or 'none'} |"
        for each in results
    ]
    firsts = " | ".join(f"**{sum(each.ranks[way] == 1 for each in results)} of {len(results)}**" for way in WAYS)
    lines += [
        f"| right shot first | {firsts} | |",
        "",
        *(f"- {way}: {text}" for way, text in WAYS.items()),
        "",
        f"One scene for each of the {shots} shots, these {len(results)} among them, by its description alone: the "
        f"right shot is first for **{sum(rank == 1 for rank in ranks)}**, among the first three for "
        f"**{sum(rank <= TOP for rank in ranks)}** of {len(ranks)}, mean reciprocal rank "
        f"{statistics.mean(1 / rank for rank in ranks):.2f}. The weights of the parts of a shot's description "
        "(`graphs/shots/texts.py`) were chosen on these scenes.",
        "",
        "The first three for each scene, the right one framed:",
        "",
        "![scenes and the shots found](shot_search.png)",
        "",
        f"One request at a time, all of it in one process, load average {os.getloadavg()[0]:.0f}: "
        f"p50 {statistics.median(whole):.1f} ms, "
        f"p95 {statistics.quantiles(whole, n=20)[-1]:.1f} ms; the sentence encoder alone takes "
        f"{statistics.median(alone):.1f} ms (p50) of the same texts.",
        "",
    ]
    return "\n".join(lines)


async def main(media: Path, out: Path | None) -> None:
    """Store the library, search for all scenes, and write the report."""
    library = yaml.safe_load(LIBRARY.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as home:
        async with served(Path(home)) as client:
            ids = await store(client, media, library["shots"])
            results = [await find(client, scene, ids) for scene in library["scenes"]]
            first = await client.post("/api/v1/suggest-shots", json=request_of(library["scenes"][0], "suggest-shots"))
            answer = first.json()
            models = "; ".join([*answer["matched_by"], *(f"not by {reason}" for reason in answer["not_matched_by"])])
            others = await firsts(client, library["more_scenes"], ids)
            times = await latency(client, library["scenes"])
            text = report(results, others, len(ids), times, f"Matched by {models}")
            print(text)
            if out is not None:
                await asyncio.to_thread(out.write_text, text, encoding="utf-8")
                await sheet(client, results, out.with_suffix(".png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path, help="folder with shots/ and camera/")
    parser.add_argument("--report", type=Path, help="where to write the report; its picture lies beside it")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.media, arguments.report))
