"""The short selection of hostile files and requests to every route; ``make hostile`` sends them all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from graphs.web.api import find_apis
from tests.graphs.harness import contracts_of, document_of, settings_in
from tests.hostile.attack import Attack
from tests.hostile.corpus import MODULES, chosen, corpus
from tests.hostile.routes import Document, Route, faults
from tests.hostile.service import running
from tests.hostile.usage import Meter

FAMILIES = ("name/", "form/", "json/", "text/", "number/", "base64/", "address/")
PARTS = {"/api/v1/uploads/{upload_id}"}
"""Bytes as they are, which become a file later; see tests.graphs.test_uploads_in_parts."""
VECTORS = {"/v1/cluster", "/api/v1/store-shot-data"}
"""Routes whose bodies are large though no file is in them."""


@pytest.fixture(scope="module")
def attack() -> Iterator[Attack]:
    """One service for all of them, which must live to the end."""
    with running() as (url, pid):
        made = Attack(url, pid)
        yield made
        assert made.alive
        made.close()


@pytest.mark.parametrize("module", MODULES)
def test_no_file_harms_or_learns_anything(attack: Attack, module: str) -> None:
    files = chosen(quick=True, modules=(module,))
    assert files
    outcomes = [outcome for file in files for outcome in attack.file(file, file.make())]
    assert len(outcomes) >= 10 * len(files)
    assert [(o.name, o.route, o.status, o.finds) for o in outcomes if o.finds] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_no_request_harms_or_learns_anything(attack: Attack, family: str) -> None:
    requests = attack.requests(family, quick=True)
    assert requests
    outcomes = [outcome for request in requests for outcome in attack.request(request)]
    assert len(outcomes) >= len(requests)
    assert [(o.name, o.route, o.status, o.finds) for o in outcomes if o.finds] == []


def test_no_two_files_have_one_name() -> None:
    names = [file.name for file in corpus()]
    assert len(names) == len(set(names)) >= 300


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    with settings_in(tmp_path_factory.mktemp("document")) as config:
        return Document(document_of(config, list(find_apis())))


async def test_files_go_to_every_route_that_may_be_sent_some(document: Document, tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        contracts = await contracts_of(config)
        large = {
            route.path
            for route in document.routes()
            if contracts.of({"type": "http", "method": route.method, "path": route.path}).max_body
            > config.max_body_bytes
        }
    taking = {route.path for route in document.routes() if route.takes_bytes}
    assert large - VECTORS - PARTS == taking
    assert "/v1/analyze/llm" in {route.path for route in document.routes() if route.takes_address}


def test_derived_routes_are_asked_about_the_asset(document: Document) -> None:
    asked = [route.on("a" * 32, "b" * 32) for route in document.routes() if route.works_on_assets]
    assert len(asked) >= 30
    assert all("a" * 32 in path + (body.data.decode() if body else "") for path, body in asked)


def _route(document: Document, path: str) -> Route:
    return next(route for route in document.routes() if route.path == path)


@pytest.mark.parametrize(
    ("status", "body", "find"),
    [
        (500, '{"detail": "The service failed."}', "status 500"),
        (422, '{"detail": "PIL.UnidentifiedImageError"}', "gives away 'PIL'"),
        (422, '{"detail": "cannot open /tmp/a"}', "gives away '/tmp/'"),
        (422, '{"detail": ""}', "says nothing"),
        (422, "Bad Request", "without JSON"),
        (418, '{"detail": "I am a teapot."}', "status 418 is not documented"),
        (429, '{"detail": "Come back some time."}', "Retry-After"),
        (200, '{"embeddings": 1}', "not as documented"),
    ],
)
def test_what_is_wrong_with_an_answer_is_found(document: Document, status: int, body: str, find: str) -> None:
    answer = httpx.Response(status, text=body, headers={"content-type": "application/json"})
    assert any(find in fault for fault in faults(_route(document, "/encode"), answer))


def test_a_plain_refusal_is_no_find(document: Document) -> None:
    answer = httpx.Response(422, json={"detail": "photo is neither a JPEG nor a PNG image; send one of these."})
    assert list(faults(_route(document, "/encode"), answer)) == []


def test_a_meter_counts_what_children_use() -> None:
    work = "import time; b = bytearray(200 << 20)\nwhile time.process_time() < 0.6: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}]); print('x', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        meter = Meter(process.pid)
        with meter.watch() as usage:
            assert process.stdout is not None
            process.stdout.read(1)
        assert 0.5 < usage.cpu_s < 5
        assert usage.grown_mb > 190
        assert meter.alive
        process.communicate(b"\n")
        assert not meter.alive


@pytest.mark.parametrize("between", [False, True])
def test_a_replica_that_dies_is_named(between: bool) -> None:
    name = "ray::ServeReplica:models:models"
    with subprocess.Popen([name, "60"], executable="/bin/sleep") as replica:
        meter = Meter(os.getpid())
        with meter.watch() as usage:
            pass
        assert usage.died == ()
        if between:
            replica.kill()
            replica.wait()
        with meter.watch() as usage:
            replica.kill()
            replica.wait()
        assert usage.died == (name,)
        with meter.watch() as usage:
            pass
        assert usage.died == ()
