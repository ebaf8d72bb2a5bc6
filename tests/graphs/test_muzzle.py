"""Verification, encoding and domain check by HTTP: answers, errors, keys, limits."""

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from tests.graphs.conftest import MakeSettings
from tests.graphs.harness import settings_in
from tests.graphs.muzzle import MuzzleService, blank, checked, muzzle, serving_muzzle, text
from tests.graphs.samples import picture
from tests.tolerances import decimals
from vision.muzzle.ensemble import Thresholds

REFERENCES = [text(muzzle(1, photo)) for photo in range(3)]


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MuzzleService]:
    """One service for all requests of this file, which change nothing in its stores."""
    with settings_in(tmp_path_factory.mktemp("muzzle")) as config:
        async with serving_muzzle(config) as made:
            yield made


@pytest.fixture
def service(running: MuzzleService) -> Iterator[MuzzleService]:
    yield running
    running.ensemble.reset()


async def test_the_same_animal_matches(service: MuzzleService) -> None:
    answer = await service.post("predict", reference_photos=REFERENCES, probe_photo=text(muzzle(1, 3)))
    decision, details = answer["decision"], answer["details"]
    assert decision["verdict"] == "MATCH"
    assert decision["score"] == details["ensemble"]["template_vs_probe_cosine"] > 0.95
    assert decision["confidence_label"] in ("GOOD", "EXCELLENT")
    assert [each["model_id"] for each in details["models"]] == [60, 62, 64]
    assert [each["reference_index"] for each in details["models"][0]["reference_vs_probe"]] == [0, 1, 2]
    assert [each["metric"] for each in answer["summary"]["criteria"]] == [
        *("cosine_similarity", "euclidean_distance", "mutual_similarity", "domain_check", "print_match"),
    ]
    thresholds = [each["threshold"] for each in answer["summary"]["criteria"]]
    assert thresholds == [0.62, 0.85, 0.40, 1.0, 8]
    assert service.ensemble.calls  # one call a photo, put together by the handle
    assert service.ensemble.calls == 4


async def test_another_animal_does_not(service: MuzzleService) -> None:
    answer = await service.post("predict", reference_photos=REFERENCES, probe_photo=text(muzzle(2)))
    assert answer["decision"]["verdict"] == "NO_MATCH"
    assert answer["decision"]["confidence"] == 0
    assert answer["decision"]["confidence_label"] == "NOT_THE_ANIMAL"
    assert "does not match" in answer["decision"]["explanation"]


async def test_the_print_is_told_and_drawn_on_request(service: MuzzleService) -> None:
    body = {"reference_photos": REFERENCES, "probe_photo": text(muzzle(1, 3))}
    plain = await service.post("predict", **body)
    assert plain["print"]["matches_png"] is None
    assert (plain["print"]["inliers"], plain["print"]["threshold"]) == (40, 8)
    assert len(plain["print"]["references"]) == len(plain["print"]["reference_photos"]) == 3
    drawn = await service.post("predict?include=matches", **body)
    assert base64.b64decode(drawn["print"]["matches_png"]).startswith(b"\x89PNG")
    drawn["print"]["matches_png"] = None
    assert drawn == plain
    assert "include" in (await service.post("predict?include=other", 422, **body))["detail"]


async def test_the_quality_of_a_photo_is_told_on_request(service: MuzzleService) -> None:
    photo = text(picture(1001, size=(48, 36)))
    assert (await service.post("domain-check", photo=photo))["quality"] is None
    quality = (await service.post("domain-check?include=quality", photo=photo))["quality"]
    assert (quality["usable"], quality["reasons"]) == (
        *(False, ["the muzzle is only about 36 pixels large: come closer"]),
    )


async def test_photos_that_cannot_be_compared(service: MuzzleService) -> None:
    strange = await service.post("predict", reference_photos=REFERENCES, probe_photo=text(blank("red")))
    assert strange["decision"]["verdict"] == "INVALID_INPUT"
    assert "probe photo" in strange["decision"]["explanation"]
    mixed = [REFERENCES[0], text(muzzle(2)), text(muzzle(3))]
    unlike = await service.post("predict", reference_photos=mixed, probe_photo=REFERENCES[0])
    assert unlike["decision"]["verdict"] == "INVALID_INPUT"
    assert not unlike["summary"]["criteria"][2]["passed"]


