"""How the workers of a bulk run share a cluster."""

from pathlib import Path

import pytest

from configs.settings import Settings
from ops.bulk.driver import check_stores
from ops.bulk.plan import Options, PlanError, make_plan, stage_configs
from ops.cluster import ClusterError
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
    assert configs["shots/cuts"]["max_batch_size"] == 8
    assert stage_configs(ROOT / "configs" / "laptop.yaml")["shots/cuts"] == {"max_batch_size": 1}


def test_embedded_stores_are_for_one_machine(tmp_path: Path) -> None:
    check_stores(Settings(home=tmp_path), 1)
    with pytest.raises(ClusterError, match="VISION_OBJECTS_URL and VISION_DOCUMENTS_URL"):
        check_stores(Settings(home=tmp_path), 2)
    shared = Settings(home=tmp_path, objects_url="s3://bucket", documents_url="mongodb://host/db")
    check_stores(shared, 2)
