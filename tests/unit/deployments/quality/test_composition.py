"""quality/composition: the stage around ``vision.quality.composition``."""

import pickle

import pytest

from deployments.quality.composition import CompositionAnalyzer
from deployments.serving.catalog import local_handle
from tests.unit.vision.quality.test_composition import disc, plain
from vision.quality.composition import TAGS, Composition, analyze


async def test_the_stage_answers_each_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = await local_handle(CompositionAnalyzer, {})
    image = disc(1 / 3, 1 / 3)
    image.flags.writeable = False
    composition = await handle((image, ()))
    assert isinstance(composition, Composition)
    assert composition == analyze(image, ())
    assert pickle.loads(pickle.dumps(composition)) == composition
    stage = CompositionAnalyzer(CompositionAnalyzer.config_class())
    stage.load()
    assert set(stage.info()["tags"]) == set(TAGS)
    assert stage.predict_batch([stage.prepare((plain(), ())), stage.prepare((image, ()))])[1] == composition
