"""Finding stages, reading the arguments of a room, and the process that hosts a pack."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from ray import serve

import deployments
from deployments.analysis.anomalies import AnomalyDetector, AnomalyQuery
from deployments.analysis.clusters import Clusterer
from deployments.serving.catalog import (
    StageHost,
    address_of,
    find_stage,
    find_stages,
    room,
)
from deployments.serving.room import AUTOSCALING, RoomArgs
from vision.errors import InvalidInput

STAGE = """
from deployments.serving.stage import Stage, StageConfig
class Example(Stage[StageConfig, int, int, int]):
    key = "{key}"
    def load(self): pass
    def predict_batch(self, items): return items
"""


@pytest.fixture
def spare_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty room among the real ones."""
    folder = tmp_path / "spare"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.setattr(deployments, "__path__", [*deployments.__path__, str(tmp_path)])
    yield folder
    for name in [name for name in sys.modules if name.startswith("deployments.spare")]:
        del sys.modules[name]


def test_every_stage_is_found_under_its_place() -> None:
    stages = find_stages()
    assert set(stages) >= {"embed/dinov3", "analysis/nearest", "analysis/clusters", "analysis/anomalies"}
    assert stages["analysis/clusters"] is Clusterer
    for key, stage in stages.items():
        assert stage.key == key
        assert find_stage(key) is stage
        stage.config_class()  # every field has a default
        assert stage.__doc__


def test_stages_and_the_gateway_are_imported_without_heavy_libraries() -> None:
    code = (
        "import sys, graphs.web.gateway; from deployments.serving.catalog import find_stage; "
        f"[find_stage(key) for key in {sorted(find_stages())}]; "
        "print({'torch', 'transformers', 'sklearn', 'openvino', 'lancedb', 'boto3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("dinov3", "a key is room/name"),
        ("embed/dino-v3", "a key is room/name"),
        ("embed/a.b", "a key is room/name"),
        ("../etc/passwd", "a key is room/name"),
        ("", "a key is room/name"),
        ("embed/nothing", "no deployments/embed/nothing.py"),
        ("nowhere/dinov3", "no deployments/nowhere/dinov3.py"),
        ("serving/stage", "a key is room/name"),
    ],
)
def test_a_key_that_leads_nowhere_is_explained(key: str, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        find_stage(key)


def test_a_new_file_is_a_new_stage(spare_room: Path) -> None:
    (spare_room / "example.py").write_text(STAGE.format(key="spare/example"))
    assert find_stages()["spare/example"].__name__ == "Example"


def test_a_file_of_a_room_that_is_no_stage_is_refused(spare_room: Path) -> None:
    (spare_room / "part.py").write_text("X = 1\n")
    with pytest.raises(LookupError, match=r"deployments/spare/part\.py defines no stage"):
        find_stages()


def test_a_key_that_differs_from_its_file_is_refused(spare_room: Path) -> None:
    (spare_room / "example.py").write_text(STAGE.format(key="spare/other"))
    for find in (lambda: find_stage("spare/example"), find_stages):
        with pytest.raises(LookupError, match="'spare/other', not 'spare/example'"):
            find()


def test_a_stage_whose_library_is_missing_says_so(spare_room: Path) -> None:
    (spare_room / "example.py").write_text("import a_library_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_nobody_has"):
        find_stage("spare/example")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "needs stages or packs"),
        ({"stages": []}, "needs stages or packs"),
        ({"stages": ["a/b", "a/b"]}, "named twice"),
        ({"stages": ["a/b"], "packs": {"c": ["a/b"]}}, "named twice"),
        ({"packs": {"c": ["a/b"], "d": ["a/b"]}}, "named twice"),
        ({"stages": ["a/b"], "replicas": 2}, "Extra inputs"),
        ({"stages": "a/b"}, "valid list"),
    ],
)
def test_arguments_of_a_room_are_checked(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RoomArgs.model_validate(args)


def test_stages_are_deployments_and_packs_share_one() -> None:
    args = RoomArgs(stages=["analysis/clusters"], packs={"models": ["embed/dinov3", "analysis/nearest"]})
    assert args.deployments() == {
        "clusters": ["analysis/clusters"],
        "models": ["embed/dinov3", "analysis/nearest"],
    }


def test_stages_of_one_name_do_not_hide_each_other() -> None:
    for args in (
        {"stages": ["analysis/clusters"], "packs": {"clusters": ["analysis/anomalies"]}},
        {"stages": ["embed/faces", "people/faces"]},
    ):
        with pytest.raises(ValidationError, match=r"two deployments would be called (clusters|faces)"):
            RoomArgs.model_validate(args)


def test_a_room_is_built_with_all_its_deployments() -> None:
    application = room({"stages": ["analysis/clusters"], "packs": {"rest": ["analysis/anomalies"]}})
    assert isinstance(application, serve.Application)
    root = application._bound_deployment
    assert (root.name, root.init_args[0]) == ("rest", ["analysis/anomalies"])
    sibling = root.init_args[1]._bound_deployment
    assert (sibling.name, sibling.init_args) == ("clusters", (["analysis/clusters"],))
    with pytest.raises(LookupError, match=r"no deployments/analysis/magic\.py"):
        room({"stages": ["analysis/magic"]})


def test_a_deployment_has_the_usual_options_and_a_pack_does_not_scale() -> None:
    root = room({"stages": ["analysis/clusters"], "packs": {"rest": ["analysis/anomalies"]}})._bound_deployment
    sibling = root.init_args[1]._bound_deployment
    for deployment in (root, sibling):
        assert (deployment.max_ongoing_requests, deployment.max_queued_requests) == (16, 64)
        assert deployment._deployment_config.backpressure_config.model_dump() == {
            "status_code": 429,
            "retry_after_s": 1,
        }
        assert deployment._deployment_config.health_check_period_s == 5
    assert root._deployment_config.autoscaling_config is None
    assert {name: getattr(sibling._deployment_config.autoscaling_config, name) for name in AUTOSCALING} == AUTOSCALING


def test_a_stage_has_an_address() -> None:
    places = {"embed/dinov3": "models.pack"}
    assert address_of("embed/dinov3", places) == ("models", "pack")
    assert address_of("analysis/nearest", places) == ("analysis", "nearest")


async def test_a_process_runs_the_stages_of_its_pack() -> None:
    host = StageHost(["analysis/anomalies", "analysis/clusters"])
    await host.reconfigure({"analysis/anomalies": {"max_batch_size": 1}})
    assert (await host.info("analysis/anomalies"))["stage"] == AnomalyDetector.key
    one_reference = AnomalyQuery(np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[1:])
    (result,) = await host.run("analysis/anomalies", [one_reference], None)
    assert isinstance(result, InvalidInput)
    assert (await host.info("analysis/anomalies"))["loaded"] is True
    host.check_health()
    with pytest.raises(InvalidInput, match="embed/dinov3 does not run here"):
        await host.run("embed/dinov3", [b""], None)
    with pytest.raises(ValueError, match="this deployment does not have: embed/dinov3"):
        await host.reconfigure({"embed/dinov3": {}})
    with pytest.raises(ValidationError):
        await host.reconfigure({"analysis/clusters": {"max_batch_size": -1}})
