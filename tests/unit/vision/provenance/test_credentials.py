"""Content credentials: of every kind of file, intact, tampered with, stripped, and made to harm."""

import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests import sockets
from tests.credentials import CAPTURED, GENERATED, action, identity, signed
from tests.graphs.authenticity import coded, film, saved, scene, tone, wav
from tests.waiting import wait_for
from vision import child
from vision.errors import InvalidMedia, MediaTooLarge
from vision.provenance import credentials as module
from vision.provenance.credentials import Credentials, may_have_credentials, read_credentials
from vision.provenance.findings import _of_credentials

MIME: Final = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "heic": "image/heic",
    "avif": "image/avif",
    "tiff": "image/tiff",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "avi": "video/x-msvideo",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "flac": "audio/flac",
}
OPENED: Final = action("opened", parameters={"ingredientIds": ["first"]})
PARENT: Final = {"title": "first", "label": "first", "relationship": "parentOf"}


def plain(kind: str) -> bytes:
    """Return a small file of a kind, without credentials."""
    picture = scene("ada", size=(96, 64))
    if kind in ("heic", "avif"):
        return _heif(picture) if kind == "heic" else saved(picture, "AVIF")
    if kind in ("mp4", "mov", "avi"):
        frames = [scene("ada", seed=place, size=(96, 64)) for place in range(4)]
        return film(frames, container=kind)
    if kind == "wav":
        return wav(tone(0.5, 0.5))
    if kind in ("mp3", "flac", "m4a"):
        return coded(tone(0.5, 0.5), {"m4a": "aac"}.get(kind, kind), {"m4a": "ipod"}.get(kind, kind))
    return saved(picture, kind.upper())


def _heif(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=60)
    return file.getvalue()


def read(data: bytes, trust: bytes | None = None) -> Credentials | None:
    """Return the credentials of a file, in a child."""
    return read_credentials(np.frombuffer(data, np.uint8), None if trust is None else trust.decode())


def found(data: bytes, trust: bytes | None = None) -> Credentials:
    """Return the credentials of a file that has some."""
    credentials = read(data, trust)
    assert credentials is not None
    return credentials


