"""The benchmark for machines with a GPU: what it measures of a stage, and that no section takes the others with it."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from deployments.serving.engine_stage import EngineConfig, EngineStage
from ops.bench import gpu, gpu_service, gpu_stages
from ops.bench.gpu import Outcome, Section, Service
from vision.engines import Engine, TorchEngine
from vision.errors import InvalidInput, StageError
from vision.images import Pixels
from vision.media.reader import VideoReader


class Layers(torch.nn.Module):
    """float[N, 3, 8, 8] → float[N, 4]; says in which precision it was last called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(192, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen.append((images.dtype, len(images)))
        result: torch.Tensor = self.linear(images.flatten(1))
        return result


seen: list[tuple[torch.dtype, int]] = []


class Tiny(EngineStage[EngineConfig, Pixels, Any, Any]):
    key = "tests/tiny"
    config_class = EngineConfig

    def load_engine(self) -> Engine:
        return TorchEngine(Layers(), "torch-fp32", "cpu", None)

    def prepare(self, item: Pixels) -> Any:
        return item.transpose(2, 0, 1).astype(np.float32) / 255

    def predict_batch(self, items: list[Any]) -> Sequence[Any]:
        if len(items) > 4:
            return [InvalidInput("That is too many.") for _ in items]
        return list(self._engine(np.stack(items)))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Tiny:
    monkeypatch.setattr(gpu_stages, "ROUND_S", 0.02)
    seen.clear()
    threads = torch.get_num_threads()
    stage = Tiny(EngineConfig())
    stage.load()
    torch.set_num_threads(threads)
    return stage


def test_a_stage_is_measured_beside_its_own_module_in_bf16(stage: Tiny) -> None:
    speed = gpu_stages.measure(stage, np.zeros((8, 8, 3), np.uint8), 4)
    assert speed.batch == 4
    assert speed.ms > 0
    assert speed.rate > 0
    assert speed.bare_ms is not None
    assert speed.bare_ms > 0
    assert {dtype for dtype, _ in seen} == {torch.float32, torch.bfloat16}
    assert {count for _, count in seen} == {4}
    assert next(stage._engine._module.parameters()).dtype == torch.float32  # type: ignore[attr-defined]


def test_as_many_batches_run_at_a_time_as_the_stage_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_stages, "ROUND_S", 0.0)
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(20)

    assert gpu_stages.throughput(meet, 3) > 0


def test_an_item_that_fails_is_an_error_and_no_number(stage: Tiny) -> None:
    with pytest.raises(StageError, match="too many"):
        gpu_stages.measure(stage, np.zeros((8, 8, 3), np.uint8), 5)


def test_modules_are_found_wherever_a_stage_holds_them(stage: Tiny) -> None:
    (module,) = gpu_stages.modules_of(stage)
    assert isinstance(module, Layers)


def test_a_stage_without_its_model_and_a_batch_that_fails_have_rows(
    stage: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_stages, "load_stage", lambda key, engine: stage)
    rows = list(gpu_stages.rows("tests/tiny", np.zeros((8, 8, 3), np.uint8), (1, 4, 8), None))
    assert [row[2] for row in rows] == [1, 4, 8]
    assert {len(row) for row in rows[:2]} == {len(gpu_stages.HEAD)}
    assert float(rows[1][4]) > 0
    assert float(rows[1][6]) > 0
    assert rows[2][3] == "InvalidInput"

    def missing(key: str, engine: str | None) -> Any:
        raise InvalidInput("no weights here\nnor there")

    monkeypatch.setattr(gpu_stages, "load_stage", missing)
    ((key, reason, *rest),) = gpu_stages.rows("tests/tiny", None, (1,), None)
    assert (key, reason) == ("tests/tiny", "not measured: no weights here")
    assert len(rest) == len(gpu_stages.HEAD) - 2


def section(name: str, script: str, seconds: float = 20, *, served: bool = False) -> Section:
    return Section(name, name.title(), ("-c", script), seconds, served)


def outcomes(chosen: Sequence[Section], folder: Path, *, seconds: float = 60, serve: str = "") -> list[Outcome]:
    service = Service([sys.executable, "-c", serve], 1, folder / "serve.log", {})
    reported: list[Outcome] = []
    gpu.run(chosen, service, folder, seconds, reported.append)
    assert not service.runs
    return reported


