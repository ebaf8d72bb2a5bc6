"""Servers on loopback and small registries for the tests of vision.weights."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vision.weights import Registry, Store
from vision.weights.hub import Hub
from vision.weights.registry import UrlSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def model(files: dict[str, bytes | None], *sources: object, **fields: object) -> dict[str, Any]:
    """A registry entry; a file given as None is registered without hash and size."""
    return {
        "task": "test",
        "licence": "MIT",
        "commercial": True,
        "description": "a test model",
        "architecture": "none",
        "vram_mb": 1,
        "files": {n: {} if b is None else {"sha256": sha256(b), "size": len(b)} for n, b in files.items()},
        "sources": list(sources),
        **fields,
    }


def registry(**models: dict[str, Any]) -> Registry:
    return Registry.model_validate({name.replace("_", "-"): entry for name, entry in models.items()})


def plain_url(base: str, *names: str) -> UrlSource:
    """A URL source on loopback, past the validation that would refuse it in models.yaml."""
    return UrlSource.model_construct(kind="url", files={name: f"{base}/{COMMIT}/{name}" for name in names})


def url_store(base: str, cache: Path, content: bytes) -> Store:
    """A store of one model, ``tiny``, whose only file comes from ``base``."""
    models = registry(tiny=model({"w.bin": content}, plain_url(base, "w.bin")))
    return Store(models, cache, schemes=frozenset({"http"}))


def hub_source(**fields: object) -> dict[str, object]:
    return {"hub": {"repo": REPO, "revision": COMMIT, **fields}}


def hub_store(base: str, cache: Path, models: Registry, token: str = "", clock: Any = None) -> Store:
    hub = Hub(token, base, clock) if clock else Hub(token, base)
    return Store(models, cache, hub=hub)


@dataclass
class Asked:
    method: str
    path: str
    range: str | None
    if_range: str | None
    token: str | None


@dataclass
class Server:
    """Serves ``files`` (path → bytes); the fields change how it misbehaves."""

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: str = '"one"'
    cuts: list[int] = field(default_factory=list)  # the next answers break after so many bytes
    stall: threading.Event | None = None  # after a cut the connection stays open, silent, until it is set
    redirects: dict[str, str] = field(default_factory=dict)
    status: int = 0
    gated_for: str = ""  # the only token that is let in
    stated: dict[str, str] = field(default_factory=dict)  # etags of the hub that are not the true ones
    plain: set[str] = field(default_factory=set)  # hub files that are no LFS files
    held: threading.Event | None = None  # every GET waits for it
    arrived: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)  # what the hub says of them, by API path
    closed_for: str = ""  # the only token that sees repositories

    def add(self, name: str, content: bytes) -> None:
        self.files[f"/{COMMIT}/{name}"] = content

    def add_hub(self, name: str, content: bytes) -> None:
        self.files[f"/{REPO}/resolve/{COMMIT}/{name}"] = content

    def add_repository(
        self,
        files: Mapping[str, bytes],
        *,
        repo: str = REPO,
        commit: str = COMMIT,
        branch: str = "",
        card: Mapping[str, object] = {"license": "mit"},
        **said: object,
    ) -> None:
        """A repository as the hub shows it; without a branch it is the newest commit of the main one."""
        siblings = []
        for name, content in files.items():
            self.files[f"/{repo}/resolve/{commit}/{name}"] = content
            small = not name.endswith((".safetensors", ".bin"))
            self.plain |= {name.rsplit("/")[-1]} if small else set()
            lfs = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append({"rfilename": name, "size": len(content), "blobId": _git(content)})
            siblings[-1] |= {} if small else {"lfs": lfs}
        answer = {"id": repo, "sha": commit, "private": False, "gated": False, "cardData": dict(card)}
        answer |= {"siblings": siblings, "tags": [], "lastModified": "2026-03-04T05:06:07.000Z", **said}
        for path in (f"/revision/{branch}", f"/revision/{commit}") if branch else ("", f"/revision/{commit}"):
            self.repositories[f"/api/models/{repo}{path}"] = answer

    def gets(self) -> list[Asked]:
        """Requests for the content of files."""
        return [one for one in self.asked if one.method == "GET" and not one.path.startswith("/api/")]


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            asked = [self.headers.get(name) for name in ("Range", "If-Range", "Authorization")]
            server.asked.append(Asked(self.command, self.path, *asked))
            if body and server.held:
                server.arrived.set()
                server.held.wait(30)
            if self.path.startswith("/api/") and not server.status:
                self._describe(asked[2])
                return
            content = server.files.get(self.path)
            if server.status:
                self._head(server.status, {})
            elif server.gated_for and asked[2] != f"Bearer {server.gated_for}":
                self._head(401, {"X-Error-Code": "GatedRepo"})
            elif self.path in server.redirects:
                self._head(302, {"Location": server.redirects[self.path]})
            elif content is None:
                self._head(404, {"X-Error-Code": "EntryNotFound"})
            else:
                self._send(content, asked[0], asked[1], body)

        def _describe(self, token: str | None) -> None:
            answer = server.repositories.get(self.path.partition("?")[0])
            repository = re.sub("/revision/.*", "", self.path.partition("?")[0])
            if answer is None or (server.closed_for and token != f"Bearer {server.closed_for}"):
                known = repository in server.repositories and not server.closed_for
                code = "RevisionNotFound" if known else "RepoNotFound"
                self._head(404 if known else 401, {"X-Error-Code": code})
                return
            body = json.dumps(answer).encode()
            self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
            self.wfile.write(body)

        def _send(self, content: bytes, range_: str | None, if_range: str | None, body: bool) -> None:
            size, start, status = len(content), 0, 200
            headers = {"ETag": server.etag}
            if "/resolve/" in self.path:
                name = self.path.rsplit("/", 1)[1]
                true = _git(content) if name in server.plain else sha256(content)
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{server.stated.get(name, true)}"'}
            if range_ and server.ranges and if_range in (None, server.etag):
                start, status = int(range_.removeprefix("bytes=").rstrip("-")), 206
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            if start >= size:
                self._head(416, {"Content-Range": f"bytes */{size}"})
                return
            self._head(status, {**headers, "Content-Length": str(size - start)})
            if body:
                end = start + server.cuts.pop(0) if server.cuts else size
                self.wfile.write(content[start:end])
                if end < size and server.stall:
                    server.stall.wait(30)

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.base = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        for event in (server.held, server.stall):
            if event:
                event.set()
        http.shutdown()
        http.server_close()
        thread.join()
