"""Check the environment and the code: settings, stages, and the models that they load."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from configs.settings import PREFIX, Settings, settings, variables
from deployments.serving.catalog import AnyStage, find_stage, stage_keys
from deployments.serving.stage import StageConfig, models_of
from ops.check.fault import Fault, Report
from ops.check.imports import heavy_imports
from vision.weights import RegistryInvalid, load_local, load_registry, validate_registry

GRAPH_MODULES = {"graphs.web.gateway": "graphs/web/gateway.py", "graphs.jobs.worker": "graphs/jobs/worker.py"}


@dataclass
class Code:
    """Everything that configurations can name; ``broken`` are keys of modules that define no valid stage."""

    stages: dict[str, AnyStage] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    models: set[str] | None = None
    """Names in the registry; None when the registry has faults."""

    def default_configs(self) -> Iterator[tuple[str, StageConfig]]:
        """Yield the configuration of each stage without user_config, where it is valid."""
        for key, stage in self.stages.items():
            try:
                yield key, stage.config_class.model_validate({})
            except ValidationError:
                continue  # a fault of its class, reported there


def environment_faults() -> list[Fault]:
    """Check the settings. Their values are never shown: some are secrets."""
    report = Report("environment")
    try:
        Settings()
    except ValidationError as error:
        for entry in error.errors(include_url=False, include_input=False):
            setting = str(next(iter(entry["loc"]), ""))
            variable = setting if setting in variables() else PREFIX + setting.upper()
            what = entry["msg"].removeprefix("Value error, ")
            report.at(variable).add(what, "correct or unset it; configs/settings.py has all of them")
    return report.faults


def stage_faults(code: Code) -> list[Fault]:
    """Import every module of every room into ``code``; a failure does not stop the others."""
    faults = []
    for key in stage_keys():
        report = Report(f"deployments/{key}.py")
        try:
            importlib.import_module(f"deployments.{key.replace('/', '.')}")
            code.stages[key] = find_stage(key)
        except LookupError as error:
            report.add(_reason(error), "correct the module")
        except Exception as error:
            report.add(f"does not import: {_reason(error)}", "correct the module")
        else:
            _check_class(code.stages[key], report)
        if key not in code.stages:
            code.broken.add(key)
        faults += report.faults
    return faults


def import_faults(code: Code) -> list[Fault]:
    """Find stages, and modules of the gateway and the worker, that import a heavy library at module level."""
    keys = sorted(code.stages)
    places = {f"deployments.{key.replace('/', '.')}": f"deployments/{key}.py" for key in keys}
    places |= GRAPH_MODULES
    fix = "import it inside load, so that the command line and the gateway start without it"
    try:
        heavy = heavy_imports(places)
    except RuntimeError as error:
        what = f"importing the stages kills the interpreter: {error}"
        return [Fault("deployments", "", what, "import them one by one")]
    return [
        Fault(places[module], f"by {importer}", f"imports {library} at module level", fix)
        for module, seen in heavy.items()
        for library, importer in seen
    ]


def model_faults(code: Code, registry: Path) -> list[Fault]:
    """Check the registry, and that default models are in it and free for commercial use."""
    report = Report(f"{registry.parent.name}/{registry.name}")
    try:
        for fault in validate_registry(registry, ()):
            report.add(fault, "correct the entry; the head of the file explains its keys")
    except OSError as error:
        report.add(f"cannot be read: {error.strerror}", "restore the file")
    if report.faults:
        return report.faults
    local = settings().local_models
    try:
        code.models = {*load_registry(registry).root, *load_local(local).root}
    except RegistryInvalid:
        report = Report(str(local))
        for fault in validate_registry(local, ()):
            report.add(fault, "correct or remove the entry; `visiongraph models add` writes such entries")
        return report.faults
    fix = f"register it in {report.where}, or choose a model that is free for commercial use"
    return [
        Fault(f"deployments/{key}.py", "default models", fault, fix)
        for key, config in code.default_configs()
        for fault in validate_registry(registry, models_of(config))
    ]


def _check_class(stage: AnyStage, report: Report) -> None:
    if missing := sorted(getattr(stage, "__abstractmethods__", ())):
        report.at(stage.__name__).add(f"has no {', '.join(missing)}", "define it")
    try:
        stage.config_class.model_validate({})
    except ValidationError as error:
        fix = "give it a valid default: a stage must start without user_config"
        report.at(stage.config_class.__name__).add_invalid(error, fix=fix)


def _reason(error: Exception) -> str:
    text = str(error.args[0]) if error.args else ""
    return text if type(error) is LookupError else f"{type(error).__name__}: {text}"
