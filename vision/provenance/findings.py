"""Where a file comes from, by all that it says itself: credentials, metadata, and what contradicts each other.

A valid signature under a declaration of generation settles the matter. The same words without a signature are a strong
hint that anybody could have written. Nothing at all means that nothing is known: most genuine files have no
credentials, and those that had some lose them when a platform saves them again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from vision.images import Pixels
from vision.provenance.blocks import Blocks, read_blocks
from vision.provenance.consistency import (
    LEAST_CORRELATION,
    contradicting_times,
    standard_quality,
    thumbnail_correlation,
)
from vision.provenance.credentials import (
    CHANGED,
    EXPIRED,
    Credentials,
    FileBytes,
    may_have_credentials,
    read_credentials,
)
from vision.provenance.exif import Tags, read_exif
from vision.provenance.generators import Generator, Text, generator_of
from vision.provenance.sources import Kind, clean, source_kind, source_name
from vision.provenance.xmp import Properties, read_xmp

Severity = Literal["strong", "notable", "info"]
Basis = Literal["signed_trusted", "signed_unknown", "unsigned"]
Code = Literal[
    "SIGNED",
    "SIGNED_GENERATED",
    "SIGNED_CAPTURED",
    "SIGNER_UNKNOWN",
    "BYTES_CHANGED",
    "CREDENTIALS_INVALID",
    "CREDENTIALS_UNREADABLE",
    "CREDENTIALS_REMOTE",
    "UNSIGNED_GENERATED",
    "UNSIGNED_SOURCE",
    "THUMBNAIL_DIFFERS",
    "TIMES_CONTRADICT",
    "SIZE_DIFFERS",
    "SAVED_BY_SOFTWARE",
    "SOFTWARE_NAMED",
]
_EDITORS: Final = (
    "photoshop",
    "gimp",
    "lightroom",
    "affinity",
    "snapseed",
    "picsart",
    "facetune",
    "pixelmator",
    "canva",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found. ``signed``: whether a signature that was checked vouches for it."""

    code: Code
    severity: Severity
    text: str
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Declaration:
    """That a file, or a part of it, was generated: by which program, and who stands for that."""

    kind: Kind
    by: str
    source_type: str | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the file's metadata say, each as it is written there; None for what they do not."""

    digital_source_type: str | None = None
    make: str | None = None
    model: str | None = None
    software: str | None = None
    taken: str | None = None
    created: str | None = None
    modified: str | None = None
    generator: str | None = None
    generator_place: str | None = None
    generator_text: str | None = None
    jpeg_quality: int | None = None
    thumbnail_correlation: float | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that was found. ``declaration``: that it was generated; None where nothing says so."""

    credentials: Credentials | None
    metadata: Metadata
    findings: tuple[Finding, ...]
    declaration: Declaration | None = None

    @property
    def bytes_changed(self) -> bool:
        """Whether the bytes are not those that were signed."""
        return self.credentials is not None and self.credentials.bytes_match is False


def examine(
    data: FileBytes | None, image: Pixels | None, tags: Mapping[str, str], trust: str | None = None
) -> Provenance:
    """Return the provenance of a file.

    ``data``: its bytes, uint8 (n,), or None where they are known to hold no credentials and it is no picture.
    ``image``: its pixels, if it is one. ``tags``: what its container says of a film or sound, by name. ``trust``: as
    for ``read_credentials``, whose errors are raised.
    """
    credentials = None
    if data is not None and may_have_credentials(data.data):
        credentials = read_credentials(data, trust)
    blocks = Blocks() if data is None else read_blocks(data.data)
    exif, thumbnail = read_exif(blocks.exif)
    packet = tags.get("xmp") or tags.get("id3v2_priv.XMP") or ""
    xmp = read_xmp(blocks.xmp or packet.encode())
    if credentials is None and (address := _remote(xmp)):
        credentials = Credentials("remote", remote_url=address)
    generator = generator_of(_texts(blocks, exif, xmp, tags))
    likeness = None
    if image is not None and thumbnail:
        likeness = thumbnail_correlation(thumbnail, image, _number(exif, "Orientation") or 1)
    metadata = _metadata(blocks, exif, xmp, tags, generator, likeness)
    declaration = _declaration(credentials, metadata, generator)
    findings = [*_of_credentials(credentials), *_of_metadata(metadata, generator, credentials)]
    findings += _of_picture(blocks, exif, xmp, metadata, image)
    return Provenance(credentials, metadata, tuple(findings), declaration)


def _remote(xmp: Properties) -> str | None:
    value = next(iter(xmp.get("provenance", ())), "")
    return clean(value) if value.startswith(("http://", "https://")) else None


def _texts(blocks: Blocks, exif: Tags, xmp: Properties, tags: Mapping[str, str]) -> Iterator[Text]:
    for name, value in blocks.texts:
        yield Text(f"the text {clean(name, 40)!r}", name, value)
    for name, tag in exif.items():
        if isinstance(tag, str):
            yield Text(f"EXIF {name}", name, tag)
    for name, values in xmp.items():
        yield from (Text(f"XMP {name}", name, value) for value in values)
    for name, value in _iptc(blocks.iptc).items():
        yield Text(f"IPTC {name}", name, value)
    for name, value in tags.items():
        if name != "xmp":
            yield Text(f"the tag {clean(name, 40)!r}", name, value)


_IPTC: Final = {65: "Software", 40: "Instructions", 110: "Credit", 120: "Caption"}


def _iptc(data: bytes) -> dict[str, str]:
    """Return the listed datasets of IIM record 2 by name."""
    values: dict[str, str] = {}
    at = 0
    while at + 5 <= len(data) and data[at] == 0x1C and len(values) < len(_IPTC):
        record, dataset, size = data[at + 1], data[at + 2], int.from_bytes(data[at + 3 : at + 5], "big")
        if size & 0x8000:  # an extended dataset, which none of these is
            break
        if record == 2 and dataset in _IPTC:
            values[_IPTC[dataset]] = data[at + 5 : at + 5 + size].decode("utf-8", "replace")
        at += 5 + size
    return values


def _metadata(
    blocks: Blocks,
    exif: Tags,
    xmp: Properties,
    tags: Mapping[str, str],
    generator: Generator | None,
    likeness: float | None,
) -> Metadata:
    def first(*values: object) -> str | None:
        return next((clean(value) for value in values if isinstance(value, str) and value.strip()), None)

    def said(name: str) -> str | None:
        return next(iter(xmp.get(name, ())), None)

    source = said("DigitalSourceType")
    return Metadata(
        digital_source_type=clean(source_name(source)) if source else None,
        make=first(exif.get("Make"), said("Make"), tags.get("make"), tags.get("com.apple.quicktime.make")),
        model=first(exif.get("Model"), said("Model"), tags.get("model"), tags.get("com.apple.quicktime.model")),
        software=first(
            exif.get("Software"),
            said("CreatorTool"),
            said("Software"),
            *(value for name, value in blocks.texts if name.lower() == "software"),
            *(tags.get(name) for name in ("com.apple.quicktime.software", "software", "encoder", "encoded_by")),
        ),
        taken=first(exif.get("DateTimeOriginal"), said("DateTimeOriginal"), said("DateCreated")),
        created=first(said("CreateDate"), exif.get("DateTimeDigitized"), tags.get("creation_time")),
        modified=first(exif.get("DateTime"), said("ModifyDate")),
        generator=generator.name if generator else None,
        generator_place=generator.place if generator else None,
        generator_text=clean(generator.excerpt) if generator else None,
        jpeg_quality=standard_quality(blocks.table) if blocks.table else None,
        thumbnail_correlation=None if likeness is None else round(likeness, 3),
    )


def _declaration(
    credentials: Credentials | None, metadata: Metadata, generator: Generator | None
) -> Declaration | None:
    declared = credentials.declared if credentials else None
    if credentials and declared and declared.kind in ("generated", "partly_generated"):
        basis: Basis = {"trusted": "signed_trusted", "valid": "signed_unknown"}.get(  # type: ignore[assignment]
            credentials.state, "unsigned"
        )
        by = declared.software or credentials.generator or "a program that is not named"
        return Declaration(declared.kind, by, declared.source_type, basis)
    kind = source_kind(metadata.digital_source_type) if metadata.digital_source_type else None
    if generator:
        kind = "partly_generated" if generator.partly else "generated"
        return Declaration(kind, generator.name, metadata.digital_source_type, "unsigned")
    if kind in ("generated", "partly_generated"):
        by = metadata.software or "a program that is not named"
        return Declaration(kind, by, metadata.digital_source_type, "unsigned")
    return None


def _of_credentials(credentials: Credentials | None) -> Iterator[Finding]:
    if credentials is None:
        return
    if credentials.state == "remote":
        yield Finding(
            "CREDENTIALS_REMOTE",
            "info",
            f"Content credentials are said to be at {credentials.remote_url}; they were not fetched",
        )
        return
    if credentials.state == "unreadable":
        yield Finding(
            "CREDENTIALS_UNREADABLE",
            "notable",
            f"There are content credentials that cannot be read ({credentials.unreadable})",
        )
        return
    valid, declared = credentials.state != "invalid", credentials.declared
    who = _signer(credentials)
    if not valid:
        yield from _of_invalid(credentials)
    if declared and declared.kind in ("generated", "partly_generated"):
        what = "was generated" if declared.kind == "generated" else "was generated in part"
        through = f", as its ingredient {declared.through!r} was" if declared.through else ""
        by = f" by {declared.software or credentials.generator}" if declared.software or credentials.generator else ""
        sure = f"signed by {who}" if valid else "but their signature does not hold, so anybody may have written that"
        yield Finding(
            "SIGNED_GENERATED" if valid else "UNSIGNED_GENERATED",
            "strong",
            f"Content credentials say that it {what}{by}{through} ({declared.source_type}), {sure}",
            signed=valid,
        )
    elif valid and declared and declared.kind == "captured":
        by = f" with {credentials.generator}" if credentials.generator else ""
        edits = [action.name.removeprefix("c2pa.") for action in credentials.actions if action.name != "c2pa.created"]
        after = f"; then: {', '.join(dict.fromkeys(edits))}" if edits else ""
        yield Finding(
            "SIGNED_CAPTURED",
            "info",
            f"Content credentials signed by {who} say that it was captured{by} ({declared.source_type}){after}; "
            "the bytes are those that were signed",
            signed=True,
        )
    elif valid:
        done = ", ".join(dict.fromkeys(action.name.removeprefix("c2pa.") for action in credentials.actions))
        yield Finding(
            "SIGNED",
            "info",
            f"Content credentials signed by {who}{f' name these actions: {done}' if done else ''}; "
            "the bytes are those that were signed",
            signed=True,
        )
    if credentials.state == "valid":
        yield Finding(
            "SIGNER_UNKNOWN",
            "info",
            "The signer is on no trust list that this service has, so anybody may have signed under that name",
        )


def _signer(credentials: Credentials) -> str:
    name, organisation = credentials.signer or "a signer without a name", credentials.organisation
    who = name if organisation in (None, name) else f"{name} ({organisation})"
    if not credentials.signed_at:
        return who
    by = "" if credentials.time_trusted else " by an unknown time authority"
    return f"{who} at {credentials.signed_at}{by}"


def _of_invalid(credentials: Credentials) -> Iterator[Finding]:
    codes = {failure.code for failure in credentials.failures}
    who = _signer(credentials)
    if credentials.bytes_match is False:
        yield Finding("BYTES_CHANGED", "strong", f"The file was changed after {who} signed it: its bytes do not match")
    left = sorted(codes - {*CHANGED})
    if left:
        expired = "its certificate has expired and no time stamp shows that it was valid" if EXPIRED in codes else ""
        others = ", ".join(code for code in left if code != EXPIRED)
        why = "; ".join(part for part in (expired, others) if part)
        yield Finding("CREDENTIALS_INVALID", "notable", f"The content credentials of {who} are not valid: {why}")


def _of_metadata(metadata: Metadata, generator: Generator | None, credentials: Credentials | None) -> Iterator[Finding]:
    if generator:
        part = "a part of it" if generator.partly else "it"
        yield Finding(
            "UNSIGNED_GENERATED",
            "strong",
            f"{generator.name[:1].upper()}{generator.name[1:]} says that it generated {part}, in {generator.place}; "
            "this is not signed, so anybody may have written it",
        )
    source = metadata.digital_source_type
    kind = source_kind(source) if source else None
    if kind in ("generated", "partly_generated"):
        what = "was generated" if kind == "generated" else "was generated in part"
        yield Finding(
            "UNSIGNED_GENERATED",
            "strong",
            f"The metadata say that it {what} (DigitalSourceType {source}); this is not signed",
        )
    elif source:
        yield Finding("UNSIGNED_SOURCE", "info", f"The metadata name its source, unsigned: {source}")


def _of_picture(
    blocks: Blocks, exif: Tags, xmp: Properties, metadata: Metadata, image: Pixels | None
) -> Iterator[Finding]:
    likeness = metadata.thumbnail_correlation
    if likeness is not None and likeness < LEAST_CORRELATION:
        yield Finding(
            "THUMBNAIL_DIFFERS",
            "notable",
            f"The embedded thumbnail shows something else than the picture (correlation {likeness:.2f})",
        )
    times = {
        "taken": metadata.taken,
        "digitized": _string(exif.get("DateTimeDigitized")),
        "created": metadata.created,
        "modified": metadata.modified,
    }
    gps = None
    if exif.get("GPSDateStamp") and exif.get("GPSTimeStamp"):
        gps = f"{exif['GPSDateStamp']} {exif['GPSTimeStamp']}"
    for wrong in contradicting_times({name: time for name, time in times.items() if time}, gps, datetime.now(UTC)):
        yield Finding("TIMES_CONTRADICT", "notable", f"Its times contradict each other: {wrong}")
    stated = _number(exif, "PixelXDimension"), _number(exif, "PixelYDimension")
    if blocks.size and all(stated) and sorted(stated) != sorted(blocks.size):  # type: ignore[type-var]
        yield Finding(
            "SIZE_DIFFERS",
            "info",
            f"EXIF says {stated[0]} x {stated[1]} pixels and the picture has {blocks.size[0]} x {blocks.size[1]}: "
            "it was cropped or scaled by a program that kept its metadata",
        )
    yield from _of_software(blocks, xmp, metadata)


def _of_software(blocks: Blocks, xmp: Properties, metadata: Metadata) -> Iterator[Finding]:
    camera = " ".join(part for part in (metadata.make, metadata.model) if part)
    if camera and metadata.jpeg_quality is not None:
        yield Finding(
            "SAVED_BY_SOFTWARE",
            "info",
            f"EXIF names a camera ({camera}), but the JPEG has the standard tables of quality {metadata.jpeg_quality}, "
            "which programs write, and few cameras",
        )
    for mark in dict.fromkeys(blocks.marks):
        yield Finding("SAVED_BY_SOFTWARE", "info", f"The JPEG has segments that image editors write: {mark}")
    agents = _named_once([*([metadata.software] if metadata.software else []), *xmp.get("softwareAgent", ())])
    if agents:
        edited = any(editor in agent.lower() for agent in agents for editor in _EDITORS)
        yield Finding(
            "SOFTWARE_NAMED",
            "info",
            f"{'Edited' if edited else 'Saved'} with: {', '.join(agents)}, by its metadata",
        )


def _named_once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(clean(name, 80) for name in names))[:5]


def _number(exif: Tags, name: str) -> int | None:
    value = exif.get(name)
    return value if isinstance(value, int) else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
