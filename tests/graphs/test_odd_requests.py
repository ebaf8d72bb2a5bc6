"""Requests that no client library makes: every route answers them in JSON, in the style of its API, never by a 500."""

import re

from tests.graphs.conftest import MakeSettings
from tests.graphs.harness import every_api, listening, raw_reply

FORM = "multipart/form-data; boundary=x"


def _form(disposition: bytes, body: bytes = b"abc") -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + body + b"\r\n--x--\r\n"


ODD = {
    "cut off": (b"{", "application/json"),
    "a NUL": (b'{"asset_id": "\\u0000", "name": "\\u0000", "image_url": "\\u0000"}', "application/json"),
    "half a character": (b'{"asset_id": "\\ud800", "name": "\\ud800", "image_url": "\\ud800"}', "application/json"),
    "a number of 5,000 digits": (b'{"limit": ' + b"9" * 5000 + b"}", "application/json"),
    "no number": (b'{"threshold": NaN, "limit": -Infinity}', "application/json"),
    "nested": (b"[" * 100_000, "application/json"),
    "another charset": ('{"a": 1}'.encode("utf-16"), "application/json; charset=utf-16"),
    "XML": (b"<x/>", "application/xml"),
    "no type": (b"{}", ""),
    "a type of 5,000 characters": (b"{}", "x/" + "y" * 5000),
    "a form without end": (b"--x\r\n", FORM),
    "a form without boundary": (b"--x--", "multipart/form-data"),
    "a file of no kind": (_form(b'name="file"; filename="a"'), FORM),
    "a file name of 5,000 characters": (_form(b'name="file"; filename="' + b"n" * 5000 + b'.png"'), FORM),
    "a field name of 5,000 characters": (_form(b'name="' + b"n" * 5000 + b'"'), FORM),
    "a form of another kind": (b"a=1&file=%ff", "application/x-www-form-urlencoded"),
}


async def test_every_route_answers_odd_bodies_in_json(settings_for: MakeSettings) -> None:
    async with every_api(settings_for()) as service:
        routes = [
            (method.upper(), re.sub(r"{[^}]*}", "0" * 32, path))
            for path, methods in service.app.openapi()["paths"].items()
            for method in methods
            if method in ("post", "put", "patch")
        ]
        assert len(routes) > 30
        for method, path in routes:
            for name, (body, kind) in ODD.items():
                headers = {"content-type": kind} if kind else {}
                answer = await service.client.request(method, path, content=body, headers=headers)
                about = (method, path, name, answer.status_code, answer.text[:200])
                assert answer.status_code < 500 or answer.status_code == 503, about
                assert answer.headers["content-type"] == "application/json", about
                assert answer.json(), about


async def test_a_long_name_is_never_a_broken_form(settings_for: MakeSettings) -> None:
    async with every_api(settings_for()) as service:
        body = _form(b'name="file"; filename="' + b"n" * 5000 + b'.png"')
        for path in ("/upload-media", "/api/v1/analyze/image/", "/predict/file", "/encode/file"):
            answer = await service.client.post(path, content=body, headers={"content-type": FORM})
            assert 400 <= answer.status_code < 500
            assert "broken" not in answer.text
            # Forms of the muzzle API are read by the framework, whose limit of a header is 4 KiB.
            assert ("shorter names" in answer.text) == (path in ("/predict/file", "/encode/file"))


TARGETS = {
    "/%ff%fe": 404,
    "/%": 404,
    "/%zz": 404,
    "/api/v1/media/%00": 404,
    "/nothing?a=%ff%fe": 404,
    "/api/v1/shot-library?page=99999999999999999999999": 422,
    "/api/v1/shot-library?page=1e400": 422,
    "/api/v1/shot-library?page=%ff&tags=%00": 422,
    "//evil.example/docs/": 404,
    "/" + "a" * 50_000: 404,
    "/api/v1/jobs?status=" + "x" * 20_000: 422,
}


async def test_odd_targets_are_answered_in_json(settings_for: MakeSettings) -> None:
    async with every_api(settings_for()) as service, listening(service.app) as port:
        for target, status in TARGETS.items():
            request = f"GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            head, _, body = (await raw_reply(port, request.encode())).partition(b"\r\n\r\n")
            assert (int(head.split()[1]), b"content-type: application/json" in head.lower()) == (status, True), target
            assert b"evil" not in head
            assert len(body) < 2000
