"""Pictures as people have them, over HTTP: B18 to B22, and more of each kind by other means."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cases.colour import srgb_decode
from tests.cases.conftest import CaseFile, CaseService
from tests.unit.vision.images.samples import by_opencv, gradient, saved, with_chunks
from vision.images import Pixels, decode


def pixels(source: Path | bytes) -> Pixels:
    return decode(source if isinstance(source, bytes) else source.read_bytes(), max_pixels=1_000_000)


def apart(left: Path | bytes, right: Path | bytes) -> int:
    return int(np.abs(pixels(left).astype(int) - pixels(right)).max())


@pytest.mark.parametrize("name", ["long_ztxt.png", "long_itxt.png", "long_icc.png"])
async def test_long_chunks_of_a_png(served: CaseService, case: CaseFile, name: str) -> None:
    uploaded = await served.upload(case("long_text", name))
    assert (uploaded["width"], uploaded["height"]) == (320, 240)
    assert apart(case("long_text", name), case("long_text", "plain.png")) == 0


async def test_a_damaged_ancillary_chunk(served: CaseService, case: CaseFile) -> None:
    plain = case("long_text", "plain.png").read_bytes()
    await served.upload(with_chunks(plain, (b"tEXt", b"a\0b"), damaged=b"tEXt"))
    broken = bytearray(plain)
    broken[len(plain) // 2] ^= 1
    answer = await served.try_upload(bytes(broken))
    assert (answer.status_code, "This PNG is damaged: a checksum is wrong" in answer.text) == (400, True)


async def test_a_jpeg_without_its_end(served: CaseService, case: CaseFile) -> None:
    whole = case("no_end", "whole.jpg")
    uploaded = await served.upload(case("no_end", "no_end.jpg"))
    assert apart(case("no_end", "no_end.jpg"), whole) == 0
    assert (uploaded["width"], uploaded["height"]) == pixels(whole).shape[1::-1]
    data = whole.read_bytes()
    answer = await served.try_upload(data[: len(data) // 2])
    assert answer.status_code == 400
    assert "% of its rows; upload the whole file" in answer.text


async def test_the_full_page_of_a_tiff(served: CaseService, case: CaseFile) -> None:
    uploaded = await served.upload(case("thumbnail_page", "thumbnail_first.tif"))
    assert (uploaded["width"], uploaded["height"]) == (640, 480)


@pytest.mark.parametrize("name", ["colours_p3.png", "colours_adobe.png", "colours_linear.png"])
async def test_profiles(served: CaseService, case: CaseFile, name: str) -> None:
    await served.upload(case("profiles", name))
    assert apart(case("profiles", name), case("profiles", "colours_srgb.png")) <= 2


async def test_hdr_of_a_telephone(served: CaseService, case: CaseFile) -> None:
    heic = case("hdr_heic", "hdr_pq.heic")
    uploaded = await served.upload(heic)
    assert (uploaded["width"], uploaded["height"]) == (256, 192)
    white = pixels(heic)[40, 60].astype(int)
    assert white.min() >= 170
    assert np.ptp(white) <= 4


def of_other_kinds() -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Name, file, level of the red of a pixel at the right."""
    picture = gradient()
    light = srgb_decode(picture / 255)
    yield "a float TIFF", saved((picture[..., 0] / 255).astype(np.float32), "TIFF"), (250, 255)
    yield "16 bits", by_opencv(picture.astype(np.uint16) * 257, ".tif"), (255, 255)
    yield (
        "linear light",
        with_chunks(
            by_opencv(np.rint(65_535 * light).astype(np.uint16), ".png"), (b"gAMA", (100_000).to_bytes(4, "big"))
        ),
        (254, 255),
    )


@pytest.mark.parametrize(("data", "levels"), [pytest.param(d, n, id=i) for i, d, n in of_other_kinds()])
async def test_other_samples(served: CaseService, data: bytes, levels: tuple[int, int]) -> None:
    uploaded = await served.upload(data)
    assert (uploaded["width"], uploaded["height"]) == (64, 48)
    assert levels[0] <= pixels(data)[10, 63, 0] <= levels[1]
