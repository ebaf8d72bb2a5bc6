"""The hub source, through huggingface_hub, from a small hub on loopback."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load, save

from tests.unit.vision.weights.servers import (
    COMMIT,
    REPO,
    Server,
    hub_source,
    hub_store,
    model,
    registry,
    sha256,
)
from vision.weights import Registry, WeightsUnavailable

CHECKPOINT = save({"weight": np.arange(60_000, dtype=np.float32)})
CONFIG = b'{"model_type": "tiny"}'
FILES: dict[str, bytes | None] = {"model.safetensors": CHECKPOINT, "config.json": CONFIG}
UNKNOWN: dict[str, bytes | None] = dict.fromkeys(FILES)


@pytest.fixture
def hub(server: Server) -> Server:
    server.add_hub("model.safetensors", CHECKPOINT)
    server.add_hub("config.json", CONFIG)
    server.plain = {"config.json"}
    return server


def tiny(content: dict[str, bytes | None] = FILES, **source: object) -> Registry:
    return registry(tiny=model(content, hub_source(**source)))


def reason(error: pytest.ExceptionInfo[WeightsUnavailable]) -> str:
    (one,) = error.value.reasons
    return one.removeprefix(f"tiny, hub {REPO}@{COMMIT[:8]}: ")


def test_a_checkpoint_is_downloaded_at_its_commit(hub: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    use = hub_store(hub.base, tmp_path, tiny())
    weights = use.resolve("tiny", progress=lambda *step: seen.append(step))
    assert load(weights.files["model.safetensors"].read_bytes())["weight"][-1] == 59_999
    assert weights.path == tmp_path / "tiny"
    assert weights.source == f"hub {REPO}@{COMMIT[:8]}"
    assert weights.version == f"tiny@{sha256(CHECKPOINT)[:8]}"
    assert ("model.safetensors", len(CHECKPOINT), len(CHECKPOINT)) in seen
    assert sorted(path.name for path in weights.path.iterdir()) == [
        "config.json",
        "lock.json",
        "model.safetensors",
    ]
    asked = len(hub.asked)
    assert use.resolve("tiny") == weights
    assert len(hub.asked) == asked
    assert {one.token for one in hub.asked} == {None}


def test_names_may_differ_on_the_hub(hub: Server, tmp_path: Path) -> None:
    models = tiny({"main.bin": CHECKPOINT}, files={"main.bin": "model.safetensors"})
    assert hub_store(hub.base, tmp_path, models).resolve("tiny").files == {"main.bin": tmp_path / "tiny" / "main.bin"}


def test_a_gated_model_without_a_token_is_not_asked_for(hub: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        hub_store(hub.base, tmp_path, tiny(gated=True)).resolve("tiny")
    assert reason(caught) == "gated: accept its licence on its hub page, then set HF_TOKEN"
    assert hub.asked == []


def test_a_token_opens_a_gated_model(hub: Server, tmp_path: Path) -> None:
    hub.gated_for = "right"
    with pytest.raises(WeightsUnavailable) as caught:
        hub_store(hub.base, tmp_path, tiny(gated=True), token="wrong").resolve("tiny")
    assert reason(caught) == "gated: HF_TOKEN has no access; accept the licence on its hub page"
    assert "wrong" not in caught.value.message
    weights = hub_store(hub.base, tmp_path, tiny(gated=True), token="right").resolve("tiny")
    assert weights.files["model.safetensors"].read_bytes() == CHECKPOINT


def test_a_downloaded_gated_model_needs_no_token(hub: Server, tmp_path: Path) -> None:
    hub_store(hub.base, tmp_path, tiny(gated=True), token="any").resolve("tiny")
    assert hub_store(hub.base, tmp_path, tiny(gated=True)).resolve("tiny").version.startswith("tiny@")


def test_another_checkpoint_is_refused_before_it_is_downloaded(hub: Server, tmp_path: Path) -> None:
    other = save({"weight": np.ones(60_000, dtype=np.float32)})
    assert len(other) == len(CHECKPOINT)
    hub.add_hub("model.safetensors", other)
    with pytest.raises(WeightsUnavailable) as caught:
        hub_store(hub.base, tmp_path, tiny()).resolve("tiny")
    assert reason(caught) == (
        f"model.safetensors has sha256 {sha256(other)[:12]}… instead of {sha256(CHECKPOINT)[:12]}…"
    )
    assert hub.gets() == []


def test_a_hub_that_states_one_file_and_sends_another_is_caught(hub: Server, tmp_path: Path) -> None:
    hub.add_hub("model.safetensors", save({"weight": np.ones(60_000, dtype=np.float32)}))
    hub.stated = {"model.safetensors": sha256(CHECKPOINT)}
    with pytest.raises(WeightsUnavailable, match=r"model.safetensors has sha256"):
        hub_store(hub.base, tmp_path / "known", tiny()).resolve("tiny")
    with pytest.raises(WeightsUnavailable, match=r"does not match the hub.s metadata for this commit"):
        hub_store(hub.base, tmp_path / "unknown", tiny(UNKNOWN)).resolve("tiny")
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == []


def test_unregistered_hashes_are_checked_with_the_hub_and_kept(hub: Server, tmp_path: Path) -> None:
    use = hub_store(hub.base, tmp_path, tiny(UNKNOWN))
    weights = use.resolve("tiny")
    lock = json.loads((tmp_path / "tiny" / "lock.json").read_text())["files"]
    assert {name: seen["sha256"] for name, seen in lock.items()} == {
        "model.safetensors": sha256(CHECKPOINT),
        "config.json": sha256(CONFIG),
    }
    assert weights.version == f"tiny@{sha256(CHECKPOINT)[:8]}"
    weights.files["config.json"].write_bytes(b"{}")
    assert use.resolve("tiny").files["config.json"].read_bytes() == CONFIG
    hub.add_hub("config.json", b'{"model_type": "evil"}')
    weights.files["config.json"].write_bytes(b"{}")
    with pytest.raises(WeightsUnavailable, match=f"instead of {sha256(CONFIG)[:12]}"):
        use.resolve("tiny")
    assert not weights.files["config.json"].exists()


def test_a_small_file_is_checked_by_its_git_id(hub: Server, tmp_path: Path) -> None:
    hub.stated = {"config.json": "0" * 40}
    with pytest.raises(WeightsUnavailable, match=r"config.json does not match the hub.s metadata"):
        hub_store(hub.base, tmp_path, tiny(UNKNOWN)).resolve("tiny")


def test_a_hub_that_states_no_hash_is_not_believed(hub: Server, tmp_path: Path) -> None:
    hub.stated = {"model.safetensors": "some-etag"}
    with pytest.raises(WeightsUnavailable, match="no registered sha256 and the hub has none either"):
        hub_store(hub.base, tmp_path, tiny(UNKNOWN)).resolve("tiny")
    assert hub.gets() == []


@pytest.mark.parametrize(("status", "expected"), [(404, "no such commit or file"), (503, "the hub answered 503")])
def test_what_the_hub_answers_is_the_reason(hub: Server, tmp_path: Path, status: int, expected: str) -> None:
    if status == 404:
        hub.files.clear()
    else:
        hub.status = status
    with pytest.raises(WeightsUnavailable) as caught:
        hub_store(hub.base, tmp_path, tiny()).resolve("tiny")
    assert reason(caught).startswith(expected)


def test_an_unreachable_hub_is_asked_once_a_minute(tmp_path: Path) -> None:
    now = [1000.0]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        base = f"http://127.0.0.1:{closed.getsockname()[1]}"
    entry = model(FILES, hub_source())
    use = hub_store(base, tmp_path, registry(one=entry, two=entry), clock=lambda: now[0])
    with pytest.raises(WeightsUnavailable) as caught:
        use.resolve_first(["one", "two"])
    assert [why.split(": ", 1)[1] for why in caught.value.reasons] == [
        "the hub could not be reached (ConnectError)",
        "the hub could not be reached a moment ago",
    ]
    now[0] += 59
    assert use.hub.obstacle(use.models.root["one"].sources[0]) != ""
    now[0] += 2
    assert use.hub.obstacle(use.models.root["one"].sources[0]) == ""


def test_a_download_that_was_killed_resumes(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(file: str, done: int, total: int) -> None:
        if file == "model.safetensors" and done >= 100_000:
            raise Killed

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    with pytest.raises(Killed):
        hub_store(hub.base, tmp_path, tiny(UNKNOWN)).resolve("tiny", progress=kill)
    hub.asked.clear()
    weights = hub_store(hub.base, tmp_path, tiny(UNKNOWN)).resolve("tiny")
    assert weights.files["model.safetensors"].read_bytes() == CHECKPOINT
    assert [one.range for one in hub.gets() if one.path.endswith(".safetensors")] == ["bytes=50000-"]
    assert sorted(path.name for path in weights.path.iterdir()) == ["config.json", "lock.json", "model.safetensors"]


def test_files_that_were_whole_are_not_downloaded_again(hub: Server, tmp_path: Path) -> None:
    def kill(file: str, done: int, total: int) -> None:
        if file == "config.json":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub_store(hub.base, tmp_path, tiny()).resolve("tiny", progress=kill)
    hub.asked.clear()
    assert hub_store(hub.base, tmp_path, tiny()).resolve("tiny").files["config.json"].read_bytes() == CONFIG
    assert [one.path.rpartition("/")[2] for one in hub.gets()] == ["config.json"]


def test_the_rest_of_another_file_is_thrown_away(hub: Server, tmp_path: Path) -> None:
    rest = tmp_path / "tiny" / ".parts" / "hub" / f"model.safetensors.{sha256(CHECKPOINT)[:16]}"
    rest.parent.mkdir(parents=True)
    for content in (b"x" * 1000, b"x" * (len(CHECKPOINT) + 1)):
        rest.parent.mkdir(parents=True, exist_ok=True)
        rest.write_bytes(content)
        weights = hub_store(hub.base, tmp_path, tiny()).resolve("tiny")
        assert weights.files["model.safetensors"].read_bytes() == CHECKPOINT
        weights.files["model.safetensors"].unlink()


def test_a_connection_that_breaks_is_resumed_at_once(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.cuts = [100_000]
    weights = hub_store(hub.base, tmp_path, tiny({"model.safetensors": CHECKPOINT})).resolve("tiny")
    assert weights.files["model.safetensors"].read_bytes() == CHECKPOINT
    assert [one.range for one in hub.gets()] == [None, "bytes=100000-"]
