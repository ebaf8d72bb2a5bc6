"""The registry of weights: ``configs/models.yaml``, and over it the local file of this installation, as objects.

Loading is strict: an entry without a licence, a file without a hash or size, a hub revision that is not a commit, or a
URL that is not https or not pinned to a commit is refused with its position in the file.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    RootModel,
    StringConstraints,
    ValidationError,
    model_validator,
)

import configs
from configs.settings import settings
from vision.errors import ModelNotLoaded

MODELS_YAML = Path(configs.__file__).parent / "models.yaml"
COMMIT = r"[0-9a-f]{40}"


def relative_path(value: str) -> str:
    """Return ``value`` if it is a path inside its folder. Raises ValueError for absolute paths and ``..``."""
    path = PurePosixPath(value)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in value:
        raise ValueError(f"{value!r} is no path inside a folder")
    return value


def _pinned_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme != "https" or not url.hostname:
        raise ValueError("is not https")
    if not re.search(rf"(?<![0-9a-f]){COMMIT}(?![0-9a-f])", url.path):
        raise ValueError("is not pinned to a commit (40 hex digits in its path)")
    return value


RelativePath = Annotated[str, AfterValidator(relative_path)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileSpec(_Entry):
    """The expected sha256, in hex, and size, in bytes, of a file."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: PositiveInt | None = None


class FolderSource(_Entry):
    """A folder under VISION_MODELS_DIR; ``files`` maps a local name to its name there."""

    kind: Literal["folder"] = "folder"
    path: RelativePath
    files: dict[RelativePath, RelativePath] = {}

    @property
    def label(self) -> str:
        """Return the short name of the source for logs and messages."""
        return f"folder {self.path}"


class HubSource(_Entry):
    """A hub repository at a commit; ``files`` maps a local name to its name there."""

    kind: Literal["hub"] = "hub"
    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, StringConstraints(pattern=rf"^{COMMIT}$")]
    gated: bool = False
    files: dict[RelativePath, RelativePath] = {}

    @property
    def label(self) -> str:
        """Return the short name of the source for logs and messages."""
        return f"hub {self.repo}@{self.revision[:8]}"


class UrlSource(_Entry):
    """``files`` maps a local name to its https URL, which has a commit in its path."""

    kind: Literal["url"] = "url"
    files: dict[RelativePath, Annotated[str, AfterValidator(_pinned_url)]]

    @property
    def label(self) -> str:
        """Return the short name of the source for logs and messages."""
        return f"url {urlsplit(next(iter(self.files.values()), '')).hostname}"


class WheelSource(_Entry):
    """A Python wheel; ``files`` maps a local name to its path in the zip."""

    kind: Literal["wheel"] = "wheel"
    package: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$")]
    files: dict[RelativePath, RelativePath]

    @property
    def label(self) -> str:
        """Return the short name of the source for logs and messages."""
        return f"wheel {self.package}=={self.version}"


def _one_key(value: Any) -> Any:
    """Turn ``{"hub": {...}}`` into ``{"kind": "hub", ...}``."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, body),) = value.items()
        if isinstance(body, dict):
            return {**body, "kind": kind}
    return value


Source = Annotated[
    Annotated[FolderSource | HubSource | UrlSource | WheelSource, Field(discriminator="kind")],
    BeforeValidator(_one_key),
]


class Model(_Entry):
    """A model; the first of ``files`` is its main weight, ``vram_mb`` is in MB of 10^6 bytes."""

    task: Text
    licence: Text
    licence_url: Text | None = None
    commercial: bool
    description: Text
    architecture: Text
    dims: PositiveInt | None = None
    vram_mb: PositiveInt
    files: dict[RelativePath, FileSpec]
    sources: tuple[Source, ...]
    notes: str = ""
    traps: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """Return the local name of the main weight."""
        return next(iter(self.files))

    @model_validator(mode="after")
    def _check_files(self) -> "Model":
        faults = [f"has no {key}" for key in ("files", "sources") if not getattr(self, key)]
        # only a hub commit has hashes of its own to verify unregistered ones with
        hub_only = all(isinstance(s, HubSource | FolderSource) for s in self.sources) and any(
            isinstance(s, HubSource) for s in self.sources
        )
        for name, spec in self.files.items():
            if not hub_only:
                faults += [f"{name} has no {key}" for key in ("sha256", "size") if getattr(spec, key) is None]
        for source in self.sources:
            faults += [f"{source.label}: unknown file {n}" for n in source.files if n not in self.files]
            if isinstance(source, UrlSource | WheelSource):
                faults += [f"{source.label}: lacks {name}" for name in self.files if name not in source.files]
        if faults:
            raise ValueError("; ".join(faults))
        return self


class Registry(RootModel[dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")], Model]]):
    """All models by name."""

    model_config = ConfigDict(frozen=True)


def load_registry(path: Path = MODELS_YAML) -> Registry:
    """Load the registry in ``path``. Raises pydantic's ValidationError with every invalid entry."""
    return Registry.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


class RegistryInvalid(ModelNotLoaded):
    """The local models file has faults; the message names the first ones."""


def load_local(path: Path) -> Registry:
    """Load the local models file; a missing or empty one has no models. Raises RegistryInvalid with its faults."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Registry({})
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryInvalid(f"{path.name} of VISION_MODELS_FILE cannot be read ({type(error).__name__}).") from error
    try:
        return Registry.model_validate(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValidationError) as error:
        first = _readable(error)[0]
        raise RegistryInvalid(
            f"{path.name} of VISION_MODELS_FILE has faults; correct or remove the entry. {first}"
        ) from error


def registry() -> Registry:
    """Return the models of configs/models.yaml and, over them, those of the local file, which is read when it changed.

    Raises RegistryInvalid when the local file has faults.
    """
    path = settings().local_models
    try:
        stat = path.stat()
    except OSError:
        return _merged(path, None)
    return _merged(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=2)
def _merged(path: Path, version: tuple[int, ...] | None) -> Registry:
    """``version`` changes with the file."""
    shipped = load_registry()
    return shipped if version is None else Registry(shipped.root | load_local(path).root)


def _readable(error: yaml.YAMLError | ValidationError) -> list[str]:
    if isinstance(error, yaml.YAMLError):
        return [f"no YAML: {error}"]
    return [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]


def validate_registry(path: Path = MODELS_YAML, defaults: Iterable[str] | None = None) -> list[str]:
    """Return every fault of ``path``, one readable line each; empty when there is none.

    ``defaults``: the models that stages use by default, all when None; each must be registered and free for commercial
    use.
    """
    try:
        models = load_registry(path).root
    except (yaml.YAMLError, ValidationError) as error:
        return _readable(error)
    faults = []
    for name in models if defaults is None else defaults:
        if name not in models:
            faults.append(f"{name}: used as a default but not registered")
        elif not models[name].commercial:
            faults.append(f"{name}: used as a default but not free for commercial use")
    return faults
