"""Add a model of the hub to a stage: look at the repository, download it, try it, register it in the local file."""

import json
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from configs.settings import settings
from deployments.serving.catalog import AnyStage, find_stage, find_stages
from deployments.serving.stage import HubModels
from ops.models.trial import Trial, as_entry, try_model
from vision.weights import Model, Progress, Registry, SourceError, Store, Weights, WeightsUnavailable
from vision.weights.cache import PARTS
from vision.weights.checkpoint import FILES, architecture_names
from vision.weights.hub import Repository
from vision.weights.local import write_entry
from vision.weights.registry import FileSpec, HubSource
from vision.weights.sources import digest, discard, ignore_progress

NAME: Final = re.compile(r"hub:([\w.-]+/[\w.-]+)")
LARGEST_CONFIG: Final = 1_000_000
"""Bytes of a config.json."""


class NotAdded(Exception):
    """A model cannot be added; the message says why, and what to do."""


@dataclass(frozen=True)
class Candidate:
    """A model of the hub that a stage may get. ``model``: its entry, without the hashes that the hub does not state."""

    stage: AnyStage
    repository: Repository
    name: str
    model: Model
    registered: bool

    @property
    def chain(self) -> list[str]:
        """Return the stage's default chain with this model in front."""
        rest = self.stage.model_chains(self.stage.config_class.model_validate({}))[0]
        return [self.name, *(name for name in rest if name != self.name)]

    @property
    def warning(self) -> str:
        """Return what to know of a licence that does not allow commercial use as far as it is known."""
        if self.model.licence == "unknown":
            return "It names no licence, so it counts as not for commercial use; ask its authors."
        return f"Not for commercial use, as far as its licence is known here ({self.model.licence}); read it first."

    def facts(self) -> dict[str, str]:
        """Return what to know before it is downloaded: name → text."""
        size = sum(spec.size or 0 for spec in self.model.files.values())
        return {
            "repository": self.repository.url,
            "commit": self.repository.commit,
            "licence": f"{self.model.licence} ({self.model.licence_url})",
            **self.repository.facts,
            "model": self.model.architecture,
            "size": f"{size / 1e6:,.1f} MB in {len(self.model.files)} files",
            "name here": f"{self.name}, already registered" if self.registered else self.name,
        }


def exchangeable() -> dict[str, HubModels]:
    """Return what every stage that runs models of the hub asks of them, by its key."""
    return {key: stage.hub for key, stage in find_stages().items() if stage.hub is not None}


def stage_for(key: str) -> AnyStage:
    """Return the stage. Raises NotAdded for an unknown one and for one whose models cannot be exchanged."""
    known = ", ".join(sorted(exchangeable()))
    try:
        stage = find_stage(key)
    except LookupError as error:
        raise NotAdded(f"{error}. Stages that take models of the hub: {known}.") from error
    if stage.hub is None:
        raise NotAdded(f"{key} takes no models of the hub. Stages that do: {known}.")
    return stage


def look(what: str, key: str, revision: str | None, store: Store) -> Candidate:
    """Return what ``hub:ORG/NAME`` is at a revision, the newest commit without one, as a model for a stage.

    Only the facts and config.json are read. Raises NotAdded when the stage cannot use it, or it cannot be had.
    """
    match = NAME.fullmatch(what)
    if match is None:
        raise NotAdded(f"{what} is no repository; write hub:ORG/NAME, such as hub:facebook/dinov2-small.")
    stage = stage_for(key)
    assert stage.hub is not None
    try:
        repository = store.hub.describe(match[1], revision)
        source = HubSource(repo=repository.name, revision=repository.commit, gated=repository.closed)
        if why := store.hub.obstacle(source):
            page = f" Its page: {repository.url}." if repository.closed else ""
            raise NotAdded(f"{repository.name} is {why}.{page}")
        files = _files(repository, stage.hub)
        config = _config(source, files, store)
    except SourceError as error:
        raise NotAdded(f"{match[1]}: {error}.") from error
    class_name = _architecture(repository.name, config, key, stage.hub)
    name, registered = _name(repository, store.models)
    model = Model(
        task=stage.hub.task,
        licence=repository.licence,
        licence_url=repository.licence_url,
        commercial=repository.commercial,
        description=f"{repository.name} of the hub",
        architecture=f"transformers {class_name}",
        # Its weights in fp32 twice, and what 32 pictures of a small network take.
        vram_mb=200 + math.ceil(2 * (next(iter(files.values())).size or 0) / 1e6),
        files=files,
        sources=(source,),
        notes=f"Added for {key} on {datetime.now(UTC).date()}; vram_mb is a guess from its size.",
    )
    return Candidate(stage, repository, name, store.models.root[name] if registered else model, registered)


