"""What of the registry is on this machine, without asking anyone else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vision.weights.cache import verify_file
from vision.weights.lock import Lock
from vision.weights.registry import FolderSource, HubSource
from vision.weights.sources import SourceError
from vision.weights.store import Store


@dataclass(frozen=True)
class Checked:
    """One file that was hashed; ``fault`` is empty when it is as registered."""

    name: str
    place: str
    file: str
    fault: str


def whereabouts(store: Store, name: str) -> tuple[bool, str]:
    """Whether ``name`` is here, by the sizes of its files, and where it is or would come from."""
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


def verify(store: Store, name: str) -> Iterator[Checked]:
    """Hash every file of ``name`` in each place that has some of them; nothing where none has."""
    model = store.models.root[name]
    for place, files in _places(store, name):
        if not any(path.is_file() for path in files.values()):
            continue
        lock = Lock.load(store.cache / name) if place == "cache" else None
        for file, spec in model.files.items():
            seen = lock.files.get(file) if lock else None
            try:
                verify_file(file, files[file], spec, seen.sha256 if seen else None)
            except SourceError as error:
                yield Checked(name, place, file, str(error))
            except OSError as error:
                yield Checked(name, place, file, f"cannot be read ({error.strerror})")
            else:
                known = spec.sha256 or seen
                yield Checked(name, place, file, "" if known else f"{file} has no known sha256")


def _places(store: Store, name: str) -> Iterator[tuple[str, dict[str, Path]]]:
    model = store.models.root[name]
    for source in model.sources:
        if isinstance(source, FolderSource) and store.folder:
            root = store.folder / source.path
            yield source.label, {file: root / source.files.get(file, file) for file in model.files}
    yield "cache", {file: store.cache / name / file for file in model.files}
