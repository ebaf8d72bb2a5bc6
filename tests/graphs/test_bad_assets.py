"""One bad asset of many costs itself: unknown, deleted, lost, audio or unreadable, it has an error, others results."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from stores.errors import StoreError
from tests.graphs.conftest import Service
from tests.graphs.harness import body_of
from tests.graphs.photos import HAPPY, SAD, data_of, faces, photo_error, replace_stage, textured
from tests.graphs.samples import audio, error_of, picture, plain, video
from tests.graphs.test_failing_stages import AWAY, FULL, failing
from vision.errors import StageError, StageOverloaded, StageUnavailable

UNKNOWN = "0" * 32
MALFORMED = ["", "not-an-id", "../../etc/passwd", "\x00", "é" * 40, "x" * 3000]
Body = dict[str, Any]
Bodies = Callable[[str, list[str]], Body]
"""The body of a request with a good reference and these others."""

RANKED: dict[str, tuple[Bodies, str]] = {
    "find-best-match": (
        lambda reference, ids: {"reference_asset_id": reference, "candidate_asset_ids": ids},
        "ranked_results",
    ),
    "semantic-search": (
        lambda reference, ids: {"query_asset_id": reference, "dataset_asset_ids": ids, "top_k": 1000},
        "search_results",
    ),
    "batch-similarity": (lambda _, ids: {"asset_ids": ids}, "similarity_matrix"),
    "group-by-character": (lambda _, ids: {"asset_ids": ids}, "character_groups"),
    "feature-clustering": (lambda _, ids: {"asset_ids": ids, "n_clusters": 2}, "clusters"),
    "anomaly-detection": (
        lambda _, ids: {"reference_asset_ids": ids, "test_asset_ids": ids},
        "anomaly_results",
    ),
}
"""Routes that list what failed in ``failed_assets``, and the field that has the results."""
COMPARED: dict[str, tuple[Bodies, str, str]] = {
    "character-matching": (
        lambda reference, ids: {"reference_asset_id": reference, "test_asset_ids": ids},
        "consistency_results",
        "test_asset_id",
    ),
    "validate-shot-consistency": (
        lambda reference, ids: {"character_reference_asset_id": reference, "shot_asset_ids": ids},
        "shot_validations",
        "shot_asset_id",
    ),
    "reference-enforcement": (
        lambda reference, ids: {"master_reference_asset_id": reference, "generated_asset_ids": ids},
        "compliance_results",
        "generated_asset_id",
    ),
    "batch-quality-check": (lambda _, ids: {"asset_ids": ids}, "quality_results", "asset_id"),
}
"""Routes that have one result for each asset in order, the field of the results, and that of the id."""
BODIES = {name: each[0] for name, each in (RANKED | COMPARED).items()}
WITH_REFERENCE = ["find-best-match", "semantic-search", *list(COMPARED)[:3]]


@dataclass
class Cast:
    """A reference and others like it that are good, and those that are bad with a word of what is wrong."""

    reference: str
    good: list[str]
    bad: dict[str, str]
    names: dict[str, str | None]

    @property
    def mixed(self) -> list[str]:
        """A bad asset before each good one, then the rest; some of them twice."""
        bad = list(self.bad)
        pairs = [asset_id for pair in zip(bad, self.good, strict=False) for asset_id in pair]
        return [*pairs, *bad[len(self.good) :], pairs[0], pairs[1]]


@pytest.fixture
async def cast(service: Service) -> Cast:
    person = [faces((HAPPY, (100, 10, 120, 49 + more)), size=(260, 200)) for more in (0, 10, 20)]
    other = faces((SAD, (100, 10, 120, 49)), size=(260, 200))
    reference, *same = [await service.upload(data, f"{number}.png") for number, data in enumerate(person)]
    good = [*same, await service.upload(other, "other.png")]
    lost, film = await service.upload(picture(5), "lost.png"), await service.upload(video(6), "film.mp4")
    gone = await service.upload(picture(7), "gone.png")
    sound, dark = await service.upload(audio(), "a.wav"), await service.upload(plain("black"), "dark.png")
    for key in (lost, f"posters/{film}"):
        assert await service.context.objects.delete(key)
    await service.delete(gone)
    return Cast(
        reference,
        good,
        {
            UNKNOWN: "No asset with id",
            lost: "No asset with id",
            film: "No asset with id",
            gone: "No asset with id",
            sound: "audio",
            dark: "see in the dark",
            **dict.fromkeys(MALFORMED, "No asset with id"),
        },
        {lost: "lost.png", film: "film.mp4", sound: "a.wav", dark: "dark.png"},
    )


def without_time(answer: dict[str, Any], *also: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("processing_time", *also)}


@pytest.mark.parametrize("route", RANKED)
async def test_what_failed_is_listed_and_the_rest_is_as_without_it(service: Service, cast: Cast, route: str) -> None:
    body, results = RANKED[route]
    answer = await service.post(route, **body(cast.reference, cast.mixed))
    order = [each for each in dict.fromkeys(cast.mixed) if each in cast.bad]
    assert [failed["asset_id"] for failed in answer["failed_assets"]] == order
    for failed in answer["failed_assets"]:
        assert cast.bad[failed["asset_id"]] in failed["error"]
        assert len(failed["error"]) < 300
    pure = await service.post(route, **body(cast.reference, cast.good))
    assert len(answer[results]) == {"group-by-character": 2, "feature-clustering": 2}.get(route, 3)
    counts = ("total_assets", "dataset_size", "failed_assets")
    assert without_time(answer, *counts) == without_time(pure, *counts)
    for count in counts[:2]:
        if count in answer:
            assert answer[count] == pure[count] + len(cast.bad)


@pytest.mark.parametrize("route", COMPARED)
async def test_each_bad_asset_has_an_error_in_its_place(service: Service, cast: Cast, route: str) -> None:
    body, results, name_of_id = COMPARED[route]
    answer = await service.post(route, **body(cast.reference, cast.mixed))
    pure = await service.post(route, **body(cast.reference, cast.good))
    repeated = route == "validate-shot-consistency"
    wanted = cast.mixed if repeated else list(dict.fromkeys(cast.mixed))
    assert [result[name_of_id] for result in answer[results]] == wanted
    by_id = {result[name_of_id]: without_time(result, "shot_index") for result in pure[results]}
    for result in answer[results]:
        asset_id = result[name_of_id]
        if asset_id in cast.bad:
            assert cast.bad[asset_id] in result["error"]
            assert result["filename"] == cast.names.get(asset_id)
            numbers = set(result) - {name_of_id, "error", "filename", "shot_index"}
            assert {result[name] for name in numbers} == {None}
        else:
            assert without_time(result, "shot_index") == by_id[asset_id]
    good = [each for each in wanted if each not in cast.bad]
    total = {"total_tested", "total_shots", "total_generated", "total_assets"} & set(answer)
    processed = {"processed_successfully", "processed_shots"} & set(answer)
    assert [answer[name] for name in (*total, *processed)] == [len(wanted), len(good)]
    if route == "batch-quality-check":
        assert answer["failed_assets"] == len(cast.bad)
        assert answer["batch_statistics"] == pure["batch_statistics"]
        return
    scores = [
        score
        for result in answer[results]
        if (score := result.get("similarity_score", result.get("compliance_score"))) is not None
    ]
    average = answer.get("average_similarity", answer.get("average_compliance_score"))
    assert average == pytest.approx(np.mean(scores), abs=0.01)
    if route == "character-matching":
        assert answer["same_character_count"] == 2
    elif route == "reference-enforcement":
        assert (answer["compliant_count"], answer["compliance_rate"]) == (2, pytest.approx(2 / 3, abs=1e-4))  # rounded
        assert answer["action_summary"] == {"approve": 2, "review": 0, "regenerate": 1}
    else:
        # One of the two good shots comes twice.
        assert (answer["consistent_shots"], answer["consistency_rate"]) == (3, 0.75)
        assert [shot["shot_index"] for shot in answer[results]] == [*range(len(wanted))]


@pytest.mark.parametrize("route", BODIES)
async def test_when_all_are_bad_each_has_its_error(service: Service, cast: Cast, route: str) -> None:
    bad = list(cast.bad)
    answer = await service.try_post(route, **BODIES[route](cast.reference, bad))
    if route in ("feature-clustering", "anomaly-detection"):
        failed = error_of(answer, 400, "INVALID_INPUT")["details"]["failed_assets"]
    else:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        failed = found.get("failed_assets")
        if route in COMPARED:
            _, results, name = COMPARED[route]
            failed = [{"asset_id": result[name], "error": result["error"]} for result in found[results]]
            assert found.get("processed_successfully", found.get("processed_shots")) == 0
        else:
            assert found[RANKED[route][1]] == []
    assert [each["asset_id"] for each in failed] == bad
    for each in failed:
        assert cast.bad[each["asset_id"]] in each["error"]


@pytest.mark.parametrize("route", WITH_REFERENCE)
async def test_the_reference_alone_is_not_found(service: Service, cast: Cast, route: str) -> None:
    for reference in (UNKNOWN, *[each for each, word in cast.bad.items() if word[0] == "N" and each in cast.names]):
        answer = await service.try_post(route, **BODIES[route](reference, [*cast.good, "f" * 32]))
        error = error_of(answer, 404, "ASSET_NOT_FOUND")
        assert error["details"] == {"asset_ids": [reference]}


async def test_too_few_references_are_named(service: Service, cast: Cast) -> None:
    answer = await service.try_post(
        "anomaly-detection", reference_asset_ids=[cast.good[0], UNKNOWN], test_asset_ids=cast.good
    )
    error = error_of(answer, 400, "INVALID_INPUT")
    assert "at least 2 reference" in error["message"]
    assert "there is 1" in error["message"]
    assert UNKNOWN in error["message"]
    assert [each["asset_id"] for each in error["details"]["failed_assets"]] == [UNKNOWN]


@pytest.mark.parametrize("route", BODIES)
async def test_what_the_service_lacks_fails_the_request(service: Service, cast: Cast, route: str) -> None:
    """An overloaded stage or a store that is away is no fault of any asset, however many are bad."""
    body = BODIES[route](cast.reference, cast.mixed)
    keys = ["people/faces"] if route in list(COMPARED)[:3] or route == "group-by-character" else ["embed/dinov3"]
    if route == "batch-quality-check":
        keys.append("quality/nima")
    for key in keys:
        handle = service.context.stages[key]
        working = handle._call
        for error, status, code in ((AWAY, 503, "STAGE_UNAVAILABLE"), (FULL, 429, "OVERLOADED")):
            handle._call, handle._attempts = failing(key, error)._call, 1
            error_of(await service.try_post(route, **body), status, code)
        handle._call = working


async def test_a_store_that_is_away_fails_the_request(service: Service, cast: Cast) -> None:
    async def away(*_: Any) -> Any:
        raise StoreError("mongodb: ServerSelectionTimeoutError")

    get, service.context.objects.get = service.context.objects.get, away  # type: ignore[method-assign]
    for route in (*list(COMPARED), "group-by-character"):
        # The stage that reads the same object may be the first to say so.
        error = body_of(await service.try_post(route, **BODIES[route](cast.reference, cast.mixed)), 503)["error"]
        assert error["code"] in ("STORAGE_ERROR", "STAGE_UNAVAILABLE")
    service.context.objects.get = get  # type: ignore[method-assign]
    assert (await service.post("batch-quality-check", asset_ids=cast.good))["failed_assets"] == 0


async def test_a_sequence_has_a_limit(refusing: Service) -> None:
    answer = await refusing.try_post(
        "validate-shot-consistency", character_reference_asset_id=UNKNOWN, shot_asset_ids=["0"] * 10_001
    )
    assert "shot_asset_ids" in error_of(answer, 422, "VALIDATION_ERROR")["message"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StageUnavailable("it restarts"), 503, "model_not_ready"),
        (StageOverloaded("its queue is full"), 429, "overloaded"),
    ],
)
async def test_what_the_service_lacks_fails_a_batch_of_photos(
    service: Service, error: StageError, status: int, code: str
) -> None:
    replace_stage(service, "quality/blur", lambda _: error)
    images = [data_of(textured(90)), data_of(b"no picture")]
    answer = await service.try_photo("analyze/batch", images=images, run_emotion=False, run_quality=False)
    photo_error(answer, status, code)


@pytest.mark.parametrize("escape", [r"\ud800", r"\udfff", r"a\udc00b", r"\ud83d"])
@pytest.mark.parametrize("route", [*RANKED, "batch-quality-check"])
async def test_half_a_surrogate_pair_is_no_text(refusing: Service, route: str, escape: str) -> None:
    bodies = RANKED.get(route, (lambda _, ids: {"asset_ids": ids}, ""))[0]
    text = json.dumps(bodies(UNKNOWN, ["mark", "mark"])).replace("mark", escape)
    headers = {"content-type": "application/json"}
    answer = await refusing.client.post(f"/api/v1/{route}", content=text, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"
    assert "unicode" in answer.json()["error"]["message"]
