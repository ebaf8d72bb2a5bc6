"""The routes of the OpenAPI document: which take bytes, which work on an asset, and what their answers may be."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

BOUNDARY: Final = "hostile-boundary"
ASSET: Final = re.compile(r"\b[0-9a-f]{32}\b")
"""How the examples of the document write the id of an asset."""
UNAVAILABLE: Final = (503, 504, 507)
FRAMES: Final = {"frame": 0, "start_frame": 0, "end_frame": 2}
"""What is asked of a film."""
NO_KEY: Final = re.compile(r"no provider has a key|There is no key for")
MEDIA: Final = ("image/", "video/", "audio/", "application/octet-stream")
LEAKS: Final = (
    *("Traceback", 'File "', "/tmp/", "/work/", "/usr/", "site-packages", ".py", "root:x:", "sqlite", "valkey"),
    *(
        "Errno",
        "libav",
        "avcodec",
        "PIL",
        "Pillow",
        "libjpeg",
        "libtiff",
        "libheif",
        "OpenCV",
        "cv2.",
        "numpy",
        "pydantic",
    ),
    *("0x7f", "RuntimeError", "ValueError", "KeyError", "TypeError", "MemoryError", "ray::", "object at "),
)


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent."""

    data: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Document:
    """An OpenAPI document whose answers can be checked."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.registry: Registry[Any] = Registry().with_resource("urn:api", Resource(document, DRAFT202012))

    def routes(self) -> "list[Route]":
        """Return every operation."""
        return [
            Route(self, method.upper(), path, operation)
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        ]

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a schema behind references and ``or null``."""
        if "$ref" in schema:
            return self.resolved(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            choice = next(choice for choice in schema["anyOf"] if choice.get("type") != "null")
            return (
                {**schema, "anyOf": [], **self.resolved(choice)}
                if choice.get("type") == "string"
                else self.resolved(choice)
            )
        return schema


@dataclass(frozen=True)
class Route:
    """One operation."""

    document: Document
    method: str
    path: str
    operation: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @cached_property
    def _content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = (self.operation.get("requestBody") or {}).get("content", {})
        return content

    @property
    def takes_json(self) -> bool:
        """Whether its body is JSON."""
        return "application/json" in self._content

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The schema of its body, empty for none."""
        for content in self._content.values():
            return self.document.resolved(content["schema"])
        return {}

    @cached_property
    def file_fields(self) -> list[str]:
        """The fields of its form that are files; one of a list once."""
        if "multipart/form-data" not in self._content:
            return []
        return [
            name
            for name, schema in self.schema["properties"].items()
            if "binary" in str(schema) or "octet" in str(schema)
        ]

    @cached_property
    def takes_base64(self) -> bool:
        """Whether its JSON has bytes in it."""
        return self.takes_json and self._with("", "base64") is not None

    @cached_property
    def takes_address(self) -> bool:
        """Whether its JSON has the address of a picture in it."""
        return self.takes_json and self._with("", "http") is not None

    @property
    def takes_bytes(self) -> bool:
        """Whether a file can be sent to it."""
        return bool(self.file_fields) or self.takes_base64

    @cached_property
    def works_on_assets(self) -> bool:
        """Whether it works on an asset, by its path or by its body."""
        return bool({"{asset_id}", "{file_uuid}"} & set(self.path.split("/")) or ASSET.search(json.dumps(self.example)))

    @cached_property
    def example(self) -> Any:
        """The example of its JSON body, None for none."""
        return next(iter(self.schema.get("examples", [])), None) if self.takes_json else None

    def file(self, data: bytes, name: str = "file.bin", content_type: str = "application/octet-stream") -> Body:
        """Return a body with this file in every place for one."""
        if not self.file_fields:
            return as_json(self._with(base64.b64encode(data).decode(), "base64"))
        parts = [part(field, data, disposition(field, name), content_type) for field in self.file_fields]
        return Body(
            b"".join([*parts, b"--", BOUNDARY.encode(), b"--\r\n"]), f"multipart/form-data; boundary={BOUNDARY}"
        )

    def address(self, url: str) -> Body:
        """Return a body with this address in place of that of a picture."""
        return as_json(self._with(url, "http"))

    def on(self, asset_id: str, *others: str) -> tuple[str, Body | None]:
        """Return its path and body for an asset; where it takes several, the ``others`` follow."""
        path = re.sub(r"\{(asset_id|file_uuid)\}", asset_id, self.path)
        path = re.sub(r"\{[a-z_]*uuid[a-z_]*\}|\{[a-z]*_id\}", lambda m: "0" if "trace" in m[0] else asset_id, path)
        names = {parameter["name"] for parameter in self.operation.get("parameters", []) if parameter["in"] == "query"}
        if query := "&".join(f"{name}={value}" for name, value in FRAMES.items() if name in names):
            path = f"{path}?{query}"
        if self.example is None:
            return path, None
        ids = iter((asset_id, *others))
        known: dict[str, str] = {}
        text = ASSET.sub(
            lambda m: known.setdefault(m[0], next(ids, asset_id)) if m[0] not in known else known[m[0]],
            json.dumps(self.example),
        )
        return path, Body(text.encode(), "application/json")

    def with_text(self, text: str) -> Any:
        """Return a body with this text in place of base64."""
        return self._with(text, "base64")

    def _with(self, text: str, mark: str) -> Any:
        """Return the least JSON body with this text where a description has the mark; None where there is none."""
        return self._placed(self.schema, text, mark, "")

    def _placed(self, schema: Mapping[str, Any], text: str, mark: str, description: str) -> Any:
        description = str(schema.get("description", description))
        schema = self.document.resolved(schema)
        kind = schema.get("type")
        if kind == "object":
            example = next(iter(schema.get("examples", [])), {})
            values = {name: self._placed(of, text, mark, "") for name, of in schema.get("properties", {}).items()}
            placed = {name: value for name, value in values.items() if value is not None}
            if not placed:
                return None
            return {name: example.get(name) for name in schema.get("required", [])} | placed
        if kind == "array":
            item = self._placed(schema.get("items", {}), text, mark, description)
            return None if item is None else [item] * max(1, schema.get("minItems", 1))
        return text if kind == "string" and mark in description else None


def as_json(value: Any) -> Body:
    """Return a JSON body."""
    return Body(json.dumps(value).encode(), "application/json")


def disposition(field: str, name: str) -> bytes:
    """Return the value of Content-Disposition for a file, its name as it is."""
    quoted = name.replace("\\", "\\\\").replace('"', "%22").encode("utf-8", "surrogateescape")
    return f'form-data; name="{field}"; filename="'.encode() + quoted + b'"'


def part(field: str, data: bytes, value: bytes, content_type: str = "application/octet-stream") -> bytes:
    """Return one part of a form."""
    head = b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + value
    kind = b"\r\nContent-Type: " + content_type.encode("latin-1", "replace") if content_type else b""
    return head + kind + b"\r\n\r\n" + data + b"\r\n"


def faults(route: Route, answer: httpx.Response, sent: bytes = b"") -> Iterator[str]:
    """Yield what is wrong with an answer: an undocumented status, another body than documented, what it gives away."""
    status, responses = answer.status_code, route.operation["responses"]
    documented = responses.get(str(status)) or responses.get("default")
    if status >= 500 and status not in UNAVAILABLE:
        yield f"status {status}"
    if documented is None:
        yield f"status {status} is not documented"
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if status >= 400 or kind == "application/json":
        yield from _body_faults(route, answer, documented)
        if status >= 400:
            yield from (f"gives away {leak!r}" for leak in LEAKS if leak in answer.text and leak.encode() not in sent)
    elif "html" in kind and not route.path.endswith(".html"):
        yield "a page of somebody else's making"
    if re.search(
        r"[/\\\x00-\x1f\x7f]",
        re.sub(r"^(inline|attachment);|UTF-8''", "", answer.headers.get("content-disposition", "")),
    ):
        yield f"a file name with a path in it: {answer.headers['content-disposition'][:80]}"
    if answer.headers.get("x-content-type-options") != "nosniff" and kind.startswith(MEDIA):
        yield "a file without nosniff"
    # No retry cures a key that nobody has set.
    helps = status in (429, 503, 504) and not (status == 503 and NO_KEY.search(answer.text))
    if helps != ("retry-after" in answer.headers):
        yield "Retry-After where it does not belong, or none"


def _body_faults(route: Route, answer: httpx.Response, documented: Mapping[str, Any] | None) -> Iterator[str]:
    try:
        body = answer.json()
    except ValueError:
        yield f"status {answer.status_code} without JSON: {answer.text[:80]!r}"
        return
    if answer.status_code >= 400 and len(_message(body)) < 8:
        yield f"says nothing: {answer.text[:80]}"
    responses = route.operation["responses"]
    documented = documented or responses.get("default")
    if documented is None or "application/json" not in documented.get("content", {}):
        return
    status = answer.status_code if str(answer.status_code) in responses else "default"
    place = f"{route.path.replace('~', '~0').replace('/', '~1')}/{route.method.lower()}/responses/{status}"
    pointer = f"urn:api#/paths/{place}/content/application~1json/schema"
    for error in Draft202012Validator({"$ref": pointer}, registry=route.document.registry).iter_errors(body):
        yield f"not as documented at {error.json_path}: {error.message[:120]}"


def _message(body: Any) -> str:
    """Return what a body says to a person, in any of the styles."""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error")
    if isinstance(inner, dict):
        return str(inner.get("message", ""))
    return str(body.get("message") or body.get("detail") or inner or "")
