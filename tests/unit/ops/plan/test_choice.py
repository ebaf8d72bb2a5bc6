"""Which configuration a machine gets, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ops.cluster import read_config
from ops.plan.choice import CONFIGS, DoesNotFitError, choose, fit_gateways, require_fit
from ops.plan.machines import Node, memory_bytes, this_machine
from tests.unit.ops.plan.machines import machine

PRODUCTION, WORKSTATION, LAPTOP = CONFIGS


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([machine(8, [16], memory_gb=32)], PRODUCTION),
        ([machine(16, [24], memory_gb=64)], PRODUCTION),
        ([machine(16, [None], memory_gb=64)], PRODUCTION),
        ([machine(64, [80] * 8, memory_gb=512)], PRODUCTION),
        ([machine(4, [16], memory_gb=64)], WORKSTATION),  # too few CPUs
        ([machine(16, [16], memory_gb=16)], WORKSTATION),  # too little memory
        ([machine(16, [8], memory_gb=64)], WORKSTATION),  # too little on the GPU
        ([machine(4, [8], memory_gb=16)], WORKSTATION),
        ([machine(16, [4], memory_gb=64)], LAPTOP),
        ([machine(4, memory_gb=16)], LAPTOP),
        ([machine(64, memory_gb=512)], LAPTOP),
        ([machine(2, memory_gb=8)], LAPTOP),
        ([machine(4, [16], memory_gb=32), machine(4, memory_gb=16, name="two", head=False)], PRODUCTION),
    ],
)
def test_the_largest_configuration_that_fits_is_chosen(nodes: list[Node], expected: Path) -> None:
    choice = choose(nodes)
    assert choice.path == expected
    if expected != PRODUCTION:
        larger = CONFIGS[CONFIGS.index(expected) - 1].name
        assert f"; {larger} does not: " in choice.reason


def test_the_choice_says_why() -> None:
    reason = choose([machine(4, memory_gb=16)]).reason
    assert reason == (
        "it fits 4 CPUs, no GPU, 16 GB of memory; "
        "workstation.yaml does not: models.models, a replica needs 0.65 of a GPU, and there is none"
    )


def test_a_machine_that_is_too_small_for_all_is_refused() -> None:
    with pytest.raises(DoesNotFitError, match=r"^laptop\.yaml is .* but models\.models does not fit"):
        choose([machine(2, memory_gb=3)])


def test_what_was_asked_for_and_cannot_fit_is_refused_with_what_can() -> None:
    config = read_config(PRODUCTION)
    assert require_fit(PRODUCTION, config, [machine(8, [16], memory_gb=32)]).path == PRODUCTION
    with pytest.raises(DoesNotFitError) as refusal:
        require_fit(PRODUCTION, config, [machine(4, [None], memory_gb=64)])
    assert "need 6.95 CPUs, and 4 are free" in str(refusal.value)
    assert str(refusal.value).startswith("serve_config.yaml cannot start: ")
    assert "Or use configs/workstation.yaml, which fits 4 CPUs, 1 GPU, 64 GB of memory." in str(refusal.value)


def test_a_configuration_of_ones_own_is_refused_by_the_name_of_its_deployment() -> None:
    config: dict[str, Any] = yaml.safe_load(PRODUCTION.read_text())
    apps = {app["name"]: app for app in config["applications"]}
    clips = next(line for line in apps["media"]["deployments"] if line["name"] == "clips")
    clips["ray_actor_options"] = {"num_cpus": 12}
    with pytest.raises(DoesNotFitError, match=r"my\.yaml cannot start: media\.clips does not fit: .* 12 CPUs of one"):
        require_fit(Path("my.yaml"), config, [machine(8, [16]), machine(8, name="two", head=False)])


@pytest.mark.parametrize(("memory_gib", "gateways"), [(4, 1), (9.9, 1), (10, 2), (64, 2)])
def test_a_second_gateway_runs_where_memory_allows(memory_gib: float, gateways: int) -> None:
    config = read_config(LAPTOP)
    assert fit_gateways(config, int(memory_gib * 2**30)) == gateways
    (deployment,) = next(app for app in config["applications"] if app["name"] == "gateway")["deployments"]
    assert deployment["num_replicas"] == gateways


def test_a_gateway_that_scales_by_itself_is_left_alone() -> None:
    config = read_config(PRODUCTION)
    before = copy.deepcopy(config)
    assert fit_gateways(config, 2**30) == 0
    assert config == before


def test_this_machine_has_memory() -> None:
    assert 2**28 < memory_bytes() <= psutil.virtual_memory().total


def test_this_machine_is_as_ray_would_count_it() -> None:
    import ray

    here = this_machine()
    assert here.resources["CPU"] == ray._private.utils.get_num_cpus()
    assert here.memory_mb < memory_bytes() / 1e6
