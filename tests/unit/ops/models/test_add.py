"""Models of a hub on loopback are looked at, downloaded, tried in their stage and registered, or refused."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import ops.cli.models
from ops.models.add import Candidate, NotAdded, download, exchangeable, look, register
from ops.models.trial import Trial, as_entry, finite, try_model, try_stage
from tests.unit.ops.models.conftest import Place
from tests.unit.ops.models.repositories import BAD, FORGED, GOOD, SEVEN, Files, bert, vit
from tests.unit.vision.weights.servers import COMMIT, REPO, sha256
from vision.weights import Model, load_registry, store, verify
from vision.weights.local import write_entry
from vision.weights.registry import FileSpec

ROOT = Path(__file__).parents[4]
OTHER = "f" * 40
STAGES = [
    *("embed/clip", "embed/dinov3", "embed/sentence", "forensics/generated", "forensics/visual", "forensics/voice"),
    *("objects/detector", "people/emotion"),
]


def tried(place: Place, key: str, files: Files) -> Trial:
    """Download a repository and try it in this process."""
    place.hub.add_repository(files)
    candidate = look(f"hub:{REPO}", key, None, place.store())
    weights = download(candidate, place.store())
    assert {name: path.read_bytes() for name, path in weights.files.items()}.items() <= files.items()
    write_entry(place.local, candidate.name, as_entry(hashed(candidate, files)))
    options = {"engine": "torch-fp32"} if "engine" in candidate.stage.config_class.model_fields else {}
    return try_stage(candidate.stage, candidate.name, **options)


def hashed(candidate: Candidate, files: Files) -> Model:
    specs = {name: FileSpec(sha256=sha256(files[name]), size=len(files[name])) for name in candidate.model.files}
    return candidate.model.model_copy(update={"files": specs})


def test_the_stages_that_take_models_of_the_hub_are_known() -> None:
    assert sorted(exchangeable()) == STAGES
    assert {key for key, _ in GOOD.values()} == {key for key, *_ in BAD.values()} == set(STAGES)


@pytest.mark.parametrize("kind", GOOD)
def test_a_model_that_fits_runs_in_its_stage(place: Place, kind: str) -> None:
    key, make = GOOD[kind]
    trial = tried(place, key, make())
    assert trial.fault == ""
    assert trial.item_ms > 0
    said = {"embed/dinov3": ("embedding_dim", 384), "embed/clip": ("embedding_dim", 512)}
    said |= {"embed/sentence": ("embedding_dim", 384), "people/emotion": ("accuracy", "as its model card says")}
    said |= {"objects/detector": ("accuracy", "as its model card says")}
    name, value = said.get(key, ("worth", "as its model card says; its own probability is used, without calibration"))
    assert trial.info[name] == value


@pytest.mark.parametrize("kind", BAD)
def test_a_model_that_does_not_fit_is_refused_with_the_reason(place: Place, kind: str) -> None:
    key, make, fault = BAD[kind]
    assert fault in tried(place, key, make()).fault


def test_numbers_that_are_none_are_found_wherever_they_are() -> None:
    assert finite(Trial(load_s=1.0).model_dump())
    for bad in (float("nan"), [1.0, float("inf")], {"a": (1.0, float("nan"))}):
        assert not finite(bad)


@pytest.fixture
def command(place: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``visiongraph models …`` in this process: exit code and output, in one line."""
    monkeypatch.setattr(ops.cli.models, "store", place.store)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, answer: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(ops.cli.models.app, arguments, input=answer)
        return result.exit_code, " ".join(result.output.split())

    return run


@pytest.mark.parametrize(
    ("what", "key", "reason"),
    [
        ("hub:someone/tiny", "people/emotions", "there is no deployments/people/emotions.py. Stages that take models"),
        ("hub:someone/tiny", "emotion", "a key is room/name. Stages that take models of the hub: embed/clip, embed/"),
        ("hub:someone/tiny", "quality/brisque", "quality/brisque takes no models of the hub. Stages that do: embed/"),
        ("hub:someone/tiny", "muzzle/ensemble", "muzzle/ensemble takes no models of the hub."),
        ("someone/tiny", "people/emotion", "someone/tiny is no repository; write hub:ORG/NAME"),
        ("hub:../tiny", "people/emotion", "../tiny: is no name of a repository."),
        ("hub:someone/other", "people/emotion", "no such repository, or it is private: set HF_TOKEN."),
    ],
)
def test_what_cannot_be_meant_is_refused(command: Any, place: Place, what: str, key: str, reason: str) -> None:
    place.hub.add_repository({"config.json": b"{}"})
    code, said = command("add", what, "--for", key, "--yes")
    assert code == 1
    assert reason in said
    assert not place.local.exists()


