"""Train the heads on Ray Train: fold after fold, epoch after epoch, with checkpoints to resume from."""

import hashlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from ops.training.features import ViewFeatures
from ops.training.heads import HeadConfig, Heads, training_rows, without_animals
from vision.muzzle.ensemble import Domain

if TYPE_CHECKING:
    import torch

LOOPBACK = "127.0.0.1"
EVERY = 10
"""Epochs between two reports, each with a checkpoint."""
FINAL = "all"
"""Name of the fold that leaves nobody out."""


def start_ray(workers: int) -> None:
    """Start Ray for this process alone on the loopback, or join the cluster that RAY_ADDRESS names."""
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
        return
    # Ray Train has a process ask whether the run is alive, and ends the run when it gets no answer. Where the machine
    # has another Ray, of a service say, that process finds neither unless it inherits the address.
    port = _free_port()
    inherited = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{LOOPBACK}:{port}"}
    os.environ.update(inherited)
    try:
        # One more CPU than the workers have: the controller of the run wants a share of one.
        ray.init(address="local", num_cpus=workers + 1, _node_ip_address=LOOPBACK, logging_level=logging.WARNING)
    finally:
        for name in inherited:
            del os.environ[name]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
    return port


def run_of(config: Mapping[str, Any]) -> str:
    """Return the digest of everything that heads depend on: heads of other photos or settings are never reused."""
    parts = {name: value for name, value in config.items() if name not in ("folder", "folds")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def fold_file(folder: Path, run: str, fold: str) -> Path:
    """Return the file of the heads of a finished fold."""
    return folder / "folds" / run / f"{quote(fold, safe='')}.pt"


def train_folds(config: dict[str, Any]) -> None:
    """Run Ray Train's ``train_loop_per_worker``.

    ``config``: ``folder``, ``features`` (the file), ``animals`` (one a photo), ``folds`` (held-out animals, or
    ``FINAL``), ``muzzles`` (data set whose mean is the domain), ``domain`` (centre, scale, mean, limit), ``share`` and
    ``heads`` (of HeadConfig).
    """
    import torch
    from ray import train

    torch.set_num_threads(1)
    folder, animals = Path(config["folder"]), list(config["animals"])
    with np.load(config["features"], allow_pickle=False) as stored:
        members = {int(name.removeprefix("member-")): stored[name] for name in stored.files if name != "plain"}
        features = ViewFeatures(stored["plain"], members)
    settings, run = HeadConfig(**config["heads"]), run_of(config)
    world = train.get_context()
    rank, average = world.get_world_rank(), _averaging(world.get_world_size())
    state = _restored(train.get_checkpoint())
    for fold in config["folds"]:
        if fold_file(folder, run, fold).exists():
            continue
        held_out = [] if fold == FINAL else [fold]
        domain = fold_domain(Domain(**config["domain"]), features, animals, held_out, config["muzzles"])
        heads = Heads(domain, config["share"], settings)
        if state is not None and state["fold"] == fold:
            heads.load_state(state)
        rows = training_rows(features, animals, domain, held_out, settings.seed)
        while heads.epoch < settings.epochs:
            losses = heads.run_epoch(rows, rank, average)
            if heads.epoch % EVERY and heads.epoch < settings.epochs:
                continue  # a report takes longer than an epoch
            metrics = {"fold": fold, "epoch": heads.epoch, "loss": sum(losses) / len(losses)}
            if rank == 0:
                print(f"{fold}: epoch {heads.epoch} of {settings.epochs}, loss {metrics['loss']:.4f}", flush=True)
            with tempfile.TemporaryDirectory() as temporary:
                torch.save({"fold": fold, **heads.state()}, Path(temporary) / "state.pt")
                train.report(metrics, checkpoint=train.Checkpoint.from_directory(temporary))
        if rank == 0:
            _finish(fold_file(folder, run, fold), heads)


def fold_domain(
    domain: Domain, features: ViewFeatures, animals: Sequence[str], held_out: Sequence[str], muzzles: str
) -> Domain:
    """Return the domain with the mean of the animals of the data set ``muzzles`` that are not held out."""
    others = [animal for animal in animals if animal.partition("/")[0] != muzzles]
    return without_animals(domain, features.plain, animals, [*held_out, *others])


def _averaging(workers: int) -> Any:
    if workers == 1:
        return None
    import torch

    def average(module: "torch.nn.Module") -> None:
        for parameter in module.parameters():
            torch.distributed.all_reduce(parameter.grad)
            assert parameter.grad is not None
            parameter.grad /= workers

    return average


def _restored(checkpoint: Any) -> dict[str, Any] | None:
    import torch

    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / "state.pt", weights_only=True)
    return state


def _finish(path: Path, heads: Heads) -> None:
    """Save finished heads. The file appears only when it is complete: a resumed training skips its fold."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(heads.state(), partial)
    partial.replace(path)
