"""The shot API over real stores and real videos, with dummies for the models that take texts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from configs.settings import Settings
from graphs.web.uploads.library import Library
from stores.shots import Shot, ShotAnalysis
from tests.dummies.texts import BlindLook, DummyLook, DummySentence, look
from tests.graphs.harness import Service, handles, serving
from tests.graphs.media import film
from tests.graphs.samples import picture

FPS = 25
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@dataclass
class ShotService(Service):
    """A running shot API with one film of 60 frames and one picture."""

    sentence: DummySentence
    film: str
    picture: str

    async def post(self, route: str, **body: Any) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        return ok(await self.client.post(f"/api/v1/{route}", json=body))

    async def get(self, route: str, **query: Any) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        return ok(await self.client.get(f"/api/v1/{route}", params=query))

    async def store(self, *shots: dict[str, Any], **more: Any) -> list[str]:
        """Ids of shots of the film."""
        answer = await self.post("store-shot-data", video_asset_id=self.film, shots=list(shots), **more)
        ids: list[str] = answer["stored_shot_ids"]
        return ids

    async def upload(self, data: bytes, name: str) -> str:
        """The id of an asset, stored as an upload does."""
        boundary = "b0undary"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()

        async def body() -> AsyncIterator[bytes]:
            yield head + data + f"\r\n--{boundary}--\r\n".encode()

        asset, _ = await Library(self.context).upload(body(), f"multipart/form-data; boundary={boundary}")
        return asset.asset_id

    async def analyse(self, *colours: str) -> list[Shot]:
        """An analysis of the film with one shot of ten frames for each colour of its key frame."""
        shots = [analysed(self.film, place, colour) for place, colour in enumerate(colours)]
        await self.context.shots.put_analysis(ShotAnalysis(self.film, "dummies", NOW, tuple(shots)))
        return shots


def ok(answer: httpx.Response) -> dict[str, Any]:
    """The body of an answer of 200."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert 0 <= body["processing_time"] < 60
    return body


def given(place: int, **more: Any) -> dict[str, Any]:
    """A shot of a request: ten frames, with what a client must say at least."""
    first = place * 10
    times = {"start_timestamp": first / FPS, "end_timestamp": (first + 10) / FPS}
    return {"start_frame": first, "end_frame": first + 9, **times, **more}


def analysed(asset_id: str, place: int, colour: str) -> Shot:
    """As an analysis leaves it."""
    first = place * 10
    return Shot(
        video_asset_id=asset_id,
        shot_index=place,
        start_frame=first,
        end_frame=first + 9,
        start_timestamp=first / FPS,
        end_timestamp=(first + 10) / FPS,
        keyframe_frame=first + 3,
        keyframe_time=(first + 3) / FPS,
        camera_movement="pan_left",
        movement_intensity=0.25,
        shot_size="wide",
        shot_angle="eye_level",
        framing="centered",
        analysis_timestamp=NOW,
        auto_tags=("movement:pan_left", "size:wide"),
        features=np.full(384, place / 8, np.float32),
        features_version="dino@1",
        clip=look(colour),
        clip_version="dummy/clip",
    )


@asynccontextmanager
async def serving_shots(config: Settings, *, looks: bool = False) -> AsyncIterator[ShotService]:
    """A service over the stores of the settings; with ``looks``, CLIP takes texts."""
    async with (
        handles(DummySentence, DummyLook if looks else BlindLook, "media/frames") as stages,
        serving(ShotService, config, ["shots"], stages, sentence=DummySentence.running, film="", picture="") as service,
    ):
        service.film = await service.upload(film("b-frames"), "film.mp4")
        service.picture = await service.upload(picture(1), "photo.png")
        yield service
        assert service.spooled == []
