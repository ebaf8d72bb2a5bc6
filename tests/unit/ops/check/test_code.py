"""Faults of settings, stages and the registry, each provoked in a folder of its own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import deployments
from ops.check import Fault
from ops.check.code import Code, environment_faults, import_faults, model_faults, stage_faults
from ops.check.imports import heavy_imports
from vision.weights.registry import MODELS_YAML


def test_unknown_and_invalid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_MAX_IMAGE_BYTE", "1")
    assert "VISION_MAX_IMAGE_BYTE" in environment_faults()[0].what
    monkeypatch.setenv("VISION_MAX_IMAGE_BYTES", "s3cret")
    [fault] = environment_faults()
    assert fault.place == "VISION_MAX_IMAGE_BYTES"
    assert "s3cret" not in str(fault)


STAGE = """
from deployments.serving.stage import Stage, StageConfig
{imports}

class Config(StageConfig):
    models: list[str] = {models}
    {extra}

class Found(Stage):
    key = "testroom/{key}"
    config_class = Config
    def load(self): ...
    {method}
"""
PREDICT = "def predict_batch(self, items): return items"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes modules of a room of its own."""
    folder = tmp_path / "testroom"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.setattr(deployments, "__path__", [str(tmp_path)])

    def write(name: str, text: str = STAGE, **values: str) -> None:
        blanks = {"imports": "", "models": "[]", "extra": "", "method": PREDICT, "key": name}
        (folder / f"{name}.py").write_text(text.format(**{**blanks, **values}))

    yield write
    for module in [name for name in sys.modules if name.startswith("deployments.testroom")]:
        del sys.modules[module]


def test_broken_stages(room: Callable[..., None]) -> None:
    room("good")
    room("helper", "THRESHOLD = 1")
    room("gone", imports="import nowhere_to_be_found")
    room("typo", "def f(:")
    room("named", key="other")
    room("bare", method="pass")
    room("double", method=f"{PREDICT}\n    def predict(self, item): return item")
    room("demanding", extra="threshold: float")
    code = Code()
    found = {fault.where.rpartition("/")[2]: fault.what for fault in stage_faults(code)}
    assert found.pop("gone.py") == "does not import: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    assert found.pop("typo.py").startswith("does not import: SyntaxError")
    assert "defines the key 'testroom/other'" in found.pop("named.py")
    assert found.pop("bare.py").endswith("Found defines neither predict nor predict_batch; a stage defines one of them")
    assert found.pop("double.py").endswith("Found defines both predict and predict_batch; a stage defines one of them")
    assert found.pop("demanding.py") == "Field required"
    assert "defines no stage" in found.pop("helper.py")
    assert found == {}
    assert code.stages.keys() == {"testroom/good", "testroom/demanding"}
    assert code.broken == {f"testroom/{name}" for name in ("gone", "typo", "named", "helper", "bare", "double")}


def test_default_models_must_be_registered_and_free(room: Callable[..., None], tmp_path: Path) -> None:
    models = yaml.safe_load(MODELS_YAML.read_text())
    models["dinov2-small"]["commercial"] = False
    registry = tmp_path / "models.yaml"
    registry.write_text(yaml.safe_dump(models))
    room("modest", models="['dinov3-vits16']")
    room("greedy", models="['dinov2-small', 'unheard-of']")
    code = Code()
    stage_faults(code)
    found = model_faults(code, registry)
    assert {fault.where for fault in found} == {"deployments/testroom/greedy.py"}
    assert "dinov2-small: used as a default but not free for commercial use" in found[0].what
    assert "unheard-of: used as a default but not registered" in found[1].what


def test_a_registry_without_licences(tmp_path: Path) -> None:
    models = yaml.safe_load(MODELS_YAML.read_text())
    for model in models.values():
        del model["licence"]
    registry = tmp_path / "models.yaml"
    registry.write_text(yaml.safe_dump(models))
    found = {fault.what for fault in model_faults(Code(), registry)}
    assert found == {f"{name}.licence: Field required" for name in models}


def test_heavy_imports_are_found_with_the_module_that_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "by_itself.py").write_text("import torch.nn")
    (tmp_path / "through_helper.py").write_text("print('hello')\nfrom helping import load")
    (tmp_path / "helping.py").write_text("try:\n    import sklearn\nexcept ImportError:\n    pass\n")
    (tmp_path / "late.py").write_text("def load():\n    import torch\n")
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found")
    assert heavy_imports(["by_itself", "through_helper", "late", "broken"]) == {
        "by_itself": [["torch", "by_itself"]],
        "through_helper": [["sklearn", "helping"]],
    }
    (tmp_path / "deadly.py").write_text("import os\nprint('bye', flush=True)\nos._exit(3)")
    with pytest.raises(RuntimeError, match="exit status 3"):
        heavy_imports(["deadly"])


def test_heavy_stages_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.check.code.heavy_imports", lambda modules: {"graphs.web.gateway": [("torch", "graphs.x")]})
    assert import_faults(Code()) == [
        Fault(
            "graphs/web/gateway.py",
            "by graphs.x",
            "imports torch at module level",
            "import it inside load, so that the command line and the gateway start without it",
        )
    ]
