"""Say which model each stage of a Serve configuration uses, from its chains and what is on this machine."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deployments.serving.catalog import find_stage
from ops.plan.needs import hosts
from vision.errors import ModelNotLoaded
from vision.weights import Store, locate

Chains = dict[str, list[list[str]]]
"""Stage → the models that it loads: of each list the first one that is available."""


def chains(path: Path) -> Chains:
    """Return the chains of every stage of a Serve configuration that loads models; `visiongraph check` finds faults."""
    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    found: Chains = {}
    for app in config.get("applications", ()):
        lines = {line["name"]: line.get("user_config") or {} for line in app.get("deployments", ())}
        for name, keys in hosts(app).items():
            for key in keys:
                if models := _chains_of(key, lines.get(name, {})):
                    found[key] = models
    return found


def _chains_of(key: str, user_config: Mapping[str, Any]) -> list[list[str]]:
    stage = find_stage(key)
    try:
        return stage.model_chains(stage.config_class.model_validate(user_config.get(key, {})))
    except (ValidationError, ModelNotLoaded):
        return []


def uses(store: Store, chains: Chains) -> dict[str, list[str]]:
    """Return what each model does for each stage: it ``serves`` where it is the first of its chain that is here.

    A model before that one ``serves once it is fetched``, one after it is ``spare``. Where none of a chain is here, the
    first that can be fetched serves.
    """
    here = {
        name: locate(store, name)[0]
        for names in chains.values()
        for chain in names
        for name in chain
        if name in store.models.root
    }
    said = defaultdict[str, list[str]](list)
    for key, lists in sorted(chains.items()):
        for chain in lists:
            serving = next((name for name in chain if here.get(name)), None)
            before = True
            for name in chain:
                if name == serving:
                    said[name].append(f"{key}: serves")
                    before = False
                else:
                    said[name].append(f"{key}: {'serves once it is fetched' if before else 'spare'}")
    return dict(said)
