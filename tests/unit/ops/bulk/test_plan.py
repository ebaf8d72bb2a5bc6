"""How the workers of a bulk run share a cluster."""

import pytest

from ops.bulk.plan import Options, PlanError, make_plan, served_stages, stage_configs
from tests.graphs.harness import ROOT


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64, 1000])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_no_more_is_taken_than_the_share(cpus: int, share: float) -> None:
    plan = make_plan({"CPU": cpus}, Options(share))
    assert plan.workers * plan.cpus <= share * cpus + 0.001 * plan.workers
    assert min(plan.decoders, plan.frame_workers, plan.cut_workers, plan.finalizers) >= 1
    assert plan.gpus == 0


def test_a_large_cluster_is_used_up_to_its_share() -> None:
    plan = make_plan({"CPU": 100}, Options(0.5))
    assert (plan.decoders, plan.frame_workers, plan.cut_workers, plan.finalizers, plan.cpus) == (6, 20, 17, 3, 1.0)


def test_workers_are_as_many_as_asked_for() -> None:
    plan = make_plan({"CPU": 2}, Options(1.0, decoders=2, frame_workers=3, cut_workers=2))
    assert (plan.decoders, plan.frame_workers, plan.cut_workers, plan.finalizers, plan.cpus) == (2, 3, 2, 1, 0.25)


@pytest.mark.parametrize("nodes", [[4, 4], [16, 16, 16], [64, 32, 32], [2, 2]])
def test_the_workers_fit_when_the_largest_node_is_lost(nodes: list[int]) -> None:
    plan = make_plan({"CPU": sum(nodes)}, Options(0.5), max(nodes))
    alone = make_plan({"CPU": sum(nodes)}, Options(0.5))
    assert plan.workers == alone.workers
    assert plan.workers * plan.cpus <= 0.5 * (sum(nodes) - max(nodes)) + 0.001 * plan.workers


def test_gpus_hold_as_many_workers_as_fit_into_the_share() -> None:
    plan = make_plan({"CPU": 100, "GPU": 1}, Options(0.5, gpus_per_actor=0.125))
    assert (plan.cut_workers, plan.finalizers, plan.gpus) == (2, 2, 0.125)
    with pytest.raises(PlanError, match="lower --gpus-per-actor"):
        make_plan({"CPU": 100, "GPU": 1}, Options(0.5, gpus_per_actor=0.5))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(PlanError, match="above 0 and at most 1"):
        make_plan({"CPU": 2}, Options(share))


def test_stages_are_configured_as_they_are_deployed() -> None:
    configs = stage_configs(ROOT / "serve_config.yaml")
    assert configs["shots/cuts"]["max_batch_size"] == 4
    assert stage_configs(ROOT / "configs" / "laptop.yaml")["shots/cuts"] == {"max_batch_size": 1}


@pytest.mark.parametrize("cpus", [1, 2, 16, 1000])
def test_workers_for_objects_are_within_the_share(cpus: int) -> None:
    plan = make_plan({"CPU": cpus}, Options(0.5), objects=True)
    assert plan.object_workers >= 1
    assert plan.workers * plan.cpus <= 0.5 * cpus + 0.001 * plan.workers
    without = plan.without_objects()
    assert (without.object_workers, without.workers) == (0, plan.workers)
    assert make_plan({"CPU": cpus}, Options(0.5)).object_workers == 0


def test_objects_take_most_of_a_large_cluster() -> None:
    plan = make_plan({"CPU": 100}, Options(0.5), objects=True)
    assert (plan.decoders, plan.object_workers, plan.frame_workers, plan.cut_workers) == (3, 20, 10, 10)
    asked = make_plan({"CPU": 100}, Options(0.5, object_workers=7), objects=True)
    assert asked.object_workers == 7


def test_the_detector_shares_the_gpus() -> None:
    plan = make_plan({"CPU": 100, "GPU": 1}, Options(0.75, gpus_per_actor=0.125), objects=True)
    assert (plan.cut_workers, plan.object_workers, plan.finalizers) == (2, 2, 2)
    with pytest.raises(PlanError, match="three workers"):
        make_plan({"CPU": 100, "GPU": 1}, Options(0.25, gpus_per_actor=0.125), objects=True)


@pytest.mark.parametrize("name", ["serve_config.yaml", "configs/workstation.yaml", "configs/laptop.yaml"])
def test_a_configuration_says_which_stages_it_has(name: str) -> None:
    stages = served_stages(ROOT / name)
    assert {"objects/detector", "shots/cuts", "people/video_faces"} <= stages
    assert "objects/nothing" not in stages
