"""What a configuration needs, by its file alone."""

import subprocess
import sys
from typing import Any

import pytest
import yaml

from deployments.serving.catalog import stage_keys
from ops.plan.choice import CONFIGS
from ops.plan.needs import GATEWAY, WORKER, Need, memory, needs, replicas, stage_gpu_mb
from vision.weights.registry import Registry, registry

ROOM = "deployments.serving.catalog:room"


def room(*deployments: dict[str, Any], **args: Any) -> dict[str, Any]:
    app = {"name": "a", "import_path": ROOM, "args": args, "deployments": list(deployments)}
    return {"applications": [app]}


def shipped(name: str) -> list[Need]:
    path = next(path for path in CONFIGS if path.name == name)
    return needs(yaml.safe_load(path.read_text()))


def total(wanted: list[Need], resource: str) -> float:
    return sum(need.resources.get(resource, 0) * need.at_least for need in wanted)


def test_the_production_configuration_fits_one_gpu_8_cores_and_32_gb() -> None:
    wanted = shipped("serve_config.yaml")
    assert total(wanted, "GPU") <= 1
    assert total(wanted, "CPU") <= 8
    on_gpu = [need for need in wanted if need.gpus]
    cuda = memory().cuda * len(on_gpu)
    assert sum(need.memory_mb * need.at_least for need in wanted) + cuda + memory().head < 32_000
    # Each share of 16 GB has at least 5 % more than the models need at these batch sizes.
    assert {need.name: need.gpu_memory_mb() / (need.gpus * 16_000) < 0.95 for need in on_gpu} == {
        need.name: True for need in on_gpu
    }


def test_the_workstation_fits_a_gpu_of_8_gb_and_16_gb_of_memory() -> None:
    wanted = shipped("workstation.yaml")
    assert total(wanted, "GPU") <= 1
    assert total(wanted, "CPU") <= 4
    on_gpu = [need for need in wanted if need.gpus]
    assert sum(need.memory_mb * need.at_least for need in wanted) + memory().cuda * len(on_gpu) + memory().head < 16_000
    assert len(wanted) == 5
    assert all(need.gpu_memory_mb() < 0.9 * need.gpus * 8_000 for need in on_gpu)


def test_every_stage_of_production_is_a_deployment_of_its_own() -> None:
    hosts = [need.stages for need in shipped("serve_config.yaml") if need.stages]
    assert sorted(key for stages in hosts for key in stages) == sorted(stage_keys())
    assert {len(stages) for stages in hosts} == {1}


def test_every_stage_has_a_measured_figure() -> None:
    assert sorted(memory().stages) == sorted(stage_keys())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({}, (1, 1)),
        ({"num_replicas": 3}, (3, 3)),
        ({"num_replicas": 0}, (0, 0)),
        ({"num_replicas": "auto"}, (1, 100)),
        ({"num_replicas": "auto", "autoscaling_config": {"max_replicas": 7}}, (1, 7)),
        ({"autoscaling_config": {"min_replicas": 2, "max_replicas": 5}}, (2, 5)),
        ({"autoscaling_config": {"min_replicas": 0, "max_replicas": 5}}, (0, 5)),
        ({"autoscaling_config": {"min_replicas": 0, "initial_replicas": 2, "max_replicas": 5}}, (2, 5)),
        ({"autoscaling_config": None, "num_replicas": 2}, (2, 2)),
    ],
)
def test_replicas_are_counted_as_serve_counts_them(line: dict[str, Any], expected: tuple[int, int]) -> None:
    assert replicas(line) == expected


def test_a_stage_without_lines_has_the_defaults_of_rooms_and_of_serve() -> None:
    (need,) = needs(room(stages=["quality/blur"]))
    assert (need.name, need.at_least, need.at_most) == ("a.blur", 1, 8)
    assert need.resources == {"CPU": 1.0}


def test_a_pack_is_one_process_and_pays_for_its_libraries_once() -> None:
    keys = ["embed/dinov3", "embed/clip", "quality/blur"]
    (pack,) = needs(room(packs={"all": keys}))
    alone = needs(room(stages=keys))
    figures = memory()
    assert (pack.name, pack.at_most) == ("a.all", 1)
    assert sum(need.memory_mb for need in alone) - pack.memory_mb == 2 * figures.replica + figures.libraries["torch"]