def download(candidate: Candidate, store: Store, progress: Progress = ignore_progress) -> Weights:
    """Return the verified files; a broken download resumes when it is run again. Raises NotAdded."""
    own = Store(Registry({candidate.name: candidate.model}), store.cache, store.folder, store.hub, store.schemes)
    try:
        return own.resolve(candidate.name, progress=progress)
    except WeightsUnavailable as error:
        raise NotAdded("\n".join(error.reasons)) from error


def register(candidate: Candidate, weights: Weights, store: Store) -> tuple[Path, Trial]:
    """Try the model in its stage and register it; return the local models file and the trial.

    Raises NotAdded, and registers nothing, when the stage cannot use it.
    """
    model = candidate.model
    if not candidate.registered:
        model = model.model_copy(
            update={
                "files": {
                    name: FileSpec(sha256=digest(path), size=path.stat().st_size)
                    for name, path in weights.files.items()
                }
            }
        )
    local = settings().local_models
    trial = try_model(candidate.stage.key, candidate.name, model, local)
    if trial.fault:
        if not candidate.registered:
            discard(store.cache / candidate.name)
        raise NotAdded(f"{candidate.stage.key} cannot use {candidate.repository.name}: {trial.fault}")
    if not candidate.registered:
        length = trial.info.get("embedding_dim")
        try:
            write_entry(local, candidate.name, as_entry(model) | ({"dims": length} if length else {}))
        except OSError as error:
            raise NotAdded(
                f"{local} cannot be written ({error.strerror}); VISION_MODELS_FILE names another."
            ) from error
    return local, trial


def _files(repository: Repository, hub: HubModels) -> dict[str, FileSpec]:
    """Return the checkpoint, then what else the stage needs."""
    there = repository.files
    main = next((name for name in FILES if name in there), None)
    if main is None:
        split = next((name for name in there if name.endswith((".safetensors.index.json", ".bin.index.json"))), None)
        has = f"its checkpoint is in several files ({split})" if split else "it has no checkpoint of transformers"
        raise NotAdded(f"{repository.name}: {has}; needed is {' or '.join(FILES)}.")
    if missing := [name for name in hub.files if name not in there]:
        raise NotAdded(f"{repository.name} has no {', '.join(missing)}, which the stage needs.")
    return {name: there[name] for name in (main, *hub.files, *(name for name in hub.optional if name in there))}


def _config(source: HubSource, files: Mapping[str, FileSpec], store: Store) -> dict[str, Any]:
    if (files["config.json"].size or 0) > LARGEST_CONFIG:
        raise NotAdded(f"The config.json of {source.repo} has more than {LARGEST_CONFIG:,} bytes.")
    store.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.cache, prefix=PARTS) as folder:
        store.hub.fetch(source, {"config.json": files["config.json"]}, Path(folder), ignore_progress)
        try:
            config = json.loads((Path(folder) / "config.json").read_bytes())
        except ValueError as error:
            raise NotAdded(f"The config.json of {source.repo} is no JSON.") from error
    if not isinstance(config, dict):
        raise NotAdded(f"The config.json of {source.repo} is no mapping.")
    return config


def _architecture(repo: str, config: Mapping[str, Any], key: str, hub: HubModels) -> str:
    """Return the class of the checkpoint, or its kind where it names none. Raises NotAdded for one of another kind."""
    named = config.get("architectures")
    classes = [str(name)[:80] for name in named] if isinstance(named, list) else []
    fitting = architecture_names(hub.architecture)
    if classes and not fitting.intersection(classes):
        raise NotAdded(f"{repo} is a {', '.join(classes[:3])}; {key} takes {hub.kind}.")
    return next((name for name in classes if name in fitting), str(config.get("model_type", "model"))[:80])


def _name(repository: Repository, models: Registry) -> tuple[str, bool]:
    """Return the name of a repository at its commit in the registry, and whether it is there already."""
    for name, model in models.root.items():
        for source in model.sources:
            if isinstance(source, HubSource) and (source.repo, source.revision) == (repository.name, repository.commit):
                return name, True
    name = re.sub(r"[^a-z0-9.]+", "-", repository.name.partition("/")[2].lower()).strip("-.") or "model"
    return (f"{name}-{repository.commit[:8]}" if name in models.root else name), False
