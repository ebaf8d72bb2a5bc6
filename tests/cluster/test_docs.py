"""The commands of README.md and docs/, run as they stand against the real service.

A block marked ``bash`` is run, in one shell with those before it on its page; one marked ``sh`` is only shown. A
``json`` block after it shows the last answer of its commands: the answer has those fields, of those types.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cluster.conftest import RunningService, photo
from tests.graphs.samples import audio, picture, video

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:```json\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
MUZZLES = [f"cattle_0100_DSCF{number}.jpg" for number in (3856, 3858, 3859, 3860)]

WEAK = "efficientnet-lite0"
"""The model where neither a hub nor a folder can be had; it tells made-up pictures no better than by chance."""


@dataclass(frozen=True)
class Walk:
    """Some of the commands of a page: the blocks of these numbers, and the stages that they need."""

    page: str
    blocks: tuple[int, ...]
    needs: tuple[str, ...] = ()

    def run(self, folder: Path, service: RunningService) -> list[list[Any]]:
        """The JSON answers of each block. Skips the test where a stage has no weights."""
        _skip_without(self.needs, service)
        blocks = BLOCK.findall((ROOT / self.page).read_text())
        wanted = [blocks[number] for number in self.blocks]
        script = "\nprintf '\\036'\n".join(commands for commands, _ in wanted)
        script = script.replace("http://127.0.0.1:8000", service.url).replace("curl -f", "curl --fail-with-body -")
        done = subprocess.run(["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr + done.stdout
        answers = [list(_documents(output)) for output in done.stdout.split("\036")]
        for (_, shown), block in zip(wanted, answers, strict=True):
            if shown:
                _assert_like(block[-1], json.loads(shown))
        return answers


FIRST = Walk("README.md", (0,))
SIMILARITY = Walk("docs/assets.md", (0,))
QUALITY = Walk(
    "docs/assets.md",
    (0, 1, 2),
    ("people/faces", "people/identity", "embed/dinov3"),
)
PHOTO = Walk("docs/photos.md", (0,))
CLUSTERS = Walk("docs/photos.md", (1,))
FILM = Walk("docs/media.md", (0, 1), ("people/video_faces", "people/identity"))
SHOTS = Walk("docs/shots.md", (0, 1), ("shots/cuts", "embed/dinov3", "people/faces", "embed/sentence"))
VERDICT = Walk("docs/authenticity.md", (0, 1))
MUZZLE = Walk("docs/muzzle.md", (0, 1, 2), ("muzzle/ensemble",))
MONITORING = Walk("docs/monitoring.md", (0,))
OPERATIONS = Walk("docs/operations.md", (0,))
WALKS = (FIRST, SIMILARITY, QUALITY, PHOTO, CLUSTERS, FILM, SHOTS, VERDICT, MUZZLE, MONITORING, OPERATIONS)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(photo(700))
    (tmp_path / "b.jpg").write_bytes(picture(700, size=(320, 240), noise=0.02, fmt="JPEG"))
    (tmp_path / "c.jpg").write_bytes(photo(701))
    return tmp_path


def test_every_command_is_run() -> None:
    written = {
        (str(page.relative_to(ROOT)), number)
        for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
        for number in range(len(BLOCK.findall(page.read_text())))
    }
    assert written == {(walk.page, number) for walk in WALKS for number in walk.blocks}


def test_the_first_curl_gives_the_answer_that_is_shown(running: RunningService, photos: Path) -> None:
    ((answer,),) = FIRST.run(photos, running)
    assert (answer["format"], answer["width"], answer["height"]) == ("JPEG", 320, 240)


def test_the_walk_gives_sensible_answers(running: RunningService, photos: Path) -> None:
    (answers,) = SIMILARITY.run(photos, running)
    features, pair, best, matrix, search, clusters, anomalies, details, deleted = answers
    assert len(features["features"]) == 384
    assert best["best_match"] == best["ranked_results"][0]
    assert matrix["matrix_shape"] == [3, 3]
    assert search["search_results"][0]["asset_id"] == best["best_match"]["asset_id"]
    assert sorted(cluster["size"] for cluster in clusters["clusters"]) == [1, 2]
    if not features["model_version"].startswith(WEAK):
        assert best["best_match"]["asset_id"] == pair["asset_id_2"]
        assert pair["similarity_percentage"] > best["ranked_results"][1]["similarity_percentage"]
    assert anomalies["test_assets"] == 1
    assert details["processing_status"] == "processed"
    assert deleted["deleted"] is True


def test_quality_and_characters_are_judged(running: RunningService, photos: Path) -> None:
    _, (quality, metrics, batch, composition, groups, pair), (threshold,) = QUALITY.run(photos, running)
    assert metrics["quality_score"] == quality["quality_score"] == batch["quality_results"][0]["quality_score"]
    assert (batch["processed_successfully"], composition["features"]) == (2, None)
    assert [group["character_count"] for group in groups["character_groups"]] == [2]
    assert (pair["same_character"], pair["basis"]) == (True, "image")
    assert threshold["similarity_threshold"] == pair["similarity_threshold"] == 75


def test_the_photo_has_the_fields_that_are_shown(running: RunningService, photos: Path) -> None:
    ((answer,),) = PHOTO.run(photos, running)
    result, shown = answer["result"], _shown(PHOTO)["result"]
    missing = result.get("unavailable", {})
    assert set(result) - {"unavailable"} == set(shown)
    for part in ("blur", "quality", "aesthetic"):
        partial = any(name == part or name.startswith(f"{part}.") for name in missing)
        assert partial or set(result[part]) == set(shown[part])
    assert (result["image_id"], result["embedding"], result["error"]) == ("a", None, None)


def test_embeddings_are_clustered_as_shown(running: RunningService, tmp_path: Path) -> None:
    ((answer,),) = CLUSTERS.run(tmp_path, running)
    assert answer | {"processing_time_ms": 0} == _shown(CLUSTERS) | {"processing_time_ms": 0}


def test_the_film_is_streamed_cut_and_indexed(running: RunningService, tmp_path: Path) -> None:
    film = video(700, size=(320, 240))
    (tmp_path / "film.mp4").write_bytes(film)
    _, (job, traces, identities) = FILM.run(tmp_path, running)
    assert (tmp_path / "beginning.mp4").read_bytes() == film[:65536]
    assert (tmp_path / "clip.ts").read_bytes()[0] == 0x47
    with Image.open(tmp_path / "frame.jpg") as frame:
        assert (frame.format, frame.size) == ("JPEG", (320, 240))
    assert job["status"] == "queued"
    assert (traces["traces"], identities["identities"]) == ([], [])


def test_the_shots_are_found_stored_and_suggested(running: RunningService, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(video(701, size=(320, 240)))
    _, (stored, suggested, library, with_people) = SHOTS.run(tmp_path, running)
    found = json.loads((tmp_path / "shots.json").read_text())
    assert found["shots_detected"] == stored["shots_stored"] >= 1
    assert {shot["shot_id"] for shot in suggested["recommendations"]} <= set(stored["stored_shot_ids"])
    assert library["pagination"]["total_shots"] == stored["shots_stored"]
    assert with_people["pagination"]["total_shots"] == 0  # of a film that was not looked through
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_a_verdict_has_the_fields_that_are_shown(running: RunningService, photos: Path) -> None:
    (photos / "voice.wav").write_bytes(audio())
    (verdict,), (batch, sound, kept) = VERDICT.run(photos, running)
    shown = _shown(VERDICT)
    assert set(verdict) - {"unavailable"} == set(shown)
    for signal in ("visual", "forensic"):
        assert set(verdict["signals"][signal]) == set(shown["signals"][signal])
    with Image.open(photos / "heatmap.png") as image:
        assert image.format == "PNG"
    assert [each["error"] for each in batch["results"]] == [None, None]
    assert kept == sound
    for answer in (verdict, sound):
        assert (answer["confidence"] == "LOW") or "unavailable" not in answer


def test_an_animal_is_verified_enrolled_and_identified(running: RunningService, tmp_path: Path) -> None:
    folder = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / "animals" / "cattle_muzzle"
    if not folder.is_dir():
        pytest.skip("no folder media/animals beside VISION_MODELS_DIR")
    for name, muzzle in zip(("left", "front", "right", "probe"), MUZZLES, strict=True):
        (tmp_path / f"{name}.jpg").write_bytes((folder / muzzle).read_bytes())
    (prediction,), (pixel,), (enrolled, identified, deleted) = MUZZLE.run(tmp_path, running)
    assert prediction["decision"]["verdict"] == "MATCH"
    assert "1 x 1 pixels" in pixel["detail"]
    assert identified["decision"]["animal_id"] == enrolled["animal"]["animal_id"] == deleted["animal_id"]


def test_the_service_is_ready_and_lists_its_jobs(running: RunningService, tmp_path: Path) -> None:
    ((ready,),) = MONITORING.run(tmp_path, running)
    ((jobs,),) = OPERATIONS.run(tmp_path, running)
    assert ready == {"status": "ready"}
    assert all(job["kind"] == "index-video" for job in jobs["jobs"])


def _skip_without(stages: tuple[str, ...], service: RunningService) -> None:
    with service.client() as client:
        models = {model["name"]: model for model in client.get("/health").json()["models"]}
    missing = [models[key]["error"] for key in stages if not models[key]["loaded"]]
    if missing:
        pytest.skip(f"needs weights: {missing[0]}")


def _shown(walk: Walk) -> Any:
    """The answer that the page shows after the first of these blocks."""
    return json.loads(BLOCK.findall((ROOT / walk.page).read_text())[walk.blocks[0]][1])


def _documents(text: str) -> Iterator[Any]:
    """JSON documents one after the other, with or without space between them."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]


def _assert_like(answer: Any, shown: Any) -> None:
    """The answer has the fields that are shown, of the same types; null stands for any."""
    if isinstance(shown, dict) and answer is not None:
        assert set(shown) <= set(answer)
        for key, value in shown.items():
            _assert_like(answer[key], value)
    elif isinstance(shown, list) and answer is not None:
        for one, other in zip(answer, shown, strict=False):
            _assert_like(one, other)
    elif shown is not None and answer is not None:
        numbers = (int, float)
        assert isinstance(answer, numbers if type(shown) in numbers else type(shown)), (answer, shown)
