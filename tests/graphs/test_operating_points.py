"""``max_false_alarms``: the threshold that keeps it, what is left of recall, and where it is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from graphs.authenticity.findings import FORENSIC, UNNAMED
from tests.graphs.authenticity import (
    BASE,
    AuthenticityService,
    detail_of,
    film,
    saved,
    scene,
    serving_authenticity,
    tone,
    wav,
)
from tests.graphs.harness import settings_in
from tests.graphs.photos import stage_replaced
from vision.errors import ModelNotLoaded

VISUAL = "dummy@00000000"
GENUINE = [5.0 + 0.1 * place for place in range(300)]
"""From 5 to 34.9."""


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuthenticityService]:
    home = tmp_path_factory.mktemp("points")
    own = home / "own.yaml"
    face = {"visual": VISUAL, "forensic": FORENSIC}
    fakes = {"swapped": [60.0] * 30, "spliced": [20.0] * 10 + [80.0] * 10}
    entries = [
        {"media": "image", "signals": face, "measured_on": "dummies", "genuine": GENUINE, "fakes": fakes},
        {"media": "audio", "signals": {"audio": UNNAMED}, "measured_on": "tones", "genuine": [5.0] * 40, "fakes": {}},
    ]
    own.write_text(yaml.safe_dump(entries))
    with settings_in(home, reliability_file=own) as config:
        async with serving_authenticity(config) as made:
            yield made


@pytest.mark.parametrize(("rate", "alarms"), [(0.01, 0), (0.05, 8), (0.2, 48)])
async def test_a_picture_is_held_against_the_threshold_that_keeps_the_rate(
    service: AuthenticityService, rate: float, alarms: int
) -> None:
    body = await service.judged("image/", saved(scene("ada", "bob")), max_false_alarms=rate)
    point = body["operating_point"]
    assert (point["max_false_alarms"], point["false_alarms"]) == (rate, alarms)
    assert point["threshold"] == pytest.approx(35.0 - 0.1 * alarms)
    assert point["false_alarm_bound"] <= rate
    assert point["flagged"] == (body["risk_score"] >= point["threshold"])
    assert (point["recall"], point["recall_by_kind"]) == (0.75, {"spliced": 0.5, "swapped": 1.0})
    assert (point["genuine_samples"], point["fake_samples"], point["measured_on"]) == (300, 50, "dummies")
    assert point["signals"] == {"visual": VISUAL, "forensic": FORENSIC}


async def test_without_asking_there_is_none(service: AuthenticityService) -> None:
    assert "operating_point" not in await service.judged("image/", saved(scene("ada")))


@pytest.mark.parametrize("rate", [0, 1, -0.1, "few"])
async def test_a_rate_is_between_0_and_1(service: AuthenticityService, rate: float | str) -> None:
    assert "max_false_alarms" in detail_of(await service.send("image/", b"x", max_false_alarms=rate), 422)


async def test_too_few_samples_are_refused_before_the_file_is_read(service: AuthenticityService) -> None:
    told = detail_of(await service.send("image/", b"no picture", max_false_alarms=0.001), 422)
    assert told.startswith("A rate of false alarms of 0.001 cannot be told from 300 genuine samples: that takes 2,995")
    assert "The lowest rate that they can tell is 0.01" in told


async def test_what_was_never_measured_is_refused(service: AuthenticityService) -> None:
    told = detail_of(await service.send("video/", film([scene("ada")] * 3), max_false_alarms=0.1), 422)
    assert told.startswith("False alarms on video files were never measured")
    away = ModelNotLoaded("no weights")
    with stage_replaced(service, "forensics/visual", away):
        told = detail_of(await service.send("image/", saved(scene("ada")), max_false_alarms=0.1), 422)
    assert "a model is missing (visual)" in told


async def test_a_batch_has_a_point_or_a_reason_for_each_picture(service: AuthenticityService) -> None:
    files = [("files", ("a.png", saved(scene("ada")))), ("files", ("b.png", b"no picture"))]
    answer = await service.client.post(f"{BASE}/analyze/image/batch", files=files, params={"max_false_alarms": 0.05})
    first, second = answer.json()["results"]
    assert first["operating_point"]["threshold"] == pytest.approx(34.2)
    assert "operating_point" not in second


async def test_a_voice_of_which_no_fakes_were_measured_has_no_recall(service: AuthenticityService) -> None:
    body = await service.judged("audio/", wav(tone(2, 0.8)), max_false_alarms=0.1)
    assert body["operating_point"]["recall"] is None
    assert body["operating_point"]["flagged"] is True
    silent = await service.judged("audio/", wav(np.zeros(32_000)), max_false_alarms=0.1)
    assert (silent["classification"], "operating_point" in silent) == ("NO_SPEECH", False)


async def test_nothing_found_is_no_evidence(service: AuthenticityService) -> None:
    body = await service.judged("image/", saved(scene("ada")))
    assert (body["classification"], body["confidence"]) == ("AUTHENTIC", "LOW")
    assert any(factor.startswith("That nothing was found proves little") for factor in body["explanation"]["factors"])


async def test_a_file_of_measurements_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- media: stone\n")
    told = r"mine\.yaml has no measurements that can be read"
    with (
        settings_in(tmp_path, reliability_file=tmp_path / "mine.yaml") as config,
        pytest.raises(ValueError, match=told),
    ):
        async with serving_authenticity(config):
            pass
