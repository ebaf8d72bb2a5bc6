"""Find faults of settings, stages, models and configurations before anything is deployed."""

from collections.abc import Sequence
from pathlib import Path

from ops.check.code import Code, environment_faults, import_faults, model_faults, stage_faults
from ops.check.fault import Fault, Report
from ops.check.serving import check_application, check_wiring, dicts, read
from ops.plan.choice import CONFIGS, shown
from vision.weights.registry import MODELS_YAML

__all__ = ["CONFIGS", "Fault", "check_all", "faults"]


def faults(paths: Sequence[Path] = CONFIGS, registry: Path = MODELS_YAML) -> list[Fault]:
    """Return every fault of the environment, the code, the model registry and these Serve configurations."""
    return check_all(paths, registry)[1]


def check_all(paths: Sequence[Path] = CONFIGS, registry: Path = MODELS_YAML) -> tuple[Code, list[Fault]]:
    """Return stages and models, and every fault as ``faults`` does."""
    code = Code()
    faults = [*environment_faults(), *stage_faults(code), *import_faults(code), *model_faults(code, registry)]
    for path in paths:
        report = Report(shown(path))
        if (data := read(path, report)) is not None:
            apps = [check_application(raw, code, report) for raw in dicts(data.get("applications"))]
            check_wiring(apps, code, report)
        faults += report.faults
    return code, faults
