"""What is made of credentials and metadata: findings in words, declarations, and contradictions."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from tests.credentials import CAPTURED, GENERATED, identity, signed
from tests.unit.vision.provenance.test_blocks import SOURCE, XMP
from vision.images import decode
from vision.provenance.consistency import contradicting_times, parsed_time, thumbnail_correlation
from vision.provenance.findings import Provenance, examine

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def shape(seed: int = 1, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture with large shapes, which a thumbnail keeps."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, fmt: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def examined(data: bytes, tags: dict[str, str] | None = None) -> Provenance:
    pixels = None if tags else decode(data, max_pixels=10_000_000)
    return examine(np.frombuffer(data, np.uint8), pixels, tags or {}, identity().root.decode())


def codes(found: Provenance) -> list[str]:
    return [finding.code for finding in found.findings]


def with_thumbnail(data: bytes, small: bytes, orientation: int = 1) -> bytes:
    """Return a JPEG whose EXIF has this thumbnail."""
    first = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2, "big") + b"\0\0\0\0\0\x1a"
    second = (
        b"\0\x02\x02\x01\0\x04\0\0\0\x01\0\0\0\x38\x02\x02\0\x04\0\0\0\x01"
        + len(small).to_bytes(4, "big")
        + b"\0\0\0\0"
    )
    body = b"Exif\0\0" + first + second + small
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def test_nothing_found_is_no_declaration_and_no_finding() -> None:
    found = examined(encoded(shape(), "PNG"))
    assert (found.credentials, found.declaration, found.findings) == (None, None, ())


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("source", "kind"),
    [("trainedAlgorithmicMedia", "generated"), ("compositeSynthetic", "partly_generated"), ("digitalCapture", None)],
)
def test_the_source_type_of_iptc(fmt: str, source: str, kind: str | None) -> None:
    value = SOURCE.replace("trainedAlgorithmicMedia", source)
    packet = XMP.format(f"<Iptc4xmpExt:DigitalSourceType>{value}</Iptc4xmpExt:DigitalSourceType>")
    options: dict[str, Any] = {"xmp": packet.encode()}
    if fmt == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet)
        options = {"pnginfo": text}
    found = examined(encoded(shape(), fmt, **options))
    assert found.metadata.digital_source_type == source
    if kind is None:
        assert (found.declaration, codes(found)) == (None, ["UNSIGNED_SOURCE", "SOFTWARE_NAMED"])
        return
    assert found.declaration is not None
    assert (found.declaration.kind, found.declaration.basis, found.declaration.by) == (kind, "unsigned", "Tool 1")
    strong = found.findings[0]
    assert (strong.code, strong.severity, strong.signed) == ("UNSIGNED_GENERATED", "strong", False)
    assert "not signed" in strong.text


@pytest.mark.parametrize(
    ("tags", "program"),
    [
        ({"comment": json.dumps({"prompt": {"3": {"class_type": "K"}}})}, "ComfyUI"),
        ({"comment": "made with suno"}, "Suno"),
        ({"encoder": "Lavf62", "AIGC": '{"Label":"1"}'}, "a program that labels it as AIGC (GB 45438-2025)"),
        ({"com.apple.quicktime.software": "x", "software": "Runway Gen-3"}, "Runway Gen"),
    ],
)
def test_tags_of_films_and_sounds(tags: dict[str, str], program: str) -> None:
    found = examine(None, None, tags)
    assert found.declaration is not None
    assert (found.declaration.by, found.declaration.kind, found.declaration.basis) == (program, "generated", "unsigned")
    packet = XMP.format(f"<Iptc4xmpExt:DigitalSourceType>{SOURCE}</Iptc4xmpExt:DigitalSourceType>")
    assert examine(None, None, {"xmp": packet}).declaration is not None
    assert examine(None, None, {"encoder": "Lavf62"}).declaration is None


def test_an_address_of_credentials_in_xmp_is_named() -> None:
    packet = XMP.format(
        '<dcterms:provenance xmlns:dcterms="http://purl.org/dc/terms/">https://a.example/x</dcterms:provenance>'
    )
    found = examined(encoded(shape(), "JPEG", xmp=packet.encode()))
    assert found.credentials is not None
    assert (found.credentials.state, found.credentials.remote_url) == ("remote", "https://a.example/x")
    assert codes(found)[0] == "CREDENTIALS_REMOTE"
    assert "not fetched" in found.findings[0].text
    assert found.declaration is None


def test_a_broken_declaration_counts_as_unsigned() -> None:
    data = bytearray(signed(encoded(shape()), "image/jpeg", GENERATED))
    data[-40] ^= 1
    found = examined(bytes(data))
    assert found.declaration is not None
    assert (found.declaration.basis, found.bytes_changed) == ("unsigned", True)
    assert codes(found) == ["BYTES_CHANGED", "UNSIGNED_GENERATED"]
    assert not any(finding.signed for finding in found.findings)


def test_a_signed_capture_is_told_and_words_inside_stay_unsigned() -> None:
    assert codes(examined(signed(encoded(shape()), "image/jpeg", CAPTURED))) == ["SIGNED_CAPTURED"]
    commented = encoded(shape(), comment=b"x\nSteps: 20, Sampler: Euler")
    found = examined(signed(commented, "image/jpeg", CAPTURED))
    assert found.declaration is not None
    assert found.declaration.basis == "unsigned"


# --- consistency ---


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_thumbnail_of_the_picture_itself(orientation: int) -> None:
    stored = shape(2, (320, 240))
    small = stored.copy()
    small.thumbnail((160, 160))
    data = with_thumbnail(encoded(stored, quality=90), encoded(small, quality=50), orientation)
    found = examined(data)
    assert found.metadata.thumbnail_correlation is not None
    assert found.metadata.thumbnail_correlation > 0.98
    assert "THUMBNAIL_DIFFERS" not in codes(found)


@pytest.mark.parametrize("size", [(640, 360), (240, 320), (400, 400)])
def test_thumbnails_with_bars_and_thumbnails_that_are_cut(size: tuple[int, int]) -> None:
    picture = shape(3, size)
    for small in (ImageOps.pad(picture, (160, 120)), ImageOps.fit(picture, (160, 120))):
        correlation = thumbnail_correlation(encoded(small), np.asarray(picture), 1)
        assert correlation is not None
        assert correlation > 0.9


def test_a_thumbnail_of_another_picture() -> None:
    other = shape(5)
    other.thumbnail((160, 160))
    found = examined(with_thumbnail(encoded(shape(4)), encoded(other)))
    assert "THUMBNAIL_DIFFERS" in codes(found)
    assert found.metadata.thumbnail_correlation is not None
    assert found.metadata.thumbnail_correlation < 0.6


def test_where_there_is_nothing_to_compare() -> None:
    plain = Image.new("RGB", (160, 120), (90, 90, 90))
    assert thumbnail_correlation(encoded(plain), np.asarray(shape()), 1) is None
    assert thumbnail_correlation(encoded(shape(1, (160, 120))), np.asarray(plain), 1) is None
    assert thumbnail_correlation(b"\xff\xd8\xff\xe0 no picture", np.asarray(shape()), 1) is None
    assert thumbnail_correlation(encoded(Image.new("RGB", (4000, 4000))), np.asarray(shape()), 1) is None


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026:01:02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.120000Z", datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("0001-01-01T00:00:00+10:00", datetime(1, 1, 1, tzinfo=UTC)),
        ("yesterday", None),
    ],
)
def test_times_of_metadata(value: str, time: datetime | None) -> None:
    assert parsed_time(value) == time


@pytest.mark.parametrize(
    ("times", "gps", "says"),
    [
        ({"taken": "2026:01:02 03:04:05", "modified": "2026-03-01T00:00:00Z"}, None, []),
        ({"taken": "2026:01:02 03:04:05", "modified": "2026:01:02 01:00:00"}, None, []),  # within the zones
        ({"taken": "2026:01:02 03:04:05"}, "2026:01:02 09:00:00", []),
        ({"taken": "2026:01:02 03:04:05", "modified": "2025-03-01T00:00:00Z"}, None, ["before it was taken"]),
        ({"created": "2027-01-01", "modified": "2027-01-01"}, None, ["future", "future"]),
        ({"taken": "1980:01:01 00:00:00"}, None, ["before digital cameras"]),
        ({"taken": "2026:01:02 03:04:05"}, "2026:02:02 09:00:00", ["satellite"]),
        ({"taken": "0000:00:00 00:00:00", "modified": "garbage"}, None, []),
    ],
)
def test_times_that_contradict_each_other(times: dict[str, str], gps: str | None, says: list[str]) -> None:
    wrong = contradicting_times(times, gps, NOW)
    assert len(wrong) == len(says)
    assert all(part in text for part, text in zip(says, wrong, strict=True))


def test_a_camera_beside_the_tables_of_a_program_and_another_size() -> None:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0131] = "Canon", "EOS R5", "Adobe Photoshop 25.0"
    ifd = tags.get_ifd(0x8769)
    ifd[0xA002], ifd[0xA003] = 8192, 5464
    found = examined(encoded(shape(), quality=88, exif=tags))
    assert codes(found) == ["SIZE_DIFFERS", "SAVED_BY_SOFTWARE", "SOFTWARE_NAMED"]
    assert all(finding.severity == "info" for finding in found.findings)
    assert (found.metadata.make, found.metadata.jpeg_quality) == ("Canon", 88)
    assert "Edited with: Adobe Photoshop 25.0" in found.findings[-1].text


def test_texts_of_a_file_are_one_line_without_control_characters() -> None:
    tags = Image.Exif()
    tags[0x0131] = "\x1b[31mA\u202eB\r\n" + "x" * 900
    software = examined(encoded(shape(), exif=tags)).metadata.software
    assert software is not None
    assert (software.startswith(" ") or software[0] == "[", len(software), software.isprintable()) == (True, 300, True)