async def test_a_form_and_json_give_the_same(service: MuzzleService) -> None:
    photos = [muzzle(1, photo) for photo in range(4)]
    asked = await service.post(
        "predict", reference_photos=[text(each) for each in photos[:3]], probe_photo=text(photos[3])
    )
    fields = ["reference_photo_1", "reference_photo_2", "reference_photo_3", "probe_photo"]
    sent = await service.send("predict/file", [(f, data, "x.png") for f, data in zip(fields, photos, strict=True)])
    assert sent == asked
    assert await service.send("domain-check/file", [("photo", photos[0], "x.png")]) == await service.post(
        "domain-check", photo=text(photos[0])
    )


async def test_codes_of_several_photos(service: MuzzleService) -> None:
    prefixed = "data:image/png;base64," + text(muzzle(2))
    answer = await service.post("encode", photos=[REFERENCES[0], prefixed, text(blank("green"))])
    images = answer["images"]
    assert [each["index"] for each in images] == [0, 1, 2]
    assert [each["filename"] for each in images] == ["photo_0", "photo_1", "photo_2"]
    assert [each["decision"]["verdict"] for each in images] == ["VALID_MUZZLE", "VALID_MUZZLE", "INVALID_INPUT"]
    for image in images:
        codes = np.array([each["code"] for each in image["model_codes"]])
        assert codes.shape == (3, 128)
        np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=decimals(4))
        assert image["ensemble_code"] == codes.reshape(-1).tolist()
    files = [("photos", muzzle(2), "C:\\cows\\left side.PNG"), ("photos", muzzle(1), 'b "1"\u200d.png')]
    sent = await service.send("encode/file", files)
    assert [each["filename"] for each in sent["images"]] == ["left side.PNG", 'b "1"\u200d.png']
    assert sent["images"][0]["ensemble_code"] == images[1]["ensemble_code"]


async def test_a_domain_check_tells_every_criterion(service: MuzzleService) -> None:
    good = await service.post("domain-check", photo=REFERENCES[0])
    assert good["decision"]["verdict"] == "VALID_MUZZLE"
    assert good["embedding_variance"] == pytest.approx(3 / 384, abs=2 * decimals(4))
    metrics = [each["metric"] for each in good["summary"]["criteria"]]
    assert metrics == ["embedding_variance", "cross_model_consistency", "domain_distance"]
    bad = await service.post("domain-check", photo=text(blank("blue")))
    assert bad["decision"]["verdict"] == "INVALID_INPUT"
    assert "domain_distance" in bad["decision"]["explanation"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"photos": []}, "photos"),
        ({"photos": [REFERENCES[0]] * 13}, "photos"),
        ({"photos": ["not base64!"]}, "photos[0] is no base64"),
        ({"photos": ["data:image/png;base64,"]}, "photos[0] is neither"),
        ({"photos": [text(b"GIF89a and so on")]}, "neither a JPEG nor a PNG"),
        (
            {"photos": [REFERENCES[0], text(b"\x89PNG\r\n\x1a\n and then nothing")]},
            "photos[1]: This image cannot",
        ),
        ({"photos": [text(blank("red", side=20))]}, "20 x 20 pixels"),
        ({"photos": [text(blank("black"))]}, "photos[0]: This dummy cannot see in the dark."),
        ({"photo": REFERENCES[0]}, "photos"),
        ({"photos": [1]}, "photos"),
    ],
)
async def test_what_is_wrong_with_a_request(service: MuzzleService, body: dict[str, object], words: str) -> None:
    answer = await service.post("encode", 422, **body)
    assert words in answer["detail"]


