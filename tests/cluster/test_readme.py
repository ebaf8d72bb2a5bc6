"""The README's commands, run as they stand against the real service."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.cluster.conftest import RunningService, photo
from tests.graphs.samples import picture, video

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def run(script: str, folder: Path, service: RunningService) -> str:
    script = script.replace("http://127.0.0.1:8000", service.url)
    done = subprocess.run(["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(photo(700))
    (tmp_path / "b.jpg").write_bytes(picture(700, size=(320, 240), noise=0.02, fmt="JPEG"))
    (tmp_path / "c.jpg").write_bytes(photo(701))
    return tmp_path


def test_the_first_curl_gives_the_answer_that_is_shown(running: RunningService, photos: Path) -> None:
    answer = json.loads(run(blocks("bash")[0], photos, running))
    shown = json.loads(blocks("json")[0])
    assert set(shown) <= set(answer)
    assert {key: type(answer[key]) for key in shown} == {key: type(value) for key, value in shown.items()}


def test_the_walk_gives_sensible_answers(running: RunningService, photos: Path) -> None:
    answers = [json.loads(line) for line in run(blocks("bash")[1], photos, running).replace("}{", "}\n{").splitlines()]
    features, pair, best, matrix, search, clusters, anomalies, details, deleted = answers
    assert len(features["features"]) == 384
    assert best["best_match"]["asset_id"] == pair["asset_id_2"]
    assert pair["similarity_percentage"] > best["ranked_results"][1]["similarity_percentage"]
    assert matrix["matrix_shape"] == [3, 3]
    assert search["search_results"][0]["asset_id"] == pair["asset_id_2"]
    assert sorted(cluster["size"] for cluster in clusters["clusters"]) == [1, 2]
    assert anomalies["test_assets"] == 1
    assert details["processing_status"] == "processed"
    assert deleted["deleted"] is True


def test_the_film_is_streamed_cut_and_indexed(running: RunningService, tmp_path: Path) -> None:
    with running.client() as client:
        models = {model["name"]: model for model in client.get("/health").json()["models"]}
    missing = [models[key]["error"] for key in ("people/video_faces", "people/identity") if not models[key]["loaded"]]
    if missing:
        pytest.skip(f"needs weights: {missing[0]}")
    film = video(700, size=(320, 240))
    (tmp_path / "film.mp4").write_bytes(film)
    said = run(blocks("bash")[3] + blocks("bash")[4], tmp_path, running)
    assert (tmp_path / "beginning.mp4").read_bytes() == film[:65536]
    assert (tmp_path / "clip.ts").read_bytes()[0] == 0x47
    with Image.open(tmp_path / "frame.jpg") as frame:
        assert (frame.format, frame.size) == ("JPEG", (320, 240))
    job, traces, identities = [json.loads(line) for line in said.replace("}{", "}\n{").splitlines()]
    assert job["status"] == "queued"
    assert (traces["traces"], identities["identities"]) == ([], [])


def test_the_shots_are_found_stored_and_suggested(running: RunningService, tmp_path: Path) -> None:
    needed = ("shots/cuts", "embed/dinov3", "people/faces", "embed/sentence")
    with running.client() as client:
        models = {model["name"]: model for model in client.get("/health").json()["models"]}
    missing = [models[key]["error"] for key in needed if not models[key]["loaded"]]
    if missing:
        pytest.skip(f"needs weights: {missing[0]}")
    (tmp_path / "film.mp4").write_bytes(video(701, size=(320, 240)))
    said = run(blocks("bash")[5], tmp_path, running)
    stored, suggested, library = [json.loads(line) for line in said.replace("}{", "}\n{").splitlines()]
    found = json.loads((tmp_path / "shots.json").read_text())
    assert found["shots_detected"] == stored["shots_stored"] >= 1
    assert {shot["shot_id"] for shot in suggested["recommendations"]} <= set(stored["stored_shot_ids"])
    assert library["pagination"]["total_shots"] == stored["shots_stored"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_the_photo_has_the_fields_that_are_shown(running: RunningService, photos: Path) -> None:
    with running.client() as client:
        models = {model["name"]: model for model in client.get("/health").json()["models"]}
    missing = [models[key]["error"] for key in ("quality/brisque", "quality/nima") if not models[key]["loaded"]]
    if missing:
        pytest.skip(f"needs weights: {missing[0]}")
    result = json.loads(run(blocks("bash")[2], photos, running))["result"]
    shown = json.loads(blocks("json")[1])["result"]
    assert set(result) == set(shown)
    for part in ("blur", "quality", "aesthetic"):
        assert set(result[part]) == set(shown[part])
    assert (result["image_id"], result["embedding"], result["error"]) == ("a", None, None)


def test_a_verdict_has_the_fields_that_are_shown(running: RunningService, photos: Path) -> None:
    verdict = json.loads(run(blocks("bash")[6], photos, running))
    shown = json.loads(blocks("json")[2])
    assert set(verdict) == set(shown)
    for signal in ("visual", "forensic"):
        assert set(verdict["signals"][signal]) == set(shown["signals"][signal])
    with Image.open(photos / "heatmap.png") as image:
        assert image.format == "PNG"
