"""Folders, the cache, and chains of models."""

import json
import logging
import os
import pickle
from pathlib import Path

import pytest

import vision.weights.cache
from configs.settings import settings
from tests.unit.vision.weights.servers import Server, hub_source, model, plain_url, registry, sha256, url_store
from vision.errors import ModelNotLoaded
from vision.weights import Store, WeightsUnavailable, resolve, resolve_first, store

CONTENT = b"weights" * 100
FOLDER = {"folder": {"path": "tiny"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "folder" / "tiny"
    home.mkdir(parents=True)
    (home / "w.bin").write_bytes(CONTENT)
    (home / "config.json").write_bytes(b"{}")
    return home


def folder_store(folder: Path, *, mapped: bool = False, **files: bytes | None) -> Store:
    source = {"folder": {"path": "tiny", "files": {"main": "w.bin"} if mapped else {}}}
    content = {name.replace("_", "."): data for name, data in files.items()}
    return Store(registry(tiny=model(content, source)), folder.parents[1] / "cache", folder.parent)


def test_a_folder_is_used_in_place(folder: Path) -> None:
    weights = folder_store(folder, w_bin=CONTENT, config_json=b"{}").resolve("tiny")
    assert weights.path == folder
    assert weights.files == {"w.bin": folder / "w.bin", "config.json": folder / "config.json"}
    assert (weights.source, weights.licence) == ("folder tiny", "MIT")
    assert weights.version == f"tiny@{sha256(CONTENT)[:8]}"
    assert not (folder.parents[1] / "cache").exists()


def test_a_folder_may_have_other_names(folder: Path) -> None:
    assert folder_store(folder, mapped=True, main=CONTENT).resolve("tiny").files == {"main": folder / "w.bin"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"Weights" * 100, f"w.bin has sha256 {sha256(b'Weights' * 100)[:12]}… instead of"),
        (CONTENT[:-1], "w.bin has 699 bytes instead of 700"),
        (None, "w.bin is missing"),
    ],
)
def test_a_damaged_folder_is_passed_over(folder: Path, server: Server, damage: bytes | None, reason: str) -> None:
    path = folder / "w.bin"
    path.unlink() if damage is None else path.write_bytes(damage)
    server.add("w.bin", CONTENT)
    only_folder = folder_store(folder, w_bin=CONTENT)
    with pytest.raises(WeightsUnavailable) as caught:
        only_folder.resolve("tiny")
    assert caught.value.reasons[0].startswith(f"tiny, folder tiny: {reason}")
    both = model({"w.bin": CONTENT}, FOLDER, plain_url(server.base, "w.bin"))
    weights = Store(
        registry(tiny=both), folder.parents[1] / "cache", folder.parent, schemes=frozenset({"http"})
    ).resolve("tiny")
    assert weights.source == "url 127.0.0.1"
    assert weights.files["w.bin"].read_bytes() == CONTENT
    assert not path.exists() if damage is None else path.read_bytes() == damage


def test_a_folder_without_a_registered_hash_is_not_trusted(folder: Path) -> None:
    entry = model({"w.bin": None}, FOLDER, hub_source(gated=True))
    with pytest.raises(WeightsUnavailable, match=r"w.bin has no registered sha256 to verify it with"):
        Store(registry(tiny=entry), folder.parents[1] / "cache", folder.parent).resolve("tiny")


def test_a_download_is_reused_and_hashed_only_when_it_changed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("w.bin", CONTENT)
    use = url_store(server.base, tmp_path, CONTENT)
    first = use.resolve("tiny")
    hashed: list[str] = []
    real = vision.weights.cache.digest
    monkeypatch.setattr(vision.weights.cache, "digest", lambda path: hashed.append(path.name) or real(path))
    assert first.path == tmp_path / "tiny"
    assert use.resolve("tiny") == first
    assert hashed == []
    os.utime(first.files["w.bin"], ns=(1, 1))
    assert use.resolve("tiny") == first
    assert use.resolve("tiny") == first
    assert hashed == ["w.bin"]
    assert len(server.asked) == 1
    assert sorted(path.name for path in first.path.iterdir()) == ["lock.json", "w.bin"]


