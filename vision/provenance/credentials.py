"""Content credentials (C2PA): who signed a file, with what it was made, and whether its bytes are still those.

C2PA Technical Specification 2.x, https://spec.c2pa.org, read and checked by c2pa-python, the reference implementation.
Its native code runs in a child process that has a bounded share of time and memory, and that may open no file and no
socket while it reads: nothing that a file names is fetched, neither remote manifests nor the state of certificates.
"""

import io
import json
import mmap
import pickle
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision import child
from vision.child import Allowance
from vision.errors import InvalidMedia, MediaTooLarge
from vision.provenance.sources import RANK, Kind, clean, source_kind, source_name

State = Literal["trusted", "valid", "invalid", "unreadable", "remote"]
"""``trusted`` and ``valid``: the bytes are those that were signed, by a signer of the trust lists or by an unknown one.

``invalid``: the bytes, the manifest or the certificate fail a check. ``unreadable``: there are credentials, which
cannot be read. ``remote``: the file names only an address where they are.
"""
FileBytes = NDArray[np.uint8]

ALLOWANCE: Final = Allowance(cpu_s=20.0, memory=512 * 2**20)
MARK: Final = b"c2pa"
"""In the label of every manifest store, which is never compressed."""
MOST_ACTIONS: Final = 100
MOST_INGREDIENTS: Final = 50
MOST_FAILURES: Final = 30
MOST_MANIFESTS: Final = 200
"""Manifests of ingredients, and of theirs, that are walked through."""
LARGEST_JSON: Final = 32 * 2**20
LARGEST_MANIFEST_MB: Final = 32
"""Of a compressed manifest, unpacked."""
UNTRUSTED: Final = "signingCredential.untrusted"
CHANGED: Final = ("assertion.dataHash.mismatch", "assertion.bmffHash.mismatch", "assertion.boxesHash.mismatch")
"""Codes of the specification for bytes that are not those that were signed."""
TIME_TRUSTED: Final = "timeStamp.trusted"
EXPIRED: Final = "signingCredential.expired"
STOPPED: Final = "its reader stopped on them, or took too long"


@dataclass(frozen=True, slots=True)
class Action:
    """What was done, such as ``c2pa.created``, ``c2pa.edited``; with which software and when, where that is said."""

    name: str
    source_type: str | None = None
    software: str | None = None
    when: str | None = None


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A file that went into this one. ``state``: valid or invalid when it was taken; None without own credentials."""

    title: str
    relationship: str
    format: str | None = None
    state: State | None = None
    signer: str | None = None
    declares: Kind | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that failed, by its code in the specification."""

    code: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What the signer says that the file is. ``through``: an ingredient says it, by its title."""

    kind: Kind
    source_type: str
    software: str | None
    through: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The active manifest of a file.

    ``bytes_match``: whether the bytes are those that were signed; None where that was not reached. ``signed_at``: of a
    time stamp, ISO 8601; None without one, as a signer's own clock proves nothing. ``time_trusted``: whether the
    authority that stamped it is on the trust lists.
    """

    state: State
    signer: str | None = None
    organisation: str | None = None
    algorithm: str | None = None
    serial: str | None = None
    signed_at: str | None = None
    generator: str | None = None
    title: str | None = None
    bytes_match: bool | None = None
    actions: tuple[Action, ...] = ()
    ingredients: tuple[Ingredient, ...] = ()
    failures: tuple[Failure, ...] = ()
    declared: Declared | None = None
    remote_url: str | None = None
    unreadable: str | None = None
    time_trusted: bool = False


def may_have_credentials(data: bytes | mmap.mmap | memoryview) -> bool:
    """Return whether the bytes may hold content credentials; a search, so it costs little."""
    return re.search(MARK, data) is not None


