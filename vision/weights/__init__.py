"""Weights: from a name of ``configs/models.yaml`` to verified files. No torch and no Ray in here."""

from vision.weights.registry import Model, Registry, load_registry, registry, validate_registry
from vision.weights.sources import Progress, SourceError
from vision.weights.store import (
    Checked,
    Store,
    Weights,
    WeightsUnavailable,
    resolve,
    resolve_first,
    store,
    verify,
    whereabouts,
)

__all__ = [
    "Checked",
    "Model",
    "Progress",
    "Registry",
    "SourceError",
    "Store",
    "Weights",
    "WeightsUnavailable",
    "load_registry",
    "registry",
    "resolve",
    "resolve_first",
    "store",
    "validate_registry",
    "verify",
    "whereabouts",
]