def turned(data: bytes, place: int) -> bytes:
    """Return the data with a bit of one byte turned over."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("kind", MIME)
def test_of_every_kind_it_is_known_who_signed_what(kind: str) -> None:
    data = signed(plain(kind), MIME[kind], GENERATED, action("edited", when="2026-01-02T03:04:05Z"))
    assert may_have_credentials(data)
    assert not may_have_credentials(plain(kind))
    assert read(plain(kind)) is None
    known, unknown = found(data, identity().root), found(data, identity("Nobody", "Nowhere").root)
    assert (known.state, unknown.state, found(data).state) == ("trusted", "valid", "valid")
    assert (known.signer, known.organisation, known.algorithm) == ("Signer One", "Test Studio", "Es256")
    assert (known.generator, known.bytes_match, known.signed_at) == ("Test Maker 1.2", True, None)
    assert [(each.name, each.source_type, each.software) for each in known.actions] == [
        ("c2pa.created", "trainedAlgorithmicMedia", "Model X 3"),
        ("c2pa.edited", None, None),
    ]
    assert known.actions[1].when == "2026-01-02T03:04:05Z"
    assert known.declared is not None
    assert (known.declared.kind, known.declared.software) == ("generated", "Model X 3")
    assert known.failures == unknown.failures == ()  # that the signer is unknown is a state, not a failure


@pytest.mark.parametrize("kind", [kind for kind in MIME if kind not in ("tiff", "wav")])
def test_a_byte_that_changed_after_signing_is_seen(kind: str) -> None:
    whole = plain(kind)
    data = signed(whole, MIME[kind], CAPTURED)
    piece = whole[len(whole) // 2 : len(whole) // 2 + 24]
    place = data.rfind(piece)
    assert place > 0
    changed = turned(data, place + 5)
    if kind == "png":
        changed = with_checksums(changed)
    broken = found(changed, identity().root)
    assert (broken.state, broken.bytes_match) == ("invalid", False)
    assert broken.failures[0].code in module.CHANGED


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_picture_that_was_saved_again_has_none(kind: str) -> None:
    again = io.BytesIO()
    Image.open(io.BytesIO(signed(plain(kind), MIME[kind], GENERATED))).save(again, kind.upper())
    assert read(again.getvalue()) is None


@pytest.mark.parametrize(("kind", "container"), [("mp4", "mp4"), ("mp3", "mp3"), ("mov", "matroska")])
def test_a_film_or_sound_that_was_remuxed_has_none(kind: str, container: str) -> None:
    again = io.BytesIO()
    with (
        av.open(io.BytesIO(signed(plain(kind), MIME[kind], GENERATED))) as source,
        av.open(again, "w", format=container) as output,
    ):
        stream = source.streams[0]
        copied = output.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
    assert read(again.getvalue()) is None


def test_the_manifest_of_another_file() -> None:
    first, second = saved(scene("ada"), "JPEG"), saved(scene("bob"), "JPEG")
    data = signed(first, "image/jpeg", CAPTURED)
    start = data.index(b"\xff\xeb")
    end = start
    while data[end : end + 2] == b"\xff\xeb":
        end += 2 + struct.unpack_from(">H", data, end + 2)[0]
    moved = second[:start] + data[start:end] + second[start:]
    broken = found(moved, identity().root)
    assert (broken.state, broken.bytes_match) == ("invalid", False)
    cut = found(second[:start] + data[start : end - 700] + second[start:])
    assert (cut.state, cut.bytes_match, cut.declared) == ("unreadable", None, None)
    assert cut.unreadable


def test_a_certificate_that_has_expired() -> None:
    late = identity("Late", "Test Studio", lasts_s=2)
    data = signed(plain("jpeg"), "image/jpeg", GENERATED, by=late)
    wait_for(lambda: found(data, late.root).state != "trusted", every_s=0.2)
    credentials = found(data, late.root)
    assert (credentials.state, credentials.bytes_match) == ("invalid", True)
    assert [failure.code for failure in credentials.failures] == [module.EXPIRED]


def test_ingredients_and_what_they_make_of_the_whole() -> None:
    generated, other = signed(plain("jpeg"), "image/jpeg", GENERATED), plain("webp")
    said = {"title": "first", "label": "first"}
    parent = [({**said, "relationship": "parentOf"}, generated, "image/jpeg")]
    whole = found(signed(plain("png"), "image/png", OPENED, ingredients=parent), identity().root)
    assert whole.declared is not None
    assert (whole.state, whole.declared.kind, whole.declared.through) == ("trusted", "generated", "first")
    (ingredient,) = whole.ingredients
    assert (ingredient.relationship, ingredient.state, ingredient.declares) == ("parentOf", "valid", "generated")
    assert (ingredient.signer, ingredient.format) == ("Signer One", "image/jpeg")

    placed = action("placed", parameters={"ingredientIds": ["first"]})
    component = [
        ({**said, "relationship": "componentOf"}, generated, "image/jpeg"),
        ({"title": "plain", "relationship": "inputTo"}, other, "image/webp"),
    ]
    collage = found(signed(plain("png"), "image/png", CAPTURED, placed, ingredients=component), identity().root)
    assert collage.declared is not None
    assert (collage.declared.kind, collage.declared.through) == ("partly_generated", "first")
    assert [(each.title, each.state) for each in collage.ingredients] == [("first", "valid"), ("plain", None)]

    broken = [({**said, "relationship": "parentOf"}, turned(generated, -30), "image/jpeg")]
    spoilt = found(signed(plain("png"), "image/png", OPENED, ingredients=broken), identity().root)
    assert (spoilt.ingredients[0].state, spoilt.declared) == ("invalid", None)


@pytest.mark.parametrize(
    ("actions", "kind"),
    [
        ([action("created", "compositeWithTrainedAlgorithmicMedia")], "partly_generated"),
        ([action("created", "digitalCapture"), action("edited", "trainedAlgorithmicMedia")], "partly_generated"),
        ([action("created", "algorithmicMedia")], "generated"),
        ([action("created", "digitalCapture"), action("edited", "humanEdits")], "edited"),
        ([action("created", "digitalCapture")], "captured"),
        ([action("created", "digitalArt")], "created"),
        ([{"action": "c2pa.created", "digitalSourceType": "http://other.example/unheardOf"}], None),
    ],
)
def test_what_actions_declare(actions: list[dict[str, Any]], kind: str | None) -> None:
    declared = found(signed(plain("jpeg"), "image/jpeg", *actions)).declared
    assert (None if declared is None else declared.kind) == kind


@pytest.mark.parametrize(("code", "trusted"), [("timeStamp.trusted", True), ("timeStamp.validated", False)])
def test_when_it_was_signed_is_what_a_time_stamp_says(code: str, trusted: bool) -> None:
    stamped = "2026-01-02T03:04:05+00:00"
    signature = {"alg": "Es256", "issuer": "Studio", "common_name": "Signer", "time": stamped}
    store = {
        "active_manifest": "a",
        "manifests": {"a": {"label": "a", "signature_info": signature}},
        "validation_results": {"activeManifest": {"success": [{"code": code}], "failure": []}},
    }
    credentials = module.summarized(store, "Valid", None)
    assert (credentials.signed_at, credentials.time_trusted) == (stamped, trusted)
    (finding,) = list(_of_credentials(credentials))[:1]
    assert (stamped in finding.text, "unknown time authority" in finding.text) == (True, not trusted)


# --- hostile files ---


def with_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have."""
    out, at = bytearray(data[:8]), 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        out += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


