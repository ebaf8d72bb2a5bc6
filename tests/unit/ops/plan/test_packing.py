"""Placing replicas on nodes and single GPUs."""

import random
from typing import Any

import pytest

from ops.plan.machines import Gpu, Node, shares
from ops.plan.needs import Need, memory
from ops.plan.packing import pack
from tests.unit.ops.plan.machines import machine


def need(name: str, replicas: int = 1, *, memory_mb: float = 0, **resources: float) -> Need:
    amounts = {key: value for key, value in {"CPU": 0.0, **resources}.items() if value}
    return Need("app", name, amounts, memory_mb, replicas, replicas)


def test_shares_of_gpus_are_of_one_gpu_each() -> None:
    thirds = [need("a", 3, GPU=0.6)]
    assert pack(thirds, [machine(gpus=[None] * 3)]).misfits == ()
    (misfit,) = pack(thirds, [machine(gpus=[None] * 2)]).misfits  # 1.8 of 2
    assert (misfit.need.name, misfit.missing) == ("app.a", 1)
    assert misfit.lack == "shares of GPUs add up to 1.8, and 2 of 2 are free; a share is of one GPU"


def test_cpus_are_of_one_machine() -> None:
    nodes = [machine(3, name="one"), machine(3, name="two", head=False)]
    assert pack([need("a", 2, CPU=2)], nodes).misfits == ()
    (misfit,) = pack([need("a", 3, CPU=2)], nodes).misfits  # 6 of 6
    assert misfit.missing == 1
    (misfit,) = pack([need("a", CPU=4)], nodes).misfits
    assert misfit.lack == "a replica needs 4 CPUs of one machine, and the largest has 3 free"


def test_several_gpus_are_whole_ones_of_one_machine() -> None:
    two = [machine(gpus=[None], name="one"), machine(gpus=[None], name="two", head=False)]
    assert pack([need("a", GPU=2)], [machine(gpus=[None, None])]).misfits == ()
    assert len(pack([need("a", GPU=2)], two).misfits) == 1
    used = Node("one", {"CPU": 8.0}, 1e6, (Gpu(0.9), Gpu(1.0)))
    assert len(pack([need("a", GPU=2)], [used]).misfits) == 1


def test_what_has_room_only_when_the_large_come_first_fits() -> None:
    wanted = [need("small", 2, GPU=0.4), need("large", 2, GPU=0.6)]
    placed = pack(wanted, [machine(gpus=[None, None])])
    assert placed.misfits == ()
    assert placed.bins[0].gpus == [0, 0]


def test_ten_tenths_of_a_gpu_fit_and_eleven_do_not() -> None:
    assert pack([need("a", 10, GPU=0.1)], [machine(gpus=[None])]).misfits == ()
    assert pack([need("a", 11, GPU=0.1)], [machine(gpus=[None])]).misfits[0].missing == 1


def test_replicas_without_a_gpu_leave_those_machines_to_the_others() -> None:
    nodes = [machine(2, [None], name="gpu"), machine(2, name="cpu", head=False)]
    placed = pack([need("a", 2, CPU=1), need("b", CPU=2, GPU=1)], nodes)
    assert placed.misfits == ()
    assert placed.nodes_of(need("a")) == {"cpu": 2}


def test_memory_counts_with_that_of_ray_and_of_cuda() -> None:
    figures = memory()
    own = need("a", memory_mb=1000)
    exactly = Node("one", {"CPU": 1.0}, figures.head + 1000)
    assert pack([own], [exactly]).misfits == ()
    (misfit,) = pack([need("a", memory_mb=1001)], [exactly]).misfits
    assert misfit.lack == "all together need 1.0 GB of memory beside Ray, and 1.0 GB are there"
    on_gpu = need("a", memory_mb=1000, GPU=0.5)
    assert len(pack([on_gpu], [Node("one", {}, figures.head + 1000, (Gpu(),))]).misfits) == 1
    assert pack([on_gpu], [Node("one", {}, figures.head + 1000, (Gpu(),), cuda=False)]).misfits == ()
    assert pack([on_gpu], [Node("one", {}, figures.head + 1000 + figures.cuda, (Gpu(),))]).misfits == ()


def clip(batch: int, gpus: float) -> Need:
    config = {"embed/clip": {"max_batch_size": batch}}
    return Need("embed", "clip", {"GPU": gpus}, 0, 1, 1, ("embed/clip",), config)


