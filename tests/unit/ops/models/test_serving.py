"""Which model of its chain each stage of a Serve configuration uses."""

from pathlib import Path

import pytest
import yaml

from ops.check import CONFIGS
from ops.models.serving import chains, uses
from tests.unit.vision.weights.servers import hub_source, model, registry
from vision.weights import Store, load_registry

FOLDER = {"folder": {"path": "here"}}
SECOND_OPINIONS = {"ai-or-human", "wav2vec2-deepfake-voice"}
"""Models that a stage loads only where an operator asks for them."""


def test_the_chains_of_the_shipped_configurations_name_registered_models() -> None:
    for path in CONFIGS:
        found = chains(path)
        named = {name for lists in found.values() for chain in lists for name in chain}
        assert named == set(load_registry().root) - SECOND_OPINIONS
        assert found["quality/nima"] == [["nima-technical-int8"], ["nima-aesthetic"]]
        assert found["quality/brisque"] == [["brisque-live", "brisque-live-opencv"]]
        assert found["people/faces"] == found["people/video_faces"] == [["yunet-2023mar"]]
        assert "quality/blur" not in found


def test_user_config_is_what_counts(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIGS[0].read_text())
    for app in config["applications"]:
        for line in app.get("deployments", ()):
            if line["name"] == "ensemble":
                line["user_config"]["muzzle/ensemble"]["checkpoints"] = ["one", "two"]
            if line["name"] == "clip":
                line["user_config"]["embed/clip"]["models"] = ["mine"]
            if line["name"] == "visual":
                line["user_config"]["forensics/visual"]["models"] = "no list"
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    found = chains(tmp_path / "serve.yaml")
    assert (found["muzzle/ensemble"], found["embed/clip"]) == ([["one"], ["two"]], [["mine"]])
    assert "forensics/visual" not in found


def test_stages_in_the_gateway_count_as_well(tmp_path: Path) -> None:
    line = {"name": "gateway", "user_config": {"embed/clip": {"models": ["mine"]}}}
    args = {"here": ["embed/clip", "quality/nima"]}
    app = {"name": "front", "import_path": "graphs.web.gateway:gateway", "args": args, "deployments": [line]}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump({"applications": [app]}))
    expected = {"embed/clip": [["mine"]], "quality/nima": [["nima-technical-int8"], ["nima-aesthetic"]]}
    assert chains(tmp_path / "serve.yaml") == expected


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ("ab", ["serves", "spare", "spare"]),
        ("b", ["serves once it is fetched", "serves", "spare"]),
        ("", ["serves once it is fetched"] * 3),
    ],
)
def test_the_first_of_a_chain_that_is_here_serves(tmp_path: Path, here: str, said: list[str]) -> None:
    for name in here:
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(b"1")
    models = registry(
        a=model({"w.bin": b"1"}, {"folder": {"path": "a"}}),
        b=model({"w.bin": b"1"}, {"folder": {"path": "b"}}),
        c=model({"w.bin": b"1"}, hub_source()),
    )
    used = uses(Store(models, tmp_path / "cache", tmp_path), {"embed/clip": [["a", "b", "c"]], "embed/dinov3": [["c"]]})
    assert [used[name][0] for name in "abc"] == [f"embed/clip: {each}" for each in said]
    assert used["c"][1:] == ["embed/dinov3: serves once it is fetched"]
