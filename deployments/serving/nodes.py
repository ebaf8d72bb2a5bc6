"""The nodes of the Ray cluster: where replicas may run, and what listens there."""

import asyncio
import os
from collections.abc import Collection
from typing import Any, Final

import ray
import uvicorn

from configs.settings import Settings, settings
from stores.open import SHARED, of_one_machine
from vision.tracing import log_request_ids

HEAD: Final = "node:__internal_head__"
"""The resource by which Ray marks the node that a cluster was begun with."""
TICK_S: Final = 1.0


class StoresOfOneMachine(Exception):
    """Several nodes were to use stores that only one of them reaches; the message says what to set."""


def working_nodes() -> list[dict[str, Any]]:
    """Return the nodes, as ``ray.nodes`` does, that live and have CPUs, so that replicas may run there."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def require_shared_stores(config: Settings, nodes: int, names: Collection[str] = tuple(SHARED)) -> None:
    """Raise StoresOfOneMachine where processes on so many nodes would each have stores of their own."""
    if nodes > 1 and (wanted := of_one_machine(config, names)):
        raise StoresOfOneMachine(
            f"This Ray cluster has {nodes} nodes, and embedded stores are on one machine only: set {wanted}, "
            "to stores that all nodes reach, in the environment of every node."
        )


def check_stores() -> None:
    """Raise StoresOfOneMachine if this process is of a cluster of several nodes and its stores are embedded ones."""
    if ray.is_initialized():
        require_shared_stores(settings(), len(working_nodes()))


def start_on_node() -> None:
    """Do what a replica does first: hide what is not its own, close its port, and make sure that it shares its stores.

    Raises StoresOfOneMachine on a node that joined a cluster whose stores are embedded: they are on the head node, and
    what would be uploaded here no other node could find.
    """
    if not ray.is_initialized():
        return
    log_request_ids()
    _hide_gpus()
    _tick_once_a_second()
    if _is_alone():
        return
    nodes = working_nodes()
    here = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == here and HEAD in node["Resources"] for node in nodes):
        require_shared_stores(settings(), len(nodes))


def listens_to_others() -> bool:
    """Return whether other machines reach Serve's HTTP proxies, by the address that these listen on."""
    from ray._common.network_utils import is_localhost
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    return client is not None and not is_localhost(client.http_config.host or "127.0.0.1")


def _hide_gpus() -> None:
    """Hide the GPUs of the node from a replica without a share of one: Ray leaves them in sight, torch takes them."""
    if not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _tick_once_a_second() -> None:
    """Make the web server that Serve gives to every replica wake once a second, in place of ten times.

    It then renews the date of its answers, and looks whether it has to end.
    """
    uvicorn.Server.main_loop = _main_loop  # type: ignore[method-assign]


async def _main_loop(self: uvicorn.Server) -> None:
    while not await self.on_tick(0):  # noqa: ASYNC110 (uvicorn has no event for its end)
        await asyncio.sleep(TICK_S)


def _is_alone() -> bool:
    """Whether no other machine reaches this node. Makes Serve's own server of this replica listen on loopback there.

    That server takes pickles. Serve starts it on all interfaces, after the deployment's class is made; on several nodes
    it has to be reached.
    """
    from ray._common.network_utils import is_localhost
    from ray.serve._private import replica

    if not is_localhost(ray.util.get_node_ip_address()):
        return False
    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]", "127.0.0.1"))
    return True