def test_a_share_that_is_too_small_for_its_models_is_named_with_one_that_is_not() -> None:
    (misfit,) = pack([clip(32, 0.05)], [machine(gpus=[16])]).misfits
    assert str(misfit) == (
        "embed.clip does not fit: its 0.05 of a GPU are 0.8 GB, and its models need 1.3 GB. "
        "Raise num_gpus (and cuda_memory_fraction) to 0.09, or lower max_batch_size."
    )
    assert pack([clip(32, 0.09)], [machine(gpus=[16])]).misfits == ()
    assert pack([clip(32, 0.05)], [machine(gpus=[80])]).misfits == ()
    assert pack([clip(32, 0.05)], [machine(gpus=[None])]).misfits == ()
    # Of several GPUs, one that is large enough.
    placed = pack([clip(32, 0.1)], [machine(gpus=[8, 24])])
    assert placed.misfits == ()
    assert placed.bins[0].gpus == [10_000, 9_000]


@pytest.mark.parametrize(
    ("wanted", "nodes", "lack", "change"),
    [
        (need("a", GPU=0.5), [machine()], "there is none", "without num_gpus"),
        (need("a", GPU=2), [machine(gpus=[None])], "no machine has 2 whole ones free", "Lower num_gpus"),
        (need("a", 3, CPU=1), [machine(2)], "all together need 3 CPUs, and 2 are free", "min_replicas"),
        (need("a", disk=1), [machine()], "no node has 1 of disk free", "remove disk"),
        (need("a"), [], "there is no node", "Start a node"),
    ],
)
def test_what_is_lacking_and_what_to_change_are_said(wanted: Need, nodes: list[Node], lack: str, change: str) -> None:
    (misfit,) = pack([wanted], nodes).misfits
    assert lack in misfit.lack
    assert change in misfit.change


def test_a_node_has_no_more_replicas_than_it_may() -> None:
    one = Need("app", "a", {"CPU": 1}, 0, 3, 3, per_node=1)
    nodes = [machine(name=str(n), head=not n) for n in range(3)]
    assert pack([one], nodes).nodes_of(one) == {"0": 1, "1": 1, "2": 1}
    (misfit,) = pack([one], nodes[:2]).misfits
    assert misfit.change == "Raise max_replicas_per_node"


def test_at_most_asks_for_every_replica_that_there_may_be() -> None:
    scaling = Need("app", "a", {"CPU": 1}, 0, 1, 8)
    assert pack([scaling], [machine(4)]).misfits == ()
    assert pack([scaling], [machine(4)], most=True).misfits[0].missing == 4


def test_of_a_cluster_only_the_sum_of_free_shares_is_known() -> None:
    assert shares(2, 1.3, []) == (Gpu(1.0), Gpu(0.3))
    assert shares(2, 0, [80e3, 80e3]) == (Gpu(0, 80e3), Gpu(0, 80e3))
    assert shares(0.5, 0.5, []) == (Gpu(0.5),)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_promised_twice(seed: int) -> None:
    rng = random.Random(seed)

    def some(n: int) -> dict[str, Any]:
        kind = rng.choice(["CPU", "GPU", "both"])
        cpu, gpu = rng.choice([0.1, 0.5, 1, 3]), rng.choice([0.11, 0.25, 0.5, 0.6, 1, 2])
        return {"CPU": cpu if kind != "GPU" else 0, "GPU": gpu if kind != "CPU" else 0}

    wanted = [need(str(n), rng.randint(1, 3), memory_mb=rng.uniform(0, 3000), **some(n)) for n in range(15)]
    nodes = [
        machine(rng.choice([2, 8]), [None] * rng.randint(0, 3), memory_gb=rng.choice([8, 16]), name=str(n), head=n == 0)
        for n in range(3)
    ]
    placed = pack(wanted, nodes)
    for each in placed.bins:
        on_it = [one for one in wanted for _ in range(each.placed[one.name])]
        assert sum(one.resources.get("CPU", 0) for one in on_it) <= each.node.resources["CPU"] + 1e-6
        assert sum(one.gpus for one in on_it) <= len(each.node.gpus) + 1e-6
        assert each.memory_mb >= 0
        assert min(each.gpus, default=0) >= 0
    missing = {misfit.need.name: misfit.missing for misfit in placed.misfits}
    for one in wanted:
        assert sum(placed.nodes_of(one).values()) + missing.get(one.name, 0) == one.at_least
