"""Try a model in the stage that is to run it, in a process of its own: weights of strangers may crash or hang it.

``python -m ops.models.trial STAGE MODEL RESULT``, with the model registered in ``VISION_MODELS_FILE``, writes a
``Trial`` as JSON to the file RESULT.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel

from deployments.serving.catalog import AnyStage, find_stage
from vision.errors import StageError
from vision.weights import Model, load_local
from vision.weights.local import write_entry

LIMIT_S: Final = 900.0
"""Of a trial; the first start of a large model converts it for its engine, which takes minutes."""
ROUNDS: Final = 3
STORES: Final = ("VISION_OBJECTS_URL", "VISION_DOCUMENTS_URL", "VISION_VECTORS_URL", "VISION_CACHE_URL")
"""A trial has embedded stores in a folder of its own, and leaves those of the service alone."""
SHOWN: Final = ("method", "engine", "device", "input_size", "embedding_dim", "expressions", "accuracy", "worth", "text")
"""What a stage says about its model that helps to decide on it."""


class Trial(BaseModel):
    """``fault``: why the stage cannot use the model; empty when it can. ``load_s``: seconds; ``item_ms``: milliseconds
    of one item, alone. ``info``: what the stage says of the model."""

    fault: str = ""
    load_s: float = 0.0
    item_ms: float = 0.0
    info: dict[str, Any] = {}


def try_stage(stage_class: AnyStage, name: str, **options: Any) -> Trial:
    """Load a registered model in a stage, and run the samples of the stage through it, in this process.

    ``options``: more of the stage's configuration.
    """
    assert stage_class.hub is not None
    started = time.monotonic()
    try:
        stage = stage_class(stage_class.config_class.model_validate({"models": [name], **options}))
        stage.load()
        load_s = time.monotonic() - started
        times = []
        samples = stage_class.hub.samples()
        for _ in range(ROUNDS):
            for sample in samples:
                started = time.monotonic()
                (result,) = stage.predict_batch([stage.prepare(sample)])
                times.append(time.monotonic() - started)
                if isinstance(result, StageError):
                    return Trial(fault=result.message)
                if not finite(result):
                    return Trial(fault="its outputs are not finite numbers")
    except StageError as error:
        return Trial(fault=error.message)
    except Exception as error:
        return Trial(fault=f"{type(error).__name__}: {str(error)[:500]}")
    info = {key: value for key, value in stage.info().items() if key in SHOWN}
    return Trial(load_s=round(load_s, 1), item_ms=round(1000 * min(times), 1), info=info)


def finite(result: Any) -> bool:
    """Return whether every number in a result of a stage is finite."""
    if isinstance(result, float):
        return math.isfinite(result)
    if isinstance(result, np.ndarray):
        return bool(np.isfinite(result).all())
    if isinstance(result, dict):
        return all(map(finite, result.values()))
    if isinstance(result, (list, tuple)):
        return all(map(finite, result))
    return not is_dataclass(result) or all(finite(getattr(result, field.name)) for field in fields(result))


def try_model(stage_key: str, name: str, model: Model, local: Path) -> Trial:
    """Return the trial of a model that is not registered yet, in a process of its own.

    ``local``: the local models file, which stays as it is.
    """
    with tempfile.TemporaryDirectory(prefix="visiongraph-trial-") as folder:
        registry, result = Path(folder) / "models.yaml", Path(folder) / "result.json"
        for known, entry in (load_local(local).root | {name: model}).items():
            write_entry(registry, known, as_entry(entry))
        command = [sys.executable, "-m", "ops.models.trial", stage_key, name, str(result)]
        environment = {name: value for name, value in os.environ.items() if name not in STORES}
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
        environment |= {"VISION_MODELS_FILE": str(registry), "VISION_HOME": folder, "PYTHONPATH": path}
        try:
            done = subprocess.run(  # noqa: S603 (an argument list of this project)
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Trial(fault=f"it took more than {LIMIT_S / 60:.0f} minutes to load and to try")
        if not result.is_file():
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
            return Trial(fault=f"the process that tried it ended with {done.returncode}: {last[:300]}")
        return Trial.model_validate_json(result.read_text(encoding="utf-8"))


def as_entry(model: Model) -> dict[str, Any]:
    """Return a model as it stands in a models file."""
    entry = model.model_dump(mode="json", exclude_defaults=True)
    entry["files"] = {name: spec.model_dump(exclude_none=True) for name, spec in model.files.items()}
    entry["sources"] = [
        {source.kind: source.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)}
        for source in model.sources
    ]
    return entry


if __name__ == "__main__":
    key, registered, target = sys.argv[1:]
    Path(target).write_text(try_stage(find_stage(key), registered).model_dump_json(), encoding="utf-8")
    # Threads of engines must not keep the process.
    os._exit(0)