def read_credentials(data: FileBytes, trust: str | None) -> Credentials | None:
    """Return the credentials of a file, uint8 (n,); None where it has none.

    ``trust``: certificates as PEM whose chains are trusted. Credentials that stop their reader are ``unreadable``.
    Raises StageOverloaded, StageUnavailable and DeadlineExceeded.
    """
    try:
        return child.run(ALLOWANCE, _read, pickle.PickleBuffer(np.ascontiguousarray(data).data), trust)
    except (InvalidMedia, MediaTooLarge, MemoryError):
        return Credentials("unreadable", unreadable=STOPPED)


def _read(data: memoryview, trust: str | None) -> Credentials | None:
    """Read credentials; in a child."""
    import c2pa

    config: dict[str, Any] = {
        "core": {
            "allowed_network_hosts": [],
            "decode_identity_assertions": False,
            "max_decompressed_manifest_size_in_mb": LARGEST_MANIFEST_MB,
        },
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    if trust:
        config["trust"] = {"trust_anchors": trust}
    with c2pa.Context(c2pa.Settings.from_dict(config)) as context, _nothing_opened():
        try:
            with c2pa.Reader(None, _View(data), context=context) as reader:
                text = reader.json()
                state = reader.get_validation_state()
                if len(text) > LARGEST_JSON:
                    return Credentials("unreadable", unreadable="they are too large")
                return summarized(json.loads(text), state, reader.get_remote_url())
        except c2pa.C2paError.ManifestNotFound:
            return None
        except c2pa.C2paError.NotSupported:
            return None
        except c2pa.C2paError as error:
            return _broken(str(error))


@contextmanager
def _nothing_opened() -> Iterator[None]:
    """Let this process open no file and no socket meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class _View(io.RawIOBase):
    """A file object over bytes that are not copied."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._place = data.cast("B"), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._data[self._place : self._place + len(buffer)]
        memoryview(buffer)[: len(part)] = part
        self._place += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._data)}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def tell(self) -> int:
        return self._place


def _broken(message: str) -> Credentials:
    kind, _, rest = message.partition(": ")
    _, fetches, url = rest.partition("must fetch remote manifests from url ")
    if fetches:
        return Credentials("remote", remote_url=clean(url))
    return Credentials("unreadable", unreadable=clean(rest or kind))


def summarized(store: Mapping[str, Any], state: str | None, remote_url: str | None) -> Credentials:
    """Return what the reader's report on a manifest store says; ``state`` and ``remote_url`` as it gives them."""
    manifests = store.get("manifests") or {}
    active = manifests.get(str(store.get("active_manifest")))
    if not isinstance(active, Mapping):
        return Credentials("unreadable", unreadable="there is no active manifest")
    results = store.get("validation_results") or {}
    failed = [*_list((results.get("activeManifest") or {}).get("failure"))]
    for delta in _list(results.get("ingredientDeltas")):
        failed += _list((delta.get("validationDeltas") or {}).get("failure"))
    passed = {entry.get("code") for entry in _list((results.get("activeManifest") or {}).get("success"))}
    signature = active.get("signature_info") or {}
    failures = [Failure(clean(each.get("code")), clean(each.get("explanation", ""))) for each in failed]
    return Credentials(
        state={"Trusted": "trusted", "Valid": "valid"}.get(str(state), "invalid"),  # type: ignore[arg-type]
        signer=_text(signature.get("common_name") or signature.get("issuer")),
        organisation=_text(signature.get("issuer")),
        algorithm=_text(signature.get("alg")),
        serial=_text(signature.get("cert_serial_number")),
        signed_at=_text(signature.get("time")),
        generator=_generator(active),
        title=_text(active.get("title")),
        bytes_match=_bytes_match({failure.code for failure in failures}, passed),
        actions=tuple(_actions(active)),
        ingredients=tuple(_ingredient(each, manifests) for each in _list(active.get("ingredients"))[:MOST_INGREDIENTS]),
        failures=tuple(dict.fromkeys(each for each in failures if each.code != UNTRUSTED))[:MOST_FAILURES],
        declared=_declared(active, manifests),
        remote_url=_text(remote_url),
        time_trusted=TIME_TRUSTED in passed,
    )


def _bytes_match(failed: set[str], passed: set[Any]) -> bool | None:
    if failed & {*CHANGED}:
        return False
    return True if any(str(code).endswith("Hash.match") for code in passed) else None