def test_ingredients_in_a_circle_end() -> None:
    parent = [
        (
            {"title": "first", "label": "first", "relationship": "parentOf"},
            signed(plain("jpeg"), "image/jpeg", GENERATED),
            "image/jpeg",
        )
    ]
    data = signed(plain("png"), "image/png", OPENED, ingredients=parent)
    inner, outer = dict.fromkeys(re.findall(rb"urn:c2pa:[0-9a-f-]{36}", data))
    for old, new in ((inner, outer), (outer, inner)):
        circle = found(with_checksums(data.replace(old, new)))
        assert (circle.state, circle.declared) == ("unreadable", None)
    for place in [match.start() for match in re.finditer(inner, data)]:
        one = found(with_checksums(data[:place] + outer + data[place + len(outer) :]), identity().root)
        assert one.state in ("invalid", "unreadable")


def test_a_circle_of_manifests_is_walked_once() -> None:
    action_of = {"label": "c2pa.actions", "data": {"actions": [dict(action("created", "digitalCapture"))]}}
    taken = {"relationship": "componentOf", "title": "x", "active_manifest": "b", "validation_results": {}}
    manifests: dict[str, Any] = {
        "a": {"label": "a", "assertions": [action_of], "ingredients": [taken]},
        "b": {
            "label": "b",
            "assertions": [],
            "ingredients": [{**taken, "active_manifest": name} for name in "ab" * 900],
        },
    }
    declared = module._declared(manifests["a"], manifests)
    assert declared is not None
    assert declared.kind == "captured"


def test_a_long_chain_and_a_large_manifest_are_read() -> None:
    data = plain("jpeg")
    for _ in range(8):
        data = signed(plain("jpeg"), "image/jpeg", OPENED, ingredients=[(PARENT, data, "image/jpeg")])
    chain = found(data, identity().root)
    assert (chain.state, len(chain.ingredients)) == ("trusted", 1)
    padding = [{"label": f"org.test.{place}", "data": {"x": "ab" * 5000}} for place in range(40)]
    large = found(signed(plain("png"), "image/png", GENERATED, assertions=padding))
    assert (large.state, len(large.actions)) == ("valid", 1)


def test_lists_and_texts_are_cut() -> None:
    many = [action("edited", description="x" * 500) for _ in range(300)]
    long = found(signed(plain("jpeg"), "image/jpeg", GENERATED, *many, title="\x1b[31m" + "t" * 5000))
    assert (len(long.actions), len(long.title or "")) == (module.MOST_ACTIONS, 300)
    assert "\x1b" not in (long.title or "")


