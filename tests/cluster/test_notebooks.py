"""The notebooks of ``examples`` run against the real service, and show what is committed with them."""

import asyncio
import base64
import io
import os
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.cluster.conftest import RunningService

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {
    "photo_product": ("embed/dinov3", "people/faces", "people/emotion", "quality/nima"),
    "film_archive": ("people/video_faces", "people/identity", "shots/cuts"),
    "newsroom": ("embed/dinov3", "forensics/visual", "forensics/voice"),
}
"""What each of them needs besides what every service has."""
WEAK = "efficientnet-lite0"
MAX_BYTES = 300_000
MEDIA_FOLDER = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media"
MEDIA = ("EXAMPLES_MEDIA", "EXAMPLES_FILM", "EXAMPLES_VOICE")


def notebook(name: str) -> Any:
    return nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)


def outputs_of(made: Any) -> list[Any]:
    return [output for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]


def texts_of(made: Any) -> str:
    return "".join(output.text for output in outputs_of(made) if output.output_type == "stream")


def pictures_of(made: Any) -> list[Image.Image]:
    found = [output.data["image/jpeg"] for output in outputs_of(made) if "image/jpeg" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


async def executed(name: str, service: RunningService, folder: Path, **media: str) -> Any:
    """The notebook after all its cells have run in a kernel of its own."""
    made = notebook(name)
    environment = {key: value for key, value in os.environ.items() if key not in MEDIA}
    environment |= {"VISIONGRAPH_URL": service.url, "PYTHONPATH": str(ROOT / "clients" / "python")}
    # Who debugs these kernels is nobody.
    environment |= {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TMPDIR": str(folder), **media}
    runner = NotebookClient(made, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    await runner.async_execute(env=environment)
    return made


def test_all_of_them_are_run() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.ipynb")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_a_reader_sees_is_whole_small_and_of_nobodys_machine(name: str) -> None:
    made, path = notebook(name), ROOT / "examples" / f"{name}.ipynb"
    assert path.stat().st_size < MAX_BYTES
    assert len(pictures_of(made)) >= 4
    assert all(output.output_type in {"stream", "display_data"} for output in outputs_of(made))
    assert all(output.get("name") != "stderr" for output in outputs_of(made))
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not re.search(r"/(home|root|tmp|work|Users)/", texts_of(made))


OWN = "photo_product of your own"


@pytest.fixture(scope="module")
async def runs(running: RunningService, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of them, run at the same time."""

    def run(name: str, **media: str) -> Coroutine[Any, Any, Any]:
        return executed(name, running, tmp_path_factory.mktemp(name), **media)

    made = {name: run(name) for name, stages in NOTEBOOKS.items() if not missing(stages, running)}
    if MEDIA_FOLDER.is_dir() and "photo_product" in made:
        made[OWN] = run("photo_product", EXAMPLES_MEDIA=str(MEDIA_FOLDER / "near_duplicates" / "mixed"))
    return dict(zip(made, await asyncio.gather(*made.values()), strict=True))


def missing(stages: tuple[str, ...], service: RunningService) -> list[str]:
    """Those of these stages that have no weights here."""
    with service.client() as client:
        models = {model["name"]: model for model in client.get("/health").json()["models"]}
    return [key for key in stages if not models[key]["loaded"]]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_they_run_and_show_as_many_pictures(name: str, runs: dict[str, Any], running: RunningService) -> None:
    if name not in runs:
        pytest.skip(f"needs weights of {missing(NOTEBOOKS[name], running)}")
    made = runs[name]
    with running.client() as client:
        models = {model["name"]: model for model in client.get("/health").json()["models"]}
    if not str(models["embed/dinov3"].get("model_version", "")).startswith(WEAK):
        assert len(pictures_of(made)) == len(pictures_of(notebook(name)))
    text = texts_of(made)
    if name == "film_archive":
        assert "FCM: DROP FRAME" in text
        assert "00:00:01;15 00:00:03;15" in text
        assert "frames 210 to 239" in text
    elif name == "newsroom":
        assert "trainedAlgorithmicMedia" in text
        assert re.search(r"^MANIPULATED|^SUSPICIOUS|s of speech", text, re.MULTILINE)
    else:
        assert "are in the album" in text


def test_they_take_media_of_your_own(runs: dict[str, Any]) -> None:
    if OWN not in runs:
        pytest.skip("no folder media beside VISION_MODELS_DIR, or no weights")
    text = texts_of(runs[OWN])
    assert "5 pictures; the last one" in text
    assert "are in the album" in text
