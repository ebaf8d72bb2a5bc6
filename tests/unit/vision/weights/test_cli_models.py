"""``models list``, ``pull`` and ``verify``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import ops.cli.models
from tests.unit.vision.weights.servers import Server, hub_source, model, plain_url, registry
from vision.weights import Store

CONTENT = b"weights" * 100
RUN = CliRunner()


@pytest.fixture
def use(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three models: one on the server, one behind a gate, one in a folder."""
    (tmp_path / "folder" / "local").mkdir(parents=True)
    (tmp_path / "folder" / "local" / "w.bin").write_bytes(CONTENT)
    server.add("w.bin", CONTENT)
    models = registry(
        tiny=model({"w.bin": CONTENT}, plain_url(server.base, "w.bin"), licence_url="https://example.org/mit"),
        gated=model({"g.bin": b"g"}, hub_source(gated=True), commercial=False),
        local=model({"w.bin": CONTENT}, {"folder": {"path": "local"}}),
    )
    use = Store(models, tmp_path / "cache", tmp_path / "folder", schemes=frozenset({"http"}))
    monkeypatch.setattr(ops.cli.models, "store", lambda: use)
    config = {
        "applications": [
            {
                "name": "embed",
                "import_path": "deployments.serving.catalog:room",
                "args": {"packs": {"models": ["embed/dinov3", "people/faces"]}},
                "deployments": [
                    {"name": "models", "user_config": {"embed/dinov3": {"models": ["tiny", "gated", "local"]}}}
                ],
            }
        ]
    }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("ops.plan.choice.default_config", lambda: tmp_path / "serve.yaml")
    monkeypatch.setenv("COLUMNS", "250")
    return use


def run(*arguments: str) -> tuple[int, list[str]]:
    result = RUN.invoke(ops.cli.models.app, arguments)
    return result.exit_code, [line.strip() for line in result.output.splitlines() if line.strip()]


@pytest.mark.usefixtures("use")
def test_list_says_what_is_here_and_where_the_rest_would_come_from() -> None:
    code, lines = run("list")
    rows = [re.split("  +", line) for line in lines]
    assert code == 0
    assert rows[0] == ["name", "task", "licence", "commercial", "size", "here", "where from", "stages"]
    assert rows[1][:7] == ["tiny", "test", "MIT", "yes", "0.0 MB", "no", "url 127.0.0.1"]
    assert rows[2][3:7] == [
        *["no", "0.0 MB", "no"],
        "hub someone/tiny@01234567 (gated: accept its licence on its hub page, then set HF_TOKEN)",
    ]
    assert rows[3][5:7] == ["yes", "folder local"]


@pytest.mark.usefixtures("use")
def test_list_says_which_model_of_its_chain_a_stage_uses() -> None:
    stages = [line.rsplit("  ", 1)[1].strip() for line in run("list")[1][1:]]
    assert stages == ["embed/dinov3: serves once it is fetched"] * 2 + ["embed/dinov3: serves"]
    run("pull", "tiny")
    row, *others = run("list")[1][1:]
    assert re.split("  +", row)[5:] == ["yes", "cache", "embed/dinov3: serves"]
    assert [line.rsplit("  ", 1)[1].strip() for line in others] == ["embed/dinov3: spare"] * 2


def test_pull_prints_the_licence_and_fetches(use: Store, server: Server) -> None:
    code, lines = run("pull", "tiny")
    assert code == 0
    assert lines[0] == "tiny: licence MIT (https://example.org/mit)"
    assert lines[1] == f"{use.resolve('tiny').version} in {use.cache / 'tiny'}, from url 127.0.0.1"
    assert len(server.asked) == 1


@pytest.mark.usefixtures("use")
def test_pull_all_goes_on_after_a_failure_and_exits_with_1() -> None:
    code, lines = run("pull", "--all")
    assert code == 1
    assert "gated: licence MIT, not for commercial use" in lines
    assert "no verified weights for gated" in lines
    assert lines[-1].endswith("from folder local")


@pytest.mark.usefixtures("use")
@pytest.mark.parametrize("arguments", [(), ("tiny", "--all"), ("unknown",)])
def test_pull_wants_names_or_all(arguments: tuple[str, ...]) -> None:
    assert run("pull", *arguments)[0] == 2


def test_verify_hashes_everything_that_is_here(use: Store) -> None:
    assert run("verify") == (0, ["1 files, 0 faults"])
    path = use.resolve("tiny").files["w.bin"]
    stat = path.stat()
    assert run("verify") == (0, ["2 files, 0 faults"])
    path.write_bytes(b"Weights" * 100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a bad disk does not change what lock.json knows
    code, lines = run("verify")
    assert code == 1
    assert lines[0].startswith("tiny, cache: w.bin has sha256")
    assert lines[-1] == "2 files, 1 faults"


def test_a_fresh_command_line_imports_neither_torch_nor_ray() -> None:
    code = "import sys, ops.cli.models; print(*({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    root = Path(__file__).parents[4]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout == "\n"