@pytest.mark.parametrize("damage", [b"Weights" * 100, b"", CONTENT + b"!"])
def test_a_damaged_download_heals(server: Server, tmp_path: Path, damage: bytes) -> None:
    server.add("w.bin", CONTENT)
    use = url_store(server.base, tmp_path, CONTENT)
    path = use.resolve("tiny").files["w.bin"]
    path.write_bytes(damage)
    assert use.resolve("tiny").files["w.bin"].read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_damaged_download_is_removed_even_if_nothing_replaces_it(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    use = url_store(server.base, tmp_path, CONTENT)
    path = use.resolve("tiny").files["w.bin"]
    path.write_bytes(b"Weights" * 100)
    server.status = 500
    with pytest.raises(WeightsUnavailable):
        use.resolve("tiny")
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"files": {"w.bin": {"sha256": 1}}}'])
def test_an_unreadable_lock_costs_a_hash_and_nothing_else(server: Server, tmp_path: Path, content: str) -> None:
    server.add("w.bin", CONTENT)
    use = url_store(server.base, tmp_path, CONTENT)
    first = use.resolve("tiny")
    lock = tmp_path / "tiny" / "lock.json"
    lock.write_text(content)
    assert use.resolve("tiny").files == first.files
    assert json.loads(lock.read_text())["files"]["w.bin"]["sha256"] == sha256(CONTENT)
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written_is_a_reason(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsUnavailable, match=r"cannot be stored \(Not a directory\)"):
        url_store(server.base, tmp_path / "file" / "cache", CONTENT).resolve("tiny")


def test_a_chain_takes_the_first_model_there_is(folder: Path) -> None:
    models = registry(
        gated=model({"a.bin": b"a"}, {"folder": {"path": "gated"}}, hub_source(gated=True)),
        tiny=model({"w.bin": CONTENT}, FOLDER),
        other=model({"w.bin": CONTENT}, FOLDER),
    )
    use = Store(models, folder.parents[1] / "cache", folder.parent)
    assert use.resolve_first(["gated", "tiny", "other"]).name == "tiny"


def test_a_chain_without_weights_says_why_each_was_passed_over(tmp_path: Path) -> None:
    models = registry(
        gated=model({"a.bin": b"a"}, {"folder": {"path": "gated"}}, hub_source(gated=True)),
        tiny=model({"w.bin": CONTENT}, FOLDER),
    )
    with pytest.raises(ModelNotLoaded) as caught:
        Store(models, tmp_path / "cache").resolve_first(["gated", "tiny", "unknown"])
    assert str(caught.value) == (
        "no verified weights for gated or tiny or unknown; "
        "`visiongraph models pull gated` gets them, or put them under VISION_MODELS_DIR\n"
        "- gated, folder gated: VISION_MODELS_DIR is not set\n"
        "- gated, hub someone/tiny@01234567: gated: accept its licence on its hub page, then set HF_TOKEN\n"
        "- tiny, folder tiny: VISION_MODELS_DIR is not set\n"
        "- unknown: not registered"
    )
    assert isinstance(caught.value, WeightsUnavailable)
    assert caught.value.reason == str(caught.value).splitlines()[0]
    assert (caught.value.code, caught.value.status) == ("MODEL_NOT_LOADED", 503)


def test_the_error_keeps_its_class_and_reasons_on_its_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(WeightsUnavailable("nothing there", ["a: b"])))
    assert type(error) is WeightsUnavailable
    assert (error.message, error.reasons) == ("nothing there", ("a: b",))


def test_the_settings_decide_where_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VISION_MODELS_DIR", str(tmp_path / "folder"))
    monkeypatch.setenv("VISION_MODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings.cache_clear()
    store.cache_clear()
    try:
        assert store().folder == tmp_path / "folder"
        assert store().cache == tmp_path / "cache" / "models"
        with caplog.at_level(logging.DEBUG), pytest.raises(WeightsUnavailable, match="not found under"):
            resolve("dinov2-vits14-lineage")
        with pytest.raises(WeightsUnavailable, match="an empty list of models"):
            resolve_first([])
        assert "not found under VISION_MODELS_DIR" in caplog.text
        assert "hf_secret" not in caplog.text + repr(store())
    finally:
        settings.cache_clear()
        store.cache_clear()
