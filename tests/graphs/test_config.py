"""Thresholds: read, set, refused, and seen by every gateway over the same stores."""

import pytest

from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import error_of

LIMITS = {
    "max_image_bytes": 3 * 2**20,
    "max_video_bytes": 5 * 2**20,
    "max_audio_bytes": 4 * 2**20,
    "max_image_pixels": 2_500_000,
    "max_batch_assets": 7,
    "request_timeout_s": 12,
}


async def test_the_limits_in_force_are_returned(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(**LIMITS)) as service:
        answer = await service.get("config")
    del answer["processing_time"]
    formats = set(answer.pop("supported_formats"))
    assert answer == {
        "quality_threshold": 0.5,
        "similarity_threshold": 75,
        "max_file_size_mb": 3,
        "max_video_size_mb": 5,
        "max_audio_size_mb": 4,
        "max_image_megapixels": 2.5,
        "max_batch_size": 7,
        "request_timeout_seconds": 12,
    }
    assert formats >= {"JPG", "PNG", "WEBP", "MP4", "MOV", "AVI"}


@pytest.mark.parametrize(
    ("name", "default", "values"), [("quality", 0.5, (0, 1, 0.25)), ("similarity", 75, (0, 100, 62.5))]
)
async def test_a_threshold_is_changed(service: Service, name: str, default: float, values: tuple[float]) -> None:
    field, other = (f"{kind}_threshold" for kind in ((name, "similarity") if name == "quality" else (name, "quality")))
    untouched = (await service.get("config"))[other]
    for value in values:
        answer = await service.client.put(f"/api/v1/config/{name}-threshold", json={"threshold": value})
        assert answer.status_code == 200
        assert set(answer.json()) == {field, "previous_threshold", "updated", "processing_time"}
        changed = answer.json()
        assert (changed[field], changed["previous_threshold"], changed["updated"]) == (value, default, True)
        assert ((await service.get("config"))[field], (await service.get("config"))[other]) == (
            value,
            untouched,
        )
        default = value


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("quality", {"threshold": 1.01}),
        ("quality", {"threshold": -0.01}),
        ("similarity", {"threshold": 100.5}),
        ("similarity", {"threshold": -1}),
        ("similarity", {"threshold": "high"}),
        ("quality", {"threshold": None}),
        ("quality", {}),
    ],
)
async def test_a_threshold_out_of_range_changes_nothing(refusing: Service, name: str, body: dict[str, object]) -> None:
    answer = await refusing.client.put(f"/config/{name}-threshold", json=body)
    error = error_of(answer, 422, "VALIDATION_ERROR")
    assert error["details"][0]["field"] == "body.threshold"
    config = await refusing.get("config")
    assert (config["quality_threshold"], config["similarity_threshold"]) == (0.5, 75)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_a_threshold_is_a_number(refusing: Service, number: str) -> None:
    for name in ("quality", "similarity"):
        headers = {"content-type": "application/json"}
        body = f'{{"threshold": {number}}}'.encode()
        answer = await refusing.client.put(f"/config/{name}-threshold", content=body, headers=headers)
        error_of(answer, 422, "VALIDATION_ERROR")


async def test_every_gateway_and_the_next_one_see_a_change(settings_for: MakeSettings, serve: Serve) -> None:
    config = settings_for()
    async with serve(config) as one, serve(config) as other:
        await one.client.put("/config/quality-threshold", json={"threshold": 0.8})
        assert (await other.get("config"))["quality_threshold"] == 0.8
        await other.client.put("/config/quality-threshold", json={"threshold": 0.9})
        assert (await one.get("config"))["quality_threshold"] == 0.9
    async with serve(config) as later:
        assert (await later.get("config"))["quality_threshold"] == 0.9