SHARDS = {"model-00001-of-00002.safetensors": b"1", "model.safetensors.index.json": b"{}"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config.json": b"{}", **SHARDS}, "in several files (model.safetensors.index.json); needed is model.safetens"),
        ({"config.json": b"{}", "model.onnx": b"1"}, "it has no checkpoint of transformers"),
        ({"config.json": b"{}", "model.safetensors": b"1"}, "has no preprocessor_config.json, which the stage needs"),
        ({"config.json": b"{", "model.safetensors": b"1", "preprocessor_config.json": b"{}"}, "is no JSON"),
        ({"config.json": b"[]", "model.safetensors": b"1", "preprocessor_config.json": b"{}"}, "is no mapping"),
        (
            {"config.json": b" " * 1_000_001, "model.safetensors": b"1", "preprocessor_config.json": b"{}"},
            "has more than 1,000,000 bytes",
        ),
        (
            {
                "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
                "model.safetensors": b"1",
                "preprocessor_config.json": b"{}",
            },
            "is a LlamaForCausalLM; people/emotion takes an image classifier with the seven expressions",
        ),
    ],
)
def test_what_the_stage_cannot_load_is_refused_before_it_is_downloaded(
    command: Any, place: Place, files: Files, reason: str
) -> None:
    place.hub.add_repository(files)
    code, said = command("add", f"hub:{REPO}", "--for", "people/emotion", "--yes")
    assert code == 1
    assert reason in said
    assert all(one.path.endswith("config.json") for one in place.hub.gets())
    assert not place.local.exists()


@pytest.mark.parametrize(
    ("said_of_it", "reason"),
    [
        (
            {"gated": "manual"},
            "someone/tiny is gated: accept its licence on its hub page, then set HF_TOKEN. Its page: ",
        ),
        ({"private": True}, "someone/tiny is gated"),
    ],
)
def test_a_closed_repository_without_a_token_says_what_to_do(
    command: Any, place: Place, said_of_it: dict[str, object], reason: str
) -> None:
    place.hub.add_repository(vit(SEVEN), **said_of_it)
    code, said = command("add", f"hub:{REPO}", "--for", "people/emotion", "--yes")
    assert code == 1
    assert reason in said
    assert f"{place.hub.base}/{REPO}" in said
    assert place.hub.gets() == []


def test_a_token_that_was_not_let_in_says_so(place: Place) -> None:
    place.hub.add_repository(vit(SEVEN), gated="manual")
    place.hub.gated_for = "right"
    with pytest.raises(NotAdded, match="gated: HF_TOKEN has no access; accept the licence"):
        look(f"hub:{REPO}", "people/emotion", None, place.store("wrong"))
    candidate = look(f"hub:{REPO}", "people/emotion", None, place.store("right"))
    assert as_entry(candidate.model)["sources"] == [{"hub": {"repo": REPO, "revision": COMMIT, "gated": True}}]


def test_nobody_who_says_no_gets_a_download(command: Any, place: Place) -> None:
    card = {"license": "cc-by-nc-4.0", "base_model": "google/vit", "datasets": ["fer2013"], "language": ["en", "de"]}
    place.hub.add_repository(vit(SEVEN), card=card)
    code, said = command("add", f"hub:{REPO}", "--for", "people/emotion", answer="n\n")
    assert code == 1
    for fact in (
        f"commit {COMMIT}",
        f"licence cc-by-nc-4.0 ({place.hub.base}/{REPO}/blob/{COMMIT}/README.md)",
        "changed 2026-03-04",
        "made from google/vit",
        "trained on fer2013",
        "languages en, de",
        "model transformers ViTForImageClassification",
        "Not for commercial use, as far as its licence is known here (cc-by-nc-4.0); read it first.",
        "Download it and try it in people/emotion? [y/N]: n",
    ):
        assert fact in said
    assert [one.path.rpartition("/")[2] for one in place.hub.gets()] == ["config.json"]
    assert not place.local.exists()


@pytest.mark.parametrize(
    ("card", "licence", "commercial"),
    [
        ({"license": "apache-2.0"}, "apache-2.0", True),
        ({"license": "other", "license_name": "our-research-licence"}, "our-research-licence", False),
        ({}, "unknown", False),
        ({"license": ["mit", "cc-by-nc-2.0"]}, "mit, cc-by-nc-2.0", False),
        ({"license": "mit\u202e\x1b[31m\n" + "x" * 500}, "mit[31m " + "x" * 191 + "…", False),
    ],
)
def test_licences_are_what_the_card_says(place: Place, card: dict[str, object], licence: str, commercial: bool) -> None:
    place.hub.add_repository(vit(SEVEN), card=card)
    model = look(f"hub:{REPO}", "people/emotion", None, place.store()).model
    assert (model.licence, model.commercial) == (licence, commercial)


