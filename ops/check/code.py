"""Checks of the code and of the environment: settings, stages, and the models they load."""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

import deployments
from configs.settings import PREFIX, Settings
from deployments.catalog import AnyStage, find_stage
from deployments.stage import StageConfig
from deployments.weights import validate_registry
from ops.check.fault import Fault, from_pydantic
from ops.check.imports import heavy_imports

GATEWAY_MODULE = "graphs.gateway"


@dataclass
class Stages:
    """``found`` by key; ``broken``: keys of modules that do not import, so nothing more is known of them."""

    found: dict[str, AnyStage] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)


def environment_faults() -> list[Fault]:
    """Faults of the VISION_ variables."""
    try:
        Settings()
    except ValidationError as error:
        faults = from_pydantic(error, "environment", fix="correct or unset the variable; see configs/settings.py")
        return [Fault(f.where, f"{PREFIX}{f.place.upper()}" if f.place else PREFIX + "*", f.what, f.fix) for f in faults]
    return []


def load_stages() -> tuple[Stages, list[Fault]]:
    """Imports every module of every room, and goes on where one fails."""
    stages, faults = Stages(), []
    for key in _keys():
        room, _, name = key.partition("/")
        where = f"deployments/{key}.py"
        try:
            importlib.import_module(f"deployments.{room}.{name}")
            stage = find_stage(key)
        except LookupError as error:
            if "defines no stage" in str(error):
                continue  # a part of a stage
            faults.append(Fault(where, "", _reason(error), "correct the module"))
            stages.broken.add(key)
        except Exception as error:
            faults.append(Fault(where, "", f"does not import: {_reason(error)}", "correct the module"))
            stages.broken.add(key)
        else:
            stages.found[key] = stage
            faults += _class_faults(stage, where)
    return stages, faults


def import_faults(stages: Stages) -> list[Fault]:
    """Stages, and the gateway with its graphs, that import a heavy library at module level."""
    places = {f"deployments.{key.replace('/', '.')}": f"deployments/{key}.py" for key in sorted(stages.found)}
    places[GATEWAY_MODULE] = "graphs/gateway.py"
    fix = "import it inside load, so that the command line and the gateway start without it"
    try:
        found = heavy_imports(places)
    except RuntimeError as error:
        return [Fault("deployments", "", f"importing the stages ends the interpreter: {error}", "import them one by one")]
    return [
        Fault(places[module], importer, f"imports {heavy} at module level", fix)
        for module, seen in found.items()
        for heavy, importer in seen
    ]


def model_faults(stages: Stages, registry: Path) -> list[Fault]:
    """Faults of the registry, and default models that are not in it or not free for commercial use."""
    where = f"{registry.parent.name}/{registry.name}"
    try:
        if faults := validate_registry(registry, ()):
            return [Fault(where, "", fault, "complete the entry; the head of the file explains the keys") for fault in faults]
    except OSError as error:
        return [Fault(where, "", f"cannot be read: {error.strerror}", "restore the file")]
    fix = f"register the model in {where}, or choose one that is free for commercial use"
    return [
        Fault(f"deployments/{key}.py", "default models", fault, fix)
        for key, config in _default_configs(stages)
        for fault in validate_registry(registry, models_of(config))
    ]


def models_of(config: StageConfig) -> list[str]:
    """The models a stage with this configuration may load, by its ``model`` and ``models``."""
    named = [getattr(config, "model", None), *(getattr(config, "models", None) or ())]
    return [name for name in named if isinstance(name, str)]


def _keys() -> list[str]:
    # By path, without importing the package of a room: that may be what is broken.
    return [
        f"{room.name}/{module.name}"
        for root in deployments.__path__
        for room in pkgutil.iter_modules([root])
        if room.ispkg
        for module in pkgutil.iter_modules([str(Path(root) / room.name)])
    ]


def _class_faults(stage: AnyStage, where: str) -> list[Fault]:
    faults = []
    if missing := sorted(getattr(stage, "__abstractmethods__", ())):
        faults.append(Fault(where, stage.__name__, f"has no {', '.join(missing)}", "define it"))
    try:
        stage.config_class()
    except ValidationError as error:
        fix = "give it a default; a stage must start without user_config"
        faults += from_pydantic(error, where, [stage.config_class.__name__], fix=fix)
    return faults


def _default_configs(stages: Stages) -> Iterable[tuple[str, StageConfig]]:
    for key, stage in stages.found.items():
        try:
            yield key, stage.config_class()
        except ValidationError:
            continue  # is a fault of its class already


def _reason(error: Exception) -> str:
    text = str(error.args[0]) if error.args else ""
    return text if type(error) is LookupError else f"{type(error).__name__}: {text}"
