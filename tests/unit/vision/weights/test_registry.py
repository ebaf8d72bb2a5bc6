"""models.yaml is free of faults, and a registry with faults says each of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.vision.weights.servers import COMMIT, hub_source, model
from vision.weights import load_registry, validate_registry

URL = f"https://example.org/{COMMIT}/w.bin"
FOLDER = {"folder": {"path": "tiny"}}


def faults(tmp_path: Path, entry: dict[str, Any], defaults: list[str] | None = None) -> list[str]:
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({"tiny": entry}, sort_keys=False))
    return validate_registry(path, defaults)


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def test_models_yaml_has_no_fault() -> None:
    assert validate_registry() == []


def test_models_yaml_registers_what_the_embedding_chain_needs() -> None:
    models = load_registry().root
    assert {name: entry.dims for name, entry in models.items() if entry.task == "image-embedding"} == {
        "dinov3-vits16": 384,
        "dinov2-small": 384,
        "dinov2-vits14-lineage": 384,
        "efficientnet-lite0": 1280,
    }
    assert [source.kind for source in models["dinov3-vits16"].sources] == ["folder", "hub"]
    assert models["dinov3-vits16"].main == "model.safetensors"


@pytest.mark.parametrize(
    "source",
    [
        FOLDER,
        hub_source(),
        {"url": {"files": {"w.bin": URL}}},
        {"wheel": {"package": "tiny-weights", "version": "1.2.0", "files": {"w.bin": "tiny/w.bin"}}},
    ],
)
def test_a_good_entry_has_no_fault(tmp_path: Path, source: dict[str, Any]) -> None:
    assert faults(tmp_path, model({"w.bin": b"abc"}, source)) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({"hub": {"repo": "a/b", "revision": "main"}}, "tiny.sources.0.hub.revision: String should match"),
        ({"hub": {"repo": "a/b"}}, "tiny.sources.0.hub.revision: Field required"),
        ({"hub": {"repo": "a/b", "revision": COMMIT, "branch": 1}}, "hub.branch: Extra inputs"),
        ({"url": {"files": {"w.bin": URL.replace("https", "http")}}}, "Value error, is not https"),
        ({"url": {"files": {"w.bin": "https://example.org/main/w.bin"}}}, "is not pinned to a commit"),
        ({"url": {"files": {"w.bin": f"https://example.org/{COMMIT}0/w.bin"}}}, "is not pinned to a commit"),
        ({"url": {"files": {"other": URL}}}, "unknown file other; url example.org: lacks w.bin"),
        ({"folder": {"path": "../tiny"}}, "is no path inside a folder"),
        ({"folder": {"path": "/tiny"}}, "is no path inside a folder"),
        (
            {"wheel": {"package": "-r", "version": "1", "files": {"w.bin": "w"}}},
            "package: String should",
        ),
        ({"wheel": {"package": "a", "version": "1", "files": {"w.bin": "../w"}}}, "is no path inside"),
        ({"ftp": {"path": "x"}}, "tiny.sources.0: Input tag 'ftp'"),
        ({**FOLDER, **hub_source()}, "tiny.sources.0: Unable to extract tag"),
    ],
)
def test_a_faulty_source_is_named(tmp_path: Path, source: dict[str, Any], fault: str) -> None:
    (reported,) = faults(tmp_path, model({"w.bin": b"abc"}, source))
    assert fault in reported


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    entry = without(model({"w.bin": b"abc"}, {"hub": {"repo": "a/b", "revision": "v1"}}), "licence")
    assert [fault.split(":")[0] for fault in faults(tmp_path, entry)] == [
        "tiny.licence",
        "tiny.sources.0.hub.revision",
    ]


def test_an_empty_licence_is_no_licence(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, model({"w.bin": b"abc"}, FOLDER, licence=" "))
    assert fault.startswith("tiny.licence: ")


@pytest.mark.parametrize(
    ("sources", "faulty"),
    [
        ([hub_source()], False),
        ([FOLDER, hub_source()], False),
        ([FOLDER], True),
        ([hub_source(), {"url": {"files": {"w.bin": URL}}}], True),
    ],
)
def test_only_a_hub_commit_replaces_a_hash(tmp_path: Path, sources: list[Any], faulty: bool) -> None:
    reported = faults(tmp_path, model({"w.bin": None}, *sources))
    assert reported == (["tiny: Value error, w.bin has no sha256; w.bin has no size"] if faulty else [])


def test_defaults_must_be_registered_and_free_for_commercial_use(tmp_path: Path) -> None:
    entry = model({"w.bin": b"abc"}, FOLDER, commercial=False)
    forbidden = "tiny: used as a default but not free for commercial use"
    assert faults(tmp_path, entry) == [forbidden]
    assert faults(tmp_path, entry, []) == []
    assert faults(tmp_path, entry, ["tiny", "huge"]) == [
        forbidden,
        "huge: used as a default but not registered",
    ]


def test_what_is_no_yaml_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("a: [")
    assert validate_registry(path)[0].startswith("no YAML")