def test_a_revision_is_pinned_to_its_commit(place: Place) -> None:
    place.hub.add_repository(vit(SEVEN))
    place.hub.add_repository(vit(tuple(reversed(SEVEN))), commit=OTHER, branch="v2")
    candidate = look(f"hub:{REPO}", "people/emotion", "v2", place.store())
    assert candidate.repository.commit == OTHER
    with pytest.raises(NotAdded, match="no such commit or file"):
        look(f"hub:{REPO}", "people/emotion", "v3", place.store())


def test_another_commit_is_another_model_and_the_same_is_the_same(place: Place) -> None:
    files = bert()
    place.hub.add_repository(files)
    first = look(f"hub:{REPO}", "embed/sentence", None, place.store())
    write_entry(place.local, first.name, as_entry(hashed(first, files)))
    again = look(f"hub:{REPO}", "embed/sentence", None, place.store())
    assert (first.name, first.registered, again.name, again.registered) == ("tiny", False, "tiny", True)
    place.hub.add_repository(bert(pooling=""), commit=OTHER)
    newer = look(f"hub:{REPO}", "embed/sentence", None, place.store())
    assert (newer.name, newer.registered) == ("tiny-ffffffff", False)
    assert newer.chain == ["tiny-ffffffff", "all-minilm-l6-v2"]


def test_from_the_command_line_to_a_pinned_entry(place: Place) -> None:
    """The whole of it, as it is run: HF_ENDPOINT names the hub, and a process of its own tries the model."""
    files = vit(FORGED)
    place.hub.add_repository(files, repo="Some-One/AI_Image.detector", card={"license": "mit"})
    add = ["add", "hub:Some-One/AI_Image.detector", "--for", "forensics/visual", "--yes"]
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "models", *add],
        cwd=ROOT,
        env={**os.environ, "HF_ENDPOINT": place.hub.base, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[-1] == "forensics/visual: {models: [ai-image.detector, mesonet-deepfakes]}"
    assert f"ai-image.detector is registered in {place.local}. forensics/visual uses it with this line in its" in lines
    (entry,) = yaml.safe_load(place.local.read_text()).values()
    assert entry["files"] == {
        name: {"sha256": sha256(files[name]), "size": len(files[name])}
        for name in ("model.safetensors", "config.json", "preprocessor_config.json")
    }
    assert entry["sources"] == [{"hub": {"repo": "Some-One/AI_Image.detector", "revision": COMMIT}}]
    assert (entry["task"], entry["licence"], entry["commercial"]) == ("face-forgery", "mit", True)
    # From now on it is a model like any other: here, and verified.
    use = place.store()
    assert list(verify(use, "ai-image.detector"))
    assert all(not file.fault for file in verify(use, "ai-image.detector"))
    assert set(use.models.root) == {*load_registry().root, "ai-image.detector"}
    store.cache_clear()


def test_a_file_that_cannot_be_written_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.models.add.try_model", lambda *_: Trial())
    place.hub.add_repository(bert())
    candidate = look(f"hub:{REPO}", "embed/sentence", None, place.store())
    weights = download(candidate, place.store())
    place.local.parent.write_bytes(b"a file where its folder would be")
    with pytest.raises(NotAdded, match=r"models.yaml cannot be written \(.*\); VISION_MODELS_FILE names another"):
        register(candidate, weights, place.store())


@pytest.mark.parametrize("fault", ["its labels are cat, dog", "the process that tried it ended with -11: no message"])
def test_what_does_not_fit_leaves_nothing_behind(place: Place, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.models.add.try_model", lambda *_: Trial(fault=fault))
    place.hub.add_repository(bert())
    candidate = look(f"hub:{REPO}", "embed/sentence", None, place.store())
    weights = download(candidate, place.store())
    with pytest.raises(NotAdded, match=f"embed/sentence cannot use someone/tiny: {fault}"):
        register(candidate, weights, place.store())
    assert not place.local.exists()
    assert not weights.path.exists()


def test_a_process_that_dies_in_a_trial_is_a_fault(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'out of memory' >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    place.hub.add_repository(bert())
    candidate = look(f"hub:{REPO}", "embed/sentence", None, place.store())
    fault = try_model("embed/sentence", candidate.name, candidate.model, place.local).fault
    assert fault == "the process that tried it ended with -9: out of memory"
