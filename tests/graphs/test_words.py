"""The library searched in words."""

from collections.abc import AsyncIterator

import pytest
from PIL import Image

from graphs.assets import words
from tests.dummies import DummyEmbed, LocalNearest
from tests.dummies.texts import COLOURS, BlindLook, PictureLook
from tests.graphs.conftest import MakeSettings
from tests.graphs.harness import Service, handles, idle_handles, serving
from tests.graphs.samples import audio, encoded, error_of, video
from tests.tolerances import decimals


def coloured(colour: str, width: int = 40) -> bytes:
    return encoded(Image.new("RGB", (width, 30), colour), "PNG")


async def uploaded(service: Service, name: str, data: bytes) -> str:
    answer = await service.client.post("/api/v1/upload-media", files={"file": (name, data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["asset_id"])


async def found(service: Service, text: str, **body: object) -> dict:
    answer = await service.client.post("/api/v1/text-search", json={"text": text, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def service(settings_for: MakeSettings) -> AsyncIterator[Service]:
    config = settings_for()
    async with (
        handles(DummyEmbed, LocalNearest, PictureLook) as stages,
        serving(Service, config, ["assets"], idle_handles() | stages) as made,
    ):
        yield made


async def test_pictures_and_films_are_found_by_what_they_show(service: Service) -> None:
    ids = {colour: await uploaded(service, f"{colour}.png", coloured(colour)) for colour in COLOURS}
    film = await uploaded(service, "film.mp4", video(1))
    await uploaded(service, "voice.wav", audio())
    answer = await found(service, f"  something {COLOURS[0]} ", top_k=20)
    assert answer["text"] == f"something {COLOURS[0]}"
    first, *others = answer["search_results"]
    assert (first["asset_id"], first["filename"], first["kind"]) == (ids[COLOURS[0]], f"{COLOURS[0]}.png", "image")
    assert first["cosine_similarity"] == pytest.approx(1, abs=decimals(6))
    assert {hit["asset_id"]: hit["kind"] for hit in others}[film] == "video"
    assert (answer["dataset_size"], answer["results_found"]) == (len(COLOURS) + 1, len(COLOURS) + 1)
    assert (answer["complete"], answer["failed_assets"], answer["model_version"]) == (True, [], "dummy/clip")
    assert len((await found(service, COLOURS[1], top_k=1))["search_results"]) == 1


async def test_pictures_that_were_never_seen_are_looked_at_some_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "AT_ONCE", 3)
    for number in range(7):
        await uploaded(service, f"{number}.png", coloured(COLOURS[0], 40 + number))
    sizes = []
    for _ in range(4):
        answer = await found(service, COLOURS[0])
        sizes.append((answer["dataset_size"], answer["complete"]))
    assert sizes == [(3, False), (6, False), (7, True), (7, True)]


async def test_a_picture_that_the_model_cannot_take_stops_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "AT_ONCE", 2)
    strips = [await uploaded(service, f"{n}.png", coloured(COLOURS[0], PictureLook.widest + n)) for n in (1, 2, 3)]
    good = await uploaded(service, "good.png", coloured(COLOURS[0]))
    failed = set[str]()
    for _ in range(3):
        answer = await found(service, COLOURS[0])
        failed |= {each["asset_id"] for each in answer["failed_assets"]}
    assert failed == set(strips)
    assert ([hit["asset_id"] for hit in answer["search_results"]], answer["complete"]) == ([good], True)


async def test_a_deleted_picture_is_found_no_more(service: Service) -> None:
    kept, gone = [await uploaded(service, f"{w}.png", coloured(COLOURS[0], w)) for w in (40, 50)]
    assert len((await found(service, COLOURS[0]))["search_results"]) == 2
    assert (await service.client.delete(f"/api/v1/media/{gone}")).status_code == 200
    answer = await found(service, COLOURS[0])
    assert ([hit["asset_id"] for hit in answer["search_results"]], answer["dataset_size"]) == ([kept], 1)


async def test_without_a_text_tower_the_service_says_so_and_refuses(settings_for: MakeSettings) -> None:
    config = settings_for()
    async with (
        handles(DummyEmbed, LocalNearest, BlindLook) as stages,
        serving(Service, config, ["assets"], idle_handles() | stages) as service,
    ):
        await uploaded(service, "a.png", coloured(COLOURS[0]))
        answer = await service.client.post("/api/v1/text-search", json={"text": "a dog"})
        assert error_of(answer, 503, "MODEL_NOT_LOADED")["message"] == "Texts need another model."


@pytest.mark.parametrize("body", [{}, {"text": "  "}, {"text": 5}, {"text": "x" * 1001}, {"text": "a", "top_k": 0}])
async def test_odd_requests_are_refused(service: Service, body: dict) -> None:
    answer = await service.client.post("/api/v1/text-search", json=body)
    assert answer.status_code == 422
