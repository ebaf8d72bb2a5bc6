"""What every network is made by can be sent to the process that converts it."""

import pickle
from typing import Any

import pytest

from deployments.serving.catalog import find_stages
from deployments.serving.engine_stage import EngineStage
from vision import engines
from vision.errors import ModelNotLoaded

STAGES = [key for key, stage in find_stages().items() if issubclass(stage, EngineStage)]


@pytest.mark.parametrize("key", STAGES)
def test_a_network_is_converted_in_a_process_of_its_own(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_class = find_stages()[key]
    sent: list[Any] = []

    class Seen(Exception):
        pass

    def build(wanted: str, make_module: Any, **_: Any) -> None:
        sent.append(pickle.dumps(make_module))
        raise Seen

    monkeypatch.setattr("deployments.serving.engine_stage.build_engine", build)
    monkeypatch.setattr(engines, "build_engine", build)
    stage: Any = stage_class(stage_class.config_class())
    try:
        with pytest.raises(Seen):
            stage.load()
    except ModelNotLoaded as error:
        pytest.skip(error.message)
    assert callable(pickle.loads(sent[0]))
