"""Weights: from a name in ``configs/models.yaml`` to verified files. Importing this imports neither torch nor Ray."""

from vision.weights.registry import Model, Registry, load_registry, registry, validate_registry
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
    "SourceError",
    "Store",
    "Weights",
    "WeightsUnavailable",
    "load_registry",
    "locate",
    "registry",
    "resolve",
    "resolve_first",
    "store",
    "validate_registry",
    "verify",
]