@pytest.mark.parametrize("error", [InvalidMedia("crashed"), MediaTooLarge("too long"), MemoryError()])
def test_a_reader_that_stops_is_said_to_have_stopped(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise error

    monkeypatch.setattr(child, "run", stops)
    credentials = found(signed(plain("jpeg"), "image/jpeg", GENERATED))
    assert (credentials.state, credentials.unreadable) == ("unreadable", module.STOPPED)


def test_damaged_files_never_end_the_reader() -> None:
    rng = np.random.default_rng(7)
    whole = {kind: signed(plain(kind), MIME[kind], GENERATED) for kind in ("jpeg", "png", "webp", "mp4", "wav", "mp3")}
    states = set()
    for kind, data in whole.items():
        start = data.index(b"c2pa") - 64
        for _ in range(25):
            changed = bytearray(data)
            for place in rng.integers(max(start, 0), min(start + 3500, len(data)), 3).tolist():
                changed[place] = int(rng.integers(0, 256))
            credentials = read(bytes(changed[: int(rng.integers(start, len(data)))] if rng.random() < 0.2 else changed))
            assert credentials != Credentials("unreadable", unreadable=module.STOPPED), kind
            states.add(None if credentials is None else credentials.state)
    assert {"invalid", "unreadable"} <= states
    assert "trusted" not in states


# --- the network ---


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """An address on loopback, and what was sent to it."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    requests.append(connection.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa", requests
        done.set()
        thread.join()


@pytest.mark.parametrize("kind", ["jpeg", "png", "mp4"])
def test_a_remote_manifest_is_named_and_never_fetched(kind: str, listener: tuple[str, list[bytes]]) -> None:
    address, requests = listener
    data = signed(plain(kind), MIME[kind], GENERATED, remote=address, embed=False)
    credentials = found(data, identity().root)
    assert (credentials.state, credentials.remote_url, credentials.declared) == ("remote", address, None)
    both = found(signed(plain(kind), MIME[kind], GENERATED, remote=address), identity().root)
    assert both.state == "trusted"
    assert requests == []


SCRIPT: Final = """
import contextlib, io, pathlib, sys
import c2pa
from tests.sockets import end_on_internet_sockets
from vision.provenance import credentials

which, fence, filter = sys.argv[1:]
remote, both, trust = (pathlib.Path(name).read_bytes() for name in ("remote", "both", "root"))
fenced = credentials._nothing_opened if fence == "fence" else contextlib.nullcontext
credentials._nothing_opened = contextlib.nullcontext
if filter == "filter":
    end_on_internet_sockets()
with fenced():
    if which == "default":
        c2pa.Reader("image/jpeg", io.BytesIO(remote))
    for data in (remote, both):
        print(credentials._read(memoryview(data), trust.decode()).state)
"""
ROOT: Final = Path(__file__).parents[4]


@pytest.fixture
def judged(tmp_path: Path, listener: tuple[str, list[bytes]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Judge two files that name a remote manifest, in a process of its own."""
    address, _ = listener
    remote = signed(plain("jpeg"), "image/jpeg", GENERATED, remote=address, embed=False)
    (tmp_path / "remote").write_bytes(remote)
    (tmp_path / "both").write_bytes(signed(plain("mp4"), "video/mp4", GENERATED, remote=address))
    (tmp_path / "root").write_bytes(identity().root)
    command = [sys.executable, "-c", SCRIPT]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_the_library_would_fetch_by_default_and_the_fence_alone_keeps_it_from_that(
    judged: Callable[..., subprocess.CompletedProcess[str]], listener: tuple[str, list[bytes]]
) -> None:
    _, requests = listener
    assert judged("default", "fence", "").returncode != 0
    assert requests == []
    judged("default", "", "")
    assert len(requests) >= 1


@pytest.mark.skipif(not sockets.SUPPORTED, reason="the filter of system calls is for Linux on two machines")
def test_the_settings_alone_ask_for_no_socket(judged: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ours = judged("ours", "", "filter")
    assert (ours.returncode, ours.stdout.split()) == (0, ["remote", "trusted"]), ours.stderr
    assert judged("default", "", "filter").returncode == -signal.SIGSYS
