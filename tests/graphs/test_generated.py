"""The signal of generated pictures: it makes a verdict alone, says nothing when it sees nothing, and may be missing."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
from PIL import Image

from graphs.authenticity.findings import Absent, ImageFindings
from graphs.authenticity.fusion import fuse
from tests.dummies.forensics import DummyGenerated
from tests.graphs.authenticity import AuthenticityService, film, saved, scene, serving_authenticity
from tests.graphs.harness import settings_in
from tests.graphs.photos import stage_replaced
from tests.tolerances import decimals
from vision.errors import ModelNotLoaded, ProcessingFailed


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuthenticityService]:
    with settings_in(tmp_path_factory.mktemp("generated")) as config:
        async with serving_authenticity(config, DummyGenerated) as made:
            yield made


def made_by_a_generator(*people: str, chance: float = 0.9, seed: int = 1) -> Image.Image:
    """Return a scene whose last pixels are as blue as the dummy wants them for this chance."""
    pixels = np.array(scene(*people, seed=seed))
    pixels[-8:, -8:] = (0, 0, round(chance * 255))
    return Image.fromarray(pixels)


async def test_a_generated_picture_is_manipulated_whatever_the_others_say(service: AuthenticityService) -> None:
    body = await service.judged("image/", saved(made_by_a_generator("ada")))
    generated, visual, forensic = (body["signals"][name] for name in ("generated", "visual", "forensic"))
    assert generated["score"] == pytest.approx(230 / 255, abs=decimals(4))
    assert (generated["weight"], generated["effective_weight"]) == (1, 1)
    assert (visual["effective_weight"], forensic["effective_weight"]) == (0, 0)
    assert (generated["model"], list(generated["opinions"])) == ("dummy@00000000", ["dummy@00000000"])
    assert (body["risk_score"], body["classification"]) == (pytest.approx(90.2, abs=decimals(1)), "MANIPULATED")
    assert "The whole picture resembles the work of a generator" in body["explanation"]["factors"]


async def test_a_picture_that_shows_no_generator_is_judged_as_without_the_signal(service: AuthenticityService) -> None:
    data = saved(scene("ada", "bob"))
    body = await service.judged("image/", data)
    with stage_replaced(service, "forensics/generated", ModelNotLoaded("no weights")):
        without = await service.judged("image/", data)
    assert body["signals"]["generated"]["score"] == 0
    assert body["signals"]["generated"]["effective_weight"] == 0
    for name in ("risk_score", "classification", "confidence"):
        assert body[name] == without[name]
    assert "unavailable" not in body
    assert without["unavailable"] == {"signals.generated": "no weights"}
    assert without["signals"]["generated"]["unavailable"] == "no weights"
    assert any("was not checked" in factor for factor in without["explanation"]["factors"])


async def test_a_model_that_fails_is_a_fault_and_named(service: AuthenticityService) -> None:
    with stage_replaced(service, "forensics/generated", ProcessingFailed("it failed.")):
        body = await service.judged("image/", saved(scene("ada")))
    assert (body["confidence"], body["signals"]["generated"]["score"]) == ("LOW", None)
    assert "No generated signal: it failed" in body["explanation"]["factors"]


async def test_a_film_of_generated_frames(service: AuthenticityService) -> None:
    frames = [made_by_a_generator("ada", chance=0.98, seed=place) for place in range(12)]
    body = await service.judged("video/", film(frames), num_frames=4)
    assert body["signals"]["generated"]["score"] > 0.8
    assert body["classification"] == "MANIPULATED"
    assert {frame["classification"] for frame in body["frame_analysis"]} == {"MANIPULATED"}
    assert any("work of a generator (the highest 1 of 4" in factor for factor in body["explanation"]["factors"])


def test_the_higher_of_two_questions_makes_the_verdict() -> None:
    both = fuse({"visual": 0.82, "forensic": 0.71, "generated": 0.05})
    assert both == fuse({"visual": 0.82, "forensic": 0.71})
    alone = fuse({"visual": 0.2, "forensic": 0.2, "generated": 0.95})
    assert alone is not None
    assert (alone.risk_score, alone.weights) == (95.0, {"generated": 1.0})
    only = fuse({"generated": 0.3})
    assert only is not None
    assert only.risk_score == 30.0


def test_its_missing_model_is_no_fault_of_the_others() -> None:
    absent = Absent("no weights", fault=False, missing=True)
    seen = Absent("there is no face", fault=False)
    findings = ImageFindings((), seen, seen, absent)
    assert (findings.faults, findings.unavailable) == ({}, {"generated": absent})