async def test_what_is_wrong_with_a_form(service: MuzzleService) -> None:
    photo = muzzle(1)
    assert (
        "reference_photo_2" in (await service.send("predict/file", [("reference_photo_1", photo, "x")], 422))["detail"]
    )
    many = await service.send("encode/file", [("photos", photo, "x")] * 13, 422)
    assert "the limit is 12" in many["detail"]
    assert "cow.gif" in (await service.send("domain-check/file", [("photo", b"GIF89a", "cow.gif")], 422))["detail"]
    broken = await service.client.post(
        "/encode/file", content=b"--x\r\nnothing", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    checked(broken, "/encode/file", 422)
    checked(await service.client.post("/encode", content=b"{"), "/encode", 422)


async def test_a_photo_or_a_request_that_is_too_large(settings_for: MakeSettings) -> None:
    async with serving_muzzle(settings_for(max_muzzle_photo_bytes=1000)) as small:
        assert "limit is 1,000" in (await small.post("domain-check", 422, photo=text(bytes(1200))))["detail"]
        whole = await small.post("encode", 422, photos=["A" * 200_000])
        assert "at most" in whole["detail"]
        file = await small.send("domain-check/file", [("photo", bytes(1200), "x.png")], 422)
        assert "limit is 1,000" in file["detail"]


async def test_some_of_the_models(service: MuzzleService) -> None:
    service.ensemble.ids = (60, 64)
    health = checked(await service.client.get("/health"), "/health", 200)
    assert (health["status"], health["models_loaded"]) == ("degraded", [60, 64])
    answer = await service.post("predict", reference_photos=REFERENCES, probe_photo=text(muzzle(1, 3)))
    assert answer["decision"]["verdict"] == "MATCH"
    assert [each["model_id"] for each in answer["details"]["models"]] == [60, 64]
    (image,) = (await service.post("encode", photos=REFERENCES[:1]))["images"]
    assert len(image["ensemble_code"]) == 256


async def test_none_of_the_models(service: MuzzleService) -> None:
    service.ensemble.ids = ()
    health = checked(await service.client.get("/health"), "/health", 200)
    assert (health["status"], health["models_loaded"]) == ("degraded", [])
    for route, body in (
        ("predict", {"reference_photos": REFERENCES, "probe_photo": REFERENCES[0]}),
        ("encode", {"photos": REFERENCES}),
        ("domain-check", {"photo": REFERENCES[0]}),
    ):
        await service.post(route, 503, **body)


async def test_all_of_the_models(service: MuzzleService) -> None:
    health = checked(await service.client.get("/health"), "/health", 200)
    assert health["models_loaded"] == [60, 62, 64]


async def test_thresholds_of_the_environment_come_first(settings_for: MakeSettings) -> None:
    body = {"reference_photos": REFERENCES, "probe_photo": text(muzzle(1, 3))}
    async with serving_muzzle(settings_for(predict_cosine_threshold=0.9999, predict_print_min=12)) as strict:
        strict.ensemble.thresholds = Thresholds(cosine=0.5, distance=0.01, mutual=0.3)
        answer = await strict.post("predict", **body)
        thresholds = [each["threshold"] for each in answer["summary"]["criteria"]]
        assert thresholds == [0.9999, 0.01, 0.3, 1.0, 12]
        assert answer["decision"]["verdict"] == "NO_MATCH"


async def test_models_that_change_within_a_request(service: MuzzleService, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = service.context.stages["muzzle/ensemble"]
    before = handle._call
    calls = count()

    async def changing(items: list[Any], deadline: float | None) -> list[Any]:
        return [replace(each, model_version=f"dummy@{next(calls)}") for each in await before(items, deadline)]

    monkeypatch.setattr(handle, "_call", changing)
    assert "exchanged" in (await service.post("encode", 503, photos=REFERENCES))["detail"]


async def test_a_key_is_needed_where_there_is_one(settings_for: MakeSettings) -> None:
    async with serving_muzzle(settings_for(api_key="moo")) as closed:
        body = {"photo": REFERENCES[0]}
        checked(await closed.client.post("/domain-check", json=body), "/domain-check", 401)
        wrong = await closed.client.post("/domain-check", json=body, headers={"x-api-key": "baa"})
        checked(wrong, "/domain-check", 401)
        right = await closed.client.post("/domain-check", json=body, headers={"X-API-Key": "moo"})
        checked(right, "/domain-check", 200)
        assert (await closed.client.get("/health")).status_code == 200


async def test_thirty_requests_a_minute_over_all_routes(settings_for: MakeSettings) -> None:
    async with serving_muzzle(settings_for(rate_limit_enabled=True, cache_url="")) as limited:
        routes = ["predict", "encode"] * 15
        answers = [await limited.client.post(f"/{route}", json={}) for route in routes]
        assert {answer.status_code for answer in answers} == {422}
        refused = await limited.client.post("/domain-check/file", files={"photo": ("x", muzzle(1))})
        assert "30 requests a minute" in checked(refused, "/domain-check/file", 429)["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert (await limited.client.get("/animals/unknown")).status_code == 404
