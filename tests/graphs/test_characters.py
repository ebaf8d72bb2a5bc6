"""Characters: the same person by face, by whole picture without one; shots, references and groups."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.dummies.people import DummyIdentity
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.photos import HAPPY, SAD, faces, replace_stage
from tests.graphs.samples import audio, error_of, picture, plain, video
from tests.tolerances import decimals
from vision.errors import ModelNotLoaded
from vision.faces.calibration import image_percentage, similarity_percentage

SIZE = (260, 200)
UNKNOWN = "0" * 32
ROUTES: list[tuple[str, Callable[[list[str]], dict[str, Any]]]] = [
    ("character-matching", lambda ids: {"reference_asset_id": ids[0], "test_asset_ids": ids}),
    ("group-by-character", lambda ids: {"asset_ids": ids}),
    ("validate-shot-consistency", lambda ids: {"character_reference_asset_id": ids[0], "shot_asset_ids": ids}),
    ("reference-enforcement", lambda ids: {"master_reference_asset_id": ids[0], "generated_asset_ids": ids}),
]
PAIR: tuple[str, Callable[[list[str]], dict[str, Any]]] = (
    "validate-consistency",
    lambda ids: {"asset_id_1": ids[0], "asset_id_2": ids[-1]},
)


def person(height: int, colour: tuple[int, int, int] = HAPPY) -> bytes:
    """Return a picture of a face of this height; a pixel of difference is a degree between vectors of one person."""
    return faces((colour, (100, 10, 120, 9 + height)), size=SIZE)


def two_people(happy: int, sad: int) -> bytes:
    return faces((HAPPY, (10, 10, 10 + happy, 9 + happy)), (SAD, (180, 10, 180 + sad // 2, 9 + sad)), size=SIZE)


def at(degrees: float) -> tuple[float, float]:
    """Return (cosine, percentage) of two faces of one person whose heights differ by so many pixels."""
    cosine = float(np.cos(np.radians(degrees)))
    return cosine, similarity_percentage(cosine)


async def test_the_same_person_is_known_by_face(service: Service) -> None:
    a, b = await service.upload(person(40)), await service.upload(person(75))
    answer = await service.post("validate-consistency", asset_id_1=a, asset_id_2=b)
    cosine, percentage = at(35)
    assert (answer["asset_id_1"], answer["asset_id_2"]) == (a, b)
    assert (answer["same_character"], answer["basis"]) == (True, "face")
    assert answer["cosine_similarity"] == pytest.approx(cosine, abs=2 * decimals(6))
    assert answer["similarity_score"] == pytest.approx(percentage, abs=0.01)
    assert answer["euclidean_distance"] == pytest.approx(np.sqrt(2 - 2 * cosine), abs=decimals(5))
    assert answer["confidence_score"] == pytest.approx((percentage - 75) / 25 * 0.9, abs=decimals(3))
    assert answer["confidence_level"] == "high"
    assert "The same person: cosine 0.819" in answer["explanation"]
    assert "Compared by face, 23 × 42 and 23 × 77 pixels." in answer["explanation"]


async def test_other_people_are_not(service: Service) -> None:
    a, b = await service.upload(person(40)), await service.upload(person(40, SAD))
    answer = await service.post("validate-consistency", asset_id_1=a, asset_id_2=b)
    assert (answer["same_character"], answer["basis"], answer["cosine_similarity"]) == (False, "face", 0)
    assert answer["similarity_score"] == pytest.approx(similarity_percentage(0), abs=0.01)
    assert answer["explanation"].startswith("Different people: cosine 0.000")
    assert answer["confidence_level"] == "high"


@pytest.mark.parametrize(("threshold", "same"), [(74, True), (96, False)])
async def test_the_configured_threshold_decides(service: Service, threshold: float, same: bool) -> None:
    a, b = await service.upload(person(40)), await service.upload(person(75))
    await service.client.put("/config/similarity-threshold", json={"threshold": threshold})
    for route, body, results in (
        ("character-matching", {"reference_asset_id": a, "test_asset_ids": [b]}, "consistency_results"),
        ("validate-shot-consistency", {"character_reference_asset_id": a, "shot_asset_ids": [b]}, "shot_validations"),
    ):
        answer = await service.post(route, **body)
        assert answer["similarity_threshold"] == threshold
        (result,) = answer[results]
        assert result["same_character" if "same_character" in result else "consistent"] is same
    pair = await service.post("validate-consistency", asset_id_1=a, asset_id_2=b)
    assert (pair["similarity_threshold"], pair["same_character"]) == (threshold, same)


async def test_a_face_hard_to_make_out_makes_it_less_certain(service: Service) -> None:
    clear, clearer, small = [await service.upload(person(height)) for height in (30, 44, 16)]
    sure = await service.post("validate-consistency", asset_id_1=clear, asset_id_2=clearer)
    unsure = await service.post("validate-consistency", asset_id_1=clear, asset_id_2=small)
    assert sure["cosine_similarity"] == unsure["cosine_similarity"]
    assert unsure["confidence_score"] == pytest.approx(sure["confidence_score"] * 0.4 / 0.9, abs=decimals(3))
    assert "hard to make out (quality 0.40)" in unsure["explanation"]
    assert "hard to make out" not in sure["explanation"]


async def test_without_a_face_whole_pictures_are_compared(service: Service) -> None:
    face, empty, copy = [await service.upload(data) for data in (person(40), picture(1), picture(1, noise=0.05))]
    alike = await service.post("validate-consistency", asset_id_1=empty, asset_id_2=copy)
    plain_pair = await service.post("calculate-similarity", asset_id_1=empty, asset_id_2=copy)
    assert (alike["basis"], alike["same_character"]) == ("image", True)
    assert alike["cosine_similarity"] == plain_pair["cosine_similarity"]
    assert alike["similarity_score"] == pytest.approx(image_percentage(alike["cosine_similarity"]), abs=0.01)
    assert alike["confidence_score"] <= 0.5
    assert "No face was found in either picture" in alike["explanation"]
    for first, second, which in ((face, empty, "second"), (empty, face, "first")):
        answer = await service.post("validate-consistency", asset_id_1=first, asset_id_2=second)
        assert answer["basis"] == "image"
        assert f"No face was found in the {which} picture" in answer["explanation"]


async def test_the_largest_face_of_a_reference_is_compared_with_all(service: Service) -> None:
    both, happy, sad = [await service.upload(data) for data in (two_people(60, 40), person(60), person(40, SAD))]
    answer = await service.post("character-matching", reference_asset_id=both, test_asset_ids=[happy, sad])
    matches, differs = answer["consistency_results"]
    assert (matches["same_character"], matches["cosine_similarity"]) == (True, pytest.approx(1, abs=decimals(5)))
    assert (differs["same_character"], differs["cosine_similarity"]) == (False, 0)
    assert "The pictures have 2 and 1 faces" in matches["explanation"]
    back = await service.post("character-matching", reference_asset_id=sad, test_asset_ids=[both])
    assert back["consistency_results"][0]["same_character"] is True
    pair = await service.post("validate-consistency", asset_id_1=both, asset_id_2=sad)
    assert pair["same_character"] is True
    assert "23 × 42" in pair["explanation"]


async def test_matching_tells_each_asset_apart(service: Service) -> None:
    reference = await service.upload(person(40), "master.png")
    same, far, other = [await service.upload(person(40 + more), f"{more}.png") for more in (10, 60, 90)]
    sound, dark = await service.upload(audio(), "a.wav"), await service.upload(plain("black"), "dark.png")
    wanted = [same, sound, far, other, dark, reference, same]
    answer = await service.post("character-matching", reference_asset_id=reference, test_asset_ids=wanted)
    assert (answer["reference_asset_id"], answer["reference_filename"]) == (reference, "master.png")
    assert (answer["total_tested"], answer["processed_successfully"], answer["same_character_count"]) == (6, 4, 3)
    results = {result["test_asset_id"]: result for result in answer["consistency_results"]}
    assert list(results) == wanted[:-1]
    for asset_id, degrees, level in ((same, 10, "high"), (far, 60, "low"), (other, 90, "high"), (reference, 0, "high")):
        result = results[asset_id]
        cosine, percentage = at(degrees)
        assert result["cosine_similarity"] == pytest.approx(cosine, abs=2 * decimals(6))
        assert result["similarity_score"] == pytest.approx(percentage, abs=0.01)
        assert (result["same_character"], result["confidence_level"]) == (percentage >= 75, level)
        assert (result["basis"], result["error"]) == ("face", None)
    assert (results[reference]["similarity_score"], results[reference]["cosine_similarity"]) == (100, 1)
    for asset_id, word in ((sound, "audio"), (dark, "see in the dark")):
        failed = results[asset_id]
        assert word in failed["error"]
        assert {failed[name] for name in ("same_character", "similarity_score", "confidence_level", "basis")} == {None}
    scores = [result["similarity_score"] for result in results.values() if result["error"] is None]
    assert answer["average_similarity"] == pytest.approx(np.mean(scores), abs=0.01)


async def test_a_reference_that_cannot_be_read_is_an_error(service: Service) -> None:
    sound, good = await service.upload(audio(), "a.wav"), await service.upload(person(40))
    for route, body in (*ROUTES, PAIR):
        if route != "group-by-character":
            error_of(await service.try_post(route, **body([sound, good])), 400, "INVALID_INPUT")


async def test_an_unknown_asset_of_a_pair_is_not_found(refusing: Service) -> None:
    (known,) = [asset.asset_id for asset in await refusing.context.documents.list_assets()]
    route, body = PAIR
    error = error_of(await refusing.try_post(route, **body([known, UNKNOWN])), 404, "ASSET_NOT_FOUND")
    assert error["details"] == {"asset_ids": [UNKNOWN]}


@pytest.mark.parametrize(("route", "body"), ROUTES)
async def test_more_assets_than_the_limit(
    settings_for: MakeSettings, serve: Serve, route: str, body: Callable[[list[str]], dict[str, Any]]
) -> None:
    async with serve(settings_for(max_batch_assets=2)) as service:
        ids = [f"{number:032x}" for number in range(3)]
        error = error_of(await service.try_post(route, **body(ids)), 400, "BATCH_TOO_LARGE")
        assert error["details"] == {"given": 3, "limit": 2}


async def test_a_sequence_of_shots(service: Service) -> None:
    reference = await service.upload(person(40), "hero.png")
    shots = [await service.upload(person(40 + more)) for more in (10, 60, 69, 72, 90)]
    sound, empty = await service.upload(audio(), "a.wav"), await service.upload(picture(1))
    sequence = [shots[0], *shots, sound, empty]
    answer = await service.post(
        "validate-shot-consistency", character_reference_asset_id=reference, shot_asset_ids=sequence
    )
    assert (answer["character_reference_asset_id"], answer["reference_filename"]) == (reference, "hero.png")
    assert (answer["total_shots"], answer["processed_shots"], answer["consistent_shots"]) == (8, 7, 3)
    assert answer["consistency_rate"] == pytest.approx(3 / 7, abs=decimals(4))
    assert answer["sequence_status"] == "needs_work"
    assert "4 of 7 shots do not show the reference" in answer["sequence_recommendation"]
    validations = answer["shot_validations"]
    assert [shot["shot_index"] for shot in validations] == list(range(8))
    assert [shot["shot_asset_id"] for shot in validations] == sequence
    statuses = ["excellent", "excellent", "good", "poor", "poor", "unacceptable", None]
    assert [shot["validation_status"] for shot in validations[:7]] == statuses
    assert [shot["consistent"] for shot in validations[:7]] == [True, True, True, False, False, False, None]
    assert "audio" in validations[6]["error"]
    assert validations[7]["basis"] == "image"
    assert "Check by eye: no face was found in the second picture" in validations[7]["recommendation"]
    assert len({shot["recommendation"] for shot in validations[1:6]}) == 4
    nothing = await service.post(
        "validate-shot-consistency", character_reference_asset_id=reference, shot_asset_ids=[sound]
    )
    assert (nothing["processed_shots"], nothing["consistency_rate"], nothing["average_similarity"]) == (0, 0, None)
    assert nothing["sequence_status"] == "needs_work"


async def test_generated_pictures_are_held_to_a_reference(service: Service) -> None:
    master = await service.upload(person(40), "master.png")
    good, near, off = [await service.upload(person(40 + more)) for more in (30, 68, 90)]
    dark = await service.upload(plain("black"))
    wanted = [good, near, off, dark]
    answer = await service.post("reference-enforcement", master_reference_asset_id=master, generated_asset_ids=wanted)
    assert (answer["master_reference_asset_id"], answer["master_filename"]) == (master, "master.png")
    assert (answer["compliance_threshold"], answer["total_generated"]) == (80, 4)
    assert (answer["processed_successfully"], answer["compliant_count"]) == (3, 1)
    assert answer["compliance_rate"] == pytest.approx(1 / 3, abs=decimals(4))
    assert answer["action_summary"] == {"approve": 1, "review": 1, "regenerate": 1}
    results = answer["compliance_results"]
    assert [result["generated_asset_id"] for result in results] == wanted
    assert [result["action"] for result in results] == ["approve", "review", "regenerate", None]
    assert [result["compliant"] for result in results] == [True, False, False, None]
    for result, degrees in zip(results[:3], (30, 68, 90), strict=True):
        assert result["compliance_score"] == pytest.approx(at(degrees)[1], abs=0.01)
        assert f"{result['compliance_score']:.1f} % at a threshold of 80 %, by face" in result["recommendation"]
    assert "see in the dark" in results[3]["error"]
    strict = await service.post(
        "reference-enforcement",
        master_reference_asset_id=master,
        generated_asset_ids=wanted[:3],
        compliance_threshold=99,
    )
    assert strict["action_summary"] == {"approve": 0, "review": 1, "regenerate": 2}


async def test_groups_are_people(service: Service) -> None:
    happy = [await service.upload(person(height), f"happy {height}.png") for height in (40, 50, 60)]
    sad = await service.upload(person(40, SAD), "sad.png")
    both = await service.upload(two_people(55, 45), "both.png")
    scene, copy = await service.upload(picture(1)), await service.upload(picture(1, noise=0.05))
    dark, sound = await service.upload(plain("black")), await service.upload(audio(), "a.wav")
    wanted = [*happy, sad, both, scene, copy, dark, sound]
    answer = await service.post("group-by-character", asset_ids=wanted)
    assert (answer["total_assets"], answer["assets_with_features"], answer["similarity_threshold"]) == (9, 7, 75)
    assert {failed["asset_id"] for failed in answer["failed_assets"]} == {dark, sound}
    groups = answer["character_groups"]
    assert answer["groups_found"] == len(groups) == 3
    assert [group["group_id"] for group in groups] == [0, 1, 2]
    assert [group["character_count"] for group in groups] == [4, 2, 2]
    assert [group["basis"] for group in groups] == ["face", "face", "image"]
    members = [{asset["asset_id"] for asset in group["assets"]} for group in groups]
    assert members == [{*happy, both}, {sad, both}, {scene, copy}]
    for group in groups:
        assert group["representative_asset_details"] in group["assets"]
        assert group["representative_asset_details"]["asset_id"] == group["representative_asset"]
    # The angles are 40, 50, 55 and 60 degrees, 51.25 in the middle.
    assert [asset["filename"] for asset in groups[0]["assets"]][:2] == ["happy 50.png", "both.png"]
    assert groups[0]["representative_asset"] == happy[1]
    boxes = [asset["face"] for group in groups[:2] for asset in group["assets"] if asset["asset_id"] == both]
    assert boxes[0]["x"] < 100 < boxes[1]["x"]
    assert {asset["face"] is None for asset in groups[2]["assets"]} == {True}


async def test_without_a_threshold_a_group_has_the_configured_one(service: Service) -> None:
    ids = [await service.upload(person(height)) for height in (40, 60)]
    assert (
        await service.client.put("/api/v1/config/similarity-threshold", json={"threshold": 99.5})
    ).status_code == 200
    answer = await service.post("group-by-character", asset_ids=ids)
    assert (answer["similarity_threshold"], answer["groups_found"]) == (99.5, 2)
    answer = await service.post("group-by-character", asset_ids=ids, similarity_threshold=50)
    assert (answer["similarity_threshold"], answer["groups_found"]) == (50, 1)


async def test_the_threshold_of_a_group_is_of_the_request(service: Service) -> None:
    ids = [await service.upload(person(height)) for height in (40, 60, 80, 100)]
    for threshold, sizes in ((0, [4]), (95, [2, 2]), (100, [1, 1, 1, 1])):
        answer = await service.post("group-by-character", asset_ids=ids, similarity_threshold=threshold)
        assert [group["character_count"] for group in answer["character_groups"]] == sizes
    error_of(
        await service.try_post("group-by-character", asset_ids=ids, similarity_threshold=101), 422, "VALIDATION_ERROR"
    )


async def test_passers_by_make_no_group(service: Service) -> None:
    crowd, alone = await service.upload(two_people(90, 30)), await service.upload(person(30, SAD))
    answer = await service.post("group-by-character", asset_ids=[crowd, alone])
    assert [[asset["asset_id"] for asset in group["assets"]] for group in answer["character_groups"]] == [
        [crowd],
        [alone],
    ]


async def test_nothing_to_group(service: Service) -> None:
    answer = await service.post("group-by-character", asset_ids=[await service.upload(audio(), "a.wav")])
    assert (answer["groups_found"], answer["assets_with_features"], answer["character_groups"]) == (0, 0, [])
    assert len(answer["failed_assets"]) == 1


async def test_a_video_stands_for_its_poster(service: Service) -> None:
    clip, still = await service.upload(video(1), "clip.mp4"), await service.upload(picture(1))
    answer = await service.post("validate-consistency", asset_id_1=clip, asset_id_2=still)
    assert (answer["basis"], answer["same_character"]) == ("image", True)


async def test_faces_are_detected_once(service: Service, settings_for: MakeSettings, serve: Serve) -> None:
    ids = [await service.upload(data) for data in (person(40), person(50), picture(1))]
    calls = DummyIdentity.running.calls
    bodies = [body(ids) for _, body in ROUTES]
    answers = await asyncio.gather(
        *(service.post(route, **given) for (route, _), given in zip(ROUTES, bodies, strict=True))
    )
    assert DummyIdentity.running.calls - calls == 2
    async with serve(settings_for()) as other:  # the same stores
        for (route, _), given, before in zip(ROUTES, bodies, answers, strict=True):
            again = await other.post(route, **given)
            assert {**again, "processing_time": 0} == {**before, "processing_time": 0}
        assert DummyIdentity.running.calls == 0


async def test_faces_go_with_their_asset(service: Service) -> None:
    asset_id = await service.upload(person(40))
    await service.post("group-by-character", asset_ids=[asset_id])
    version = "dummy@00000000:+dummy@00000000"
    assert set(await service.context.documents.get_faces(version, [asset_id])) == {asset_id}
    await service.delete(asset_id)
    assert await service.context.documents.get_faces(version, [asset_id]) == {}


@pytest.mark.parametrize("key", ["people/faces", "people/identity"])
async def test_without_weights_there_is_no_verdict(service: Service, key: str) -> None:
    ids = [await service.upload(data) for data in (picture(1), picture(2))]
    replace_stage(service, key, lambda _: ModelNotLoaded("no verified weights"))

    async def info() -> dict[str, Any]:
        return {"loaded": False, "error": "no verified weights"}

    service.context.stages[key]._info = info
    for route, body in (*ROUTES, PAIR):
        error_of(await service.try_post(route, **body(ids)), 503, "MODEL_NOT_LOADED")