def test_custom_resources_memory_and_accelerators_are_asked_for_as_ray_does() -> None:
    options = {"num_cpus": 0, "num_gpus": 2, "memory": 10**9, "resources": {"disk": 1}, "accelerator_type": "H200"}
    (need,) = needs(room({"name": "blur", "ray_actor_options": options}, stages=["quality/blur"]))
    assert need.resources == {"GPU": 2, "memory": 10**9, "disk": 1, "accelerator_type:H200": 0.001}


def test_applications_of_others_count_with_what_their_lines_say() -> None:
    theirs = {"name": "b", "import_path": "their.module:app", "deployments": [{"name": "model", "num_replicas": 2}]}
    (need,) = needs({"applications": [theirs]})
    assert (need.name, need.at_least, need.resources) == ("b.model", 2, {"CPU": 1.0})


def test_arguments_that_no_room_can_have_are_named() -> None:
    with pytest.raises(ValueError, match="a: a stage is named twice"):
        needs(room(stages=["quality/blur", "quality/blur"]))


def models(**vram_mb: int) -> Registry:
    """The registry, in which these models take this much."""
    changed = {name.replace("_", "-"): value for name, value in vram_mb.items()}
    data = {name: model.model_copy(update={"vram_mb": changed.get(name, 1)}) for name, model in registry().root.items()}
    return registry().model_construct(root=data)


def test_of_models_that_stand_in_for_each_other_the_largest_counts() -> None:
    known = models(dinov2_small=3200, dinov3_vits16=320)
    config = {"models": ["dinov3-vits16", "dinov2-small"], "max_batch_size": 32}
    assert stage_gpu_mb("embed/dinov3", config, known) == pytest.approx(3200)


def test_models_of_different_tasks_of_one_stage_add_up() -> None:
    known = models(nima_technical_int8=300, nima_aesthetic=500)
    assert stage_gpu_mb("quality/nima", {"max_batch_size": 32}, known) == pytest.approx(800)


def test_a_batch_takes_its_part_of_what_is_not_weights() -> None:
    weights = (registry().root["dinov2-small"].files["model.safetensors"].size or 0) / 1e6
    known = models(dinov2_small=1088)
    for batch in (1, 8, 64):
        config = {"models": ["dinov2-small"], "max_batch_size": batch}
        expected = weights + (1088 - weights) * batch / 32
        assert stage_gpu_mb("embed/dinov3", config, known) == pytest.approx(expected)


def test_an_engine_of_the_cpu_takes_nothing_of_a_gpu() -> None:
    assert stage_gpu_mb("embed/dinov3", {"engine": "openvino-fp32"}, registry()) == 0
    assert stage_gpu_mb("quality/blur", {}, registry()) == 0


def test_planning_imports_neither_ray_nor_a_stage() -> None:
    code = (
        "import sys, ops.plan.choice as c; c.read_needs(c.CONFIGS[0], []); "
        "print([name for name in ('ray', 'torch', 'deployments.serving.stage') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [GATEWAY, WORKER])
def test_stages_add_to_the_memory_of_the_application_that_runs_them(path: str) -> None:
    name, figures = path.rpartition(":")[2], memory()
    line = {"name": name, "ray_actor_options": {"num_cpus": 0.1}, "user_config": {"shots/cuts": {"max_batch_size": 2}}}
    app = {"name": "a", "import_path": path, "deployments": [line]}
    [alone] = needs({"applications": [app]})
    [with_stages] = needs({"applications": [app | {"args": {"here": ["shots/cuts", "embed/dinov3"]}}]})
    cuts, embed = figures.stages["shots/cuts"], figures.stages["embed/dinov3"]
    own = cuts.mb + cuts.mb_per_item + embed.mb + figures.libraries["torch"]
    assert (alone.memory_mb, alone.stages) == (getattr(figures, name), ())
    assert (with_stages.memory_mb, with_stages.stages) == (alone.memory_mb + own, ("shots/cuts", "embed/dinov3"))