def test_a_section_that_fails_or_hangs_does_not_end_the_others(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    hanging = (
        "import subprocess, sys, time; print('half of it', flush=True);"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"open({str(marker)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )
    first, second, third = outcomes(
        [
            section("first", "print('| a |'); raise SystemExit('no card')"),
            section("second", hanging, 2),
            section("third", "print('all of it')"),
        ],
        tmp_path,
    )
    assert first.failure == "it ended with 1"
    assert first.lines[0] == "| a |"
    assert "no card" in first.lines
    assert second.failure == "it took more than 2 s"
    assert "half of it" in second.lines
    assert (third.failure, third.lines[0]) == ("", "all of it")
    child = int(marker.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    text = "\n".join(gpu.report(["# Title", ""], [first, second, third]))
    assert "| first | 0 | **failed**: it ended with 1 |" in text
    assert "| third | 0 | ok |" in text
    assert "Failed: it took more than 2 s." in text


def test_all_sections_together_have_an_end(tmp_path: Path) -> None:
    began = time.monotonic()
    first, second = outcomes(
        [section("first", "import time; time.sleep(60)"), section("second", "print(1)")], tmp_path, seconds=1
    )
    assert first.failure == "it took more than 1 s"
    assert second.failure == "not run: the 1 s of all sections were over"
    assert time.monotonic() - began < 15


def test_without_the_service_its_sections_say_so(tmp_path: Path) -> None:
    chosen = [Section("serve", "Start", (), 20, served=True), section("routes", "print(1)", served=True)]
    start, routes = outcomes(chosen, tmp_path, serve="raise SystemExit('port taken')")
    assert start.failure == "it ended with 1"
    assert "port taken" in start.lines
    assert routes.failure == "not run: the service does not run"


def test_the_service_runs_beside_its_sections_and_is_stopped(tmp_path: Path) -> None:
    from ops.cluster import free_port

    port = free_port(8500)
    script = (
        "import http.server\n"
        "class Ready(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        f"http.server.HTTPServer(('127.0.0.1', {port}), Ready).serve_forever()\n"
    )
    service = Service([sys.executable, "-c", script], port, tmp_path / "serve.log", {})
    asking = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/readyz').status)"
    reported: list[Outcome] = []
    chosen = [
        Section("serve", "Start", (), 20, served=True),
        section("routes", asking, served=True),
        section("last", "print('alone')"),
    ]
    gpu.run(chosen, service, tmp_path, 60, reported.append)
    assert [outcome.failure for outcome in reported] == ["", "", ""]
    assert reported[0].lines[0].startswith("Ready after ")
    assert reported[1].lines[0] == "200"
    assert not service.runs


def test_the_command_writes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [section("install", "print('| numpy |')"), section("plan", "raise SystemExit(3)"), section("stages", "")]
    monkeypatch.setattr(gpu, "sections", lambda args: made)
    out = tmp_path / "gpu.md"
    code = gpu.main(["--sections", "plan,install", "--out", str(out)])
    text = out.read_text()
    assert code == 1
    assert (
        text.index("## Install")
        < text.index("| numpy |")
        < text.index("## Plan")
        < text.index("Failed: it ended with 3")
    )
    assert "## Stages" not in text
    if not gpu.gpu():
        assert text.startswith("# Without a GPU")
        assert "run on a processor alone" in text


def test_what_is_installed_is_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.installation() == (1 if gpu.gpu() and not torch.cuda.is_available() else 0)
    text = capsys.readouterr().out
    assert f"| numpy | {np.__version__} |" in text
    assert f"| torch can use a GPU | {torch.cuda.is_available()} |" in text
    monkeypatch.setattr(gpu, "PACKAGES", ("numpy", "a-package-that-is-not-there"))
    assert gpu.installation() == 1
    assert "| a-package-that-is-not-there | **missing** |" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "PACKAGES", ("numpy",))
    monkeypatch.setattr(gpu, "gpu", lambda: "a card, 8192 MiB, 1")
    assert gpu.installation() == (0 if torch.cuda.is_available() else 1)


def test_what_it_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no section heat"):
        gpu.main(["--sections", "plan,heat", "--out", str(tmp_path / "gpu.md")])
    with pytest.raises(SystemExit, match="has no wheels"):
        gpu.main(["--wheels", str(tmp_path), "--out", str(tmp_path / "gpu.md")])


def test_the_package_of_the_command_needs_nothing_that_it_installs() -> None:
    script = "import sys; sys.modules['numpy'] = sys.modules['torch'] = None; import ops.bench.gpu"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_film_that_is_made_has_cuts_and_b_frames(tmp_path: Path) -> None:
    path = gpu_service.write_film(tmp_path / "film.mp4", 5, (320, 180))
    with VideoReader(path) as reader:
        assert (reader.facts.width, reader.facts.height) == (320, 180)
        assert reader.facts.frame_count == 125
        before, cut = (reader.frame(number).astype(int) for number in (99, 100))
        assert np.abs(before - cut).mean() > 20
    assert gpu_service.decoded(path, "software") > 0
