"""Sends the corpus to every route and says what came of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import httpx

from tests.hostile import forms, texts
from tests.hostile.corpus import HostileFile
from tests.hostile.forms import HostileRequest
from tests.hostile.jpegs import textured
from tests.hostile.pngs import flat
from tests.hostile.routes import Body, Document, Route, faults
from tests.hostile.usage import Meter, Usage

CPU_S: Final = 30.0
"""Seconds of the processor that one request may take: its deadline on two cores, and a half."""
GROWN_MB: Final = 2500
"""What it may take of memory: 80 megapixels of four channels of 16 bits, RGB of it twice, and what five stages make of
that at once."""
SETTLE_S: Final = 5.0
"""Seconds of the processor that what it began may work on behind its answer."""
ANSWER_S: Final = 120.0
UPLOAD: Final = "/api/v1/upload-media"


@dataclass(frozen=True)
class Outcome:
    """What came of one request. ``status``: 0 where no answer came; ``finds``: what is wrong, empty for nothing."""

    name: str
    route: str
    status: int
    usage: Usage
    finds: tuple[str, ...] = ()
    derived: bool = False


class Attack:
    """Attacks one service; it must have no rate limit and need no key."""

    def __init__(self, url: str, pid: int | None) -> None:
        self._client = httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False)
        document = self._client.get("/openapi.json").raise_for_status().json()
        self.routes = Document(document).routes()
        self._meter = Meter(pid) if pid else None
        self._port = httpx.URL(url).port or 80
        upload = next(route for route in self.routes if route.path == UPLOAD)
        self._good: list[str] = []
        for side in (64, 72):
            for data in (textured(side), flat(side, side, 8, 2)):
                answer, _ = self._send(upload, upload.path, upload.file(data, "good.jpg"))
                self._good.append(answer.json()["asset_id"] if answer is not None else "")

    def close(self) -> None:
        """Delete what was uploaded first, and close connections."""
        for asset_id in self._good:
            self._client.delete(f"/api/v1/media/{asset_id}")
        self._client.close()

    def file(self, file: HostileFile, data: bytes) -> Iterator[Outcome]:
        """Send a file to each route that takes bytes, then ask each route about it that works on assets."""
        asset_id = ""
        for route in self.routes:
            if route.takes_bytes:
                body = route.file(data, file.filename, file.content_type)
                outcome, answer = self._outcome(file.name, route, route.path, body)
                taken = file.refused and outcome.status < 400 and not _refuses(answer)
                yield _with(outcome, "was taken for a picture or a film") if taken else outcome
                if route.path == UPLOAD and outcome.status == 200 and answer is not None:
                    asset_id = answer.json()["asset_id"]
        if asset_id and asset_id not in self._good:
            yield from self._derived(file.name, asset_id)

    def requests(self, only: str = "", *, quick: bool = False) -> list[HostileRequest]:
        """Return the requests that are more than a file."""
        every = [*forms.requests(), *texts.requests(self._port)]
        return [request for request in every if only in request.name and (request.quick or not quick)]

    def request(self, request: HostileRequest) -> Iterator[Outcome]:
        """Send a request to each route that it suits."""
        for route in self.routes:
            if request.suits(route):
                path, _ = route.on(self._good[0])
                outcome, answer = self._outcome(request.name, route, path, request.make(route))
                yield outcome
                if route.path == UPLOAD and outcome.status == 200 and answer is not None:
                    asset_id = answer.json()["asset_id"]
                    for of_it in self.routes:
                        if re.fullmatch(r"/api/v1/media/\{asset_id\}(/content)?", of_it.path) and of_it.method == "GET":
                            yield self._outcome(request.name, of_it, *of_it.on(asset_id), derived=True)[0]

    def _derived(self, name: str, asset_id: str) -> Iterator[Outcome]:
        routes = [route for route in self.routes if route.works_on_assets]
        for route in sorted(routes, key=lambda route: route.method == "DELETE"):
            path, body = route.on(asset_id, *self._good)
            yield self._outcome(name, route, path, body, derived=True)[0]

    def _outcome(
        self, name: str, route: Route, path: str, body: Body | None, *, derived: bool = False
    ) -> tuple[Outcome, httpx.Response | None]:
        answer, usage = self._send(route, path, body)
        finds = list(faults(route, answer, body.data if body else b"")) if answer is not None else ["no answer"]
        if usage.cpu_s > CPU_S:
            finds.append(f"{usage.cpu_s:.0f} s of the processor")
        if usage.grown_mb > GROWN_MB:
            finds.append(f"{usage.grown_mb:.0f} MB of memory")
        if self._meter is not None:
            if usage.wall_s > 1 and (behind := self._meter.settle(SETTLE_S)) >= SETTLE_S:
                finds.append(f"still works {behind:.0f} s after its answer")
            if not self._meter.alive:
                finds.append("the service died")
        finds += [f"{died} died" for died in usage.died]
        status = answer.status_code if answer is not None else 0
        return Outcome(name, str(route), status, usage, tuple(finds), derived), answer

    def _send(self, route: Route, path: str, body: Body | None) -> tuple[httpx.Response | None, Usage]:
        def ask() -> httpx.Response | None:
            headers = {**body.headers, "content-type": body.content_type} if body else {}
            raw = {name.encode(): value.encode("latin-1", "replace") for name, value in headers.items()}
            try:
                return self._client.request(
                    route.method, path, content=body.data if body else None, headers=list(raw.items())
                )
            except httpx.HTTPError:
                return None

        if self._meter is None:
            answer = ask()
            return answer, Usage(wall_s=answer.elapsed.total_seconds() if answer is not None else ANSWER_S)
        with self._meter.watch() as usage:
            answer = ask()
        return answer, usage

    @property
    def alive(self) -> bool:
        """Whether the service still answers."""
        try:
            return self._client.get("/livez").status_code == 200
        except httpx.HTTPError:
            return False


def _refuses(answer: httpx.Response | None) -> bool:
    """Whether an answer about several files says that one of them could not be read."""
    return answer is not None and re.search(r'"errors?":\s*(?!null|\[\]|\s)', answer.text) is not None


def _with(outcome: Outcome, find: str) -> Outcome:
    return Outcome(outcome.name, outcome.route, outcome.status, outcome.usage, (*outcome.finds, find), outcome.derived)
