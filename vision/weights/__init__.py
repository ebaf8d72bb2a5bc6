"""Weights: from a name of the registry to verified files. Importing this imports neither torch nor Ray."""

from vision.weights.registry import (
    Model,
    Registry,
    RegistryInvalid,
    load_local,
    load_registry,
    registry,
    validate_registry,
)
from vision.weights.sources import Progress, SourceError
from vision.weights.store import (
    CheckedFile,
    Store,
    Weights,
    WeightsUnavailable,
    locate,
    resolve,
    resolve_first,
    store,
    verify,
)

__all__ = [
    "CheckedFile",
    "Model",
    "Progress",
    "Registry",
    "RegistryInvalid",
    "SourceError",
    "Store",
    "Weights",
    "WeightsUnavailable",
    "load_local",
    "load_registry",
    "locate",
    "registry",
    "resolve",
    "resolve_first",
    "store",
    "validate_registry",
    "verify",
]