def _declared(active: Mapping[str, Any], manifests: Mapping[str, Any]) -> Declared | None:
    """Return what a manifest says that its file is, or what those of its ingredients make of it, if that is more."""
    declarations = [*_own(active)]
    seen, left = {active.get("label")}, [(each, False) for each in _list(active.get("ingredients"))]
    while left and len(seen) < MOST_MANIFESTS:
        said, part = left.pop(0)
        label = str(said.get("active_manifest"))
        manifest = manifests.get(label)
        if said.get("relationship") == "inputTo" or label in seen or not isinstance(manifest, Mapping):
            continue
        seen.add(label)
        part = part or said.get("relationship") != "parentOf"
        if _ingredient_state(said) == "valid":
            for own in _own(manifest):
                partly = part and own.kind == "generated"
                kind: Kind = "partly_generated" if partly else own.kind
                if kind in RANK[:2]:  # what else a part is says nothing of the whole
                    declarations.append(Declared(kind, own.source_type, own.software, _text(said.get("title")) or "?"))
        left += [(each, part) for each in _list(manifest.get("ingredients"))]
    return min(declarations, key=lambda each: RANK.index(each.kind), default=None)


def _own(manifest: Mapping[str, Any]) -> Iterator[Declared]:
    for action in _actions(manifest):
        kind = None if action.source_type is None else source_kind(action.source_type)
        if kind is None or action.source_type is None:
            continue
        if kind == "generated" and action.name != "c2pa.created":
            kind = "partly_generated"  # a part was filled in
        yield Declared(kind, action.source_type, action.software or _generator(manifest))


def _actions(manifest: Mapping[str, Any]) -> list[Action]:
    actions: list[Action] = []
    for assertion in _list(manifest.get("assertions")):
        if not str(assertion.get("label", "")).startswith("c2pa.actions"):
            continue
        data = assertion.get("data")
        for each in _list(data.get("actions") if isinstance(data, Mapping) else None):
            source = each.get("digitalSourceType")
            agent = each.get("softwareAgent")
            actions.append(
                Action(
                    clean(each.get("action", "?")),
                    clean(source_name(source)) if isinstance(source, str) else None,
                    _named(agent) if isinstance(agent, Mapping) else _text(agent),
                    _text(each.get("when")),
                )
            )
            if len(actions) >= MOST_ACTIONS:
                return actions
    return actions


def _ingredient(said: Mapping[str, Any], manifests: Mapping[str, Any]) -> Ingredient:
    manifest = manifests.get(str(said.get("active_manifest")))
    signature = manifest.get("signature_info") or {} if isinstance(manifest, Mapping) else {}
    own = _own(manifest) if isinstance(manifest, Mapping) else ()
    kinds = [each.kind for each in own]
    return Ingredient(
        clean(said.get("title") or "?"),
        clean(said.get("relationship") or "?"),
        _text(said.get("format")),
        _ingredient_state(said),
        _text(signature.get("common_name") or signature.get("issuer")),
        min(kinds, key=RANK.index, default=None),
    )


def _ingredient_state(said: Mapping[str, Any]) -> State | None:
    """Return the state of an ingredient's credentials as whoever took it wrote down; its file is not here."""
    if said.get("active_manifest") is None:
        return None
    active = (said.get("validation_results") or {}).get("activeManifest") or {}
    codes = {failure.get("code") for failure in _list(active.get("failure"))}
    codes |= {status.get("code") for status in _list(said.get("validation_status"))}
    return "invalid" if codes - {UNTRUSTED} else "valid"


def _generator(manifest: Mapping[str, Any]) -> str | None:
    named = [_named(each) for each in _list(manifest.get("claim_generator_info"))]
    return next((name for name in named if name), None) or _text(manifest.get("claim_generator"))


def _named(agent: Mapping[str, Any]) -> str | None:
    return _text(" ".join(str(agent[key]) for key in ("name", "version") if agent.get(key)))


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return clean(value) or None if isinstance(value, str) else None
