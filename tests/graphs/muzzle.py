"""The muzzle API over real stores by HTTP, in this process, and the schemas of its contract."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from PIL import Image
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from configs.settings import Settings
from tests.dummies.muzzle import DummyMuzzle, DummyPrint, LocalGallery
from tests.graphs.harness import LEAKS, Service, handles, listening, serving
from tests.graphs.samples import encoded, picture

CONTRACT: dict[str, Any] = json.loads((Path(__file__).parents[1] / "contract" / "muzzle-openapi.json").read_text())
BASE = "urn:muzzle"
SCHEMAS: Registry[Any] = Registry().with_resource(BASE, Resource(CONTRACT, DRAFT202012))


@dataclass
class MuzzleService(Service):
    """A running muzzle API."""

    ensemble: DummyMuzzle

    async def post(self, route: str, status: int = 200, **body: Any) -> dict[str, Any]:
        """The answer to a JSON request that must have this status."""
        return checked(await self.client.post(f"/{route}", json=body), f"/{route}", status)

    async def send(self, route: str, files: Iterable[tuple[str, bytes, str]], status: int = 200) -> dict[str, Any]:
        """The answer to a form of (field, bytes, file name) that must have this status."""
        parts = [(field, (name, data, "image/png")) for field, data, name in files]
        return checked(await self.client.post(f"/{route}", files=parts), f"/{route}", status)

    async def enrol(self, animal_id: str, seed: int) -> dict[str, Any]:
        """The answer to the enrolment of an animal that must succeed."""
        return await self.post("animals", 201, animal_id=animal_id, photos=[text(muzzle(seed, k)) for k in range(3)])


def checked(answer: httpx.Response, path: str, status: int) -> dict[str, Any]:
    """The body, which must have the schema that the contract gives for this path and status."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    if status == 200 and path in CONTRACT["paths"]:
        method = answer.request.method.lower()
        pointer = f"#/paths/{path.replace('/', '~1')}/{method}/responses/200/content/application~1json/schema"
        Draft202012Validator({"$ref": BASE + pointer}, registry=SCHEMAS).validate(body)
    if status >= 400:
        assert set(body) == {"detail"}
        assert isinstance(body["detail"], str)
        assert body["detail"]
        assert not [leak for leak in LEAKS if leak in answer.text]
        if path in CONTRACT["paths"]:
            assert str(status) in CONTRACT["paths"][path][answer.request.method.lower()]["responses"]
        assert ("retry-after" in answer.headers) == (status in (429, 503))
    return body


def muzzle(animal: int, photo: int = 0) -> bytes:
    """A picture of an animal, as the dummy sees one: photos of one are alike."""
    return picture(1000 + animal, noise=0.01 * photo)


def blank(colour: str, side: int = 64) -> bytes:
    """A picture of one colour, which is no muzzle."""
    return encoded(Image.new("RGB", (side, side), colour), "PNG")


def text(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


@asynccontextmanager
async def serving_muzzle(config: Settings) -> AsyncIterator[MuzzleService]:
    """A service over the stores of the settings, by dummies."""
    async with (
        handles(DummyMuzzle, LocalGallery, DummyPrint) as stages,
        serving(MuzzleService, config, ["muzzle"], stages, ensemble=DummyMuzzle.running) as service,
    ):
        yield service


@contextmanager
def muzzle_server(config: Settings) -> Iterator[tuple[str, MuzzleService]]:
    """(URL, service) of a server by dummies, in a thread with an event loop of its own, for clients without asyncio."""
    started: dict[str, tuple[str, MuzzleService]] = {}
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving_muzzle(config) as service, listening(service.app) as port:
            started["it"] = f"http://127.0.0.1:{port}", service
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="muzzle-server")
    thread.start()
    try:
        if not ready.wait(60):
            raise RuntimeError("the server did not start")
        yield started["it"]
    finally:
        done.set()
        thread.join()
