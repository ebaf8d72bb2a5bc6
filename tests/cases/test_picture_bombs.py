"""Pictures of few bytes that took minutes to decode: refused by name over HTTP, while another client uploads."""

import asyncio

from PIL import Image

from tests.cases.conftest import CaseService
from tests.unit.vision.images.samples import gradient, saved


def with_scans(mode: str, side: int, times: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    jpeg = saved(Image.new(mode, (side, side), 128), "JPEG", progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * times + b"\xff\xd9"


async def test_repeated_scans_cost_nobody_else(served: CaseService) -> None:
    bombs = [with_scans("L", 8900, 3000), with_scans("RGB", 2400, 900)] * 4
    picture = saved(gradient(320, 240), "JPEG")
    *refused, answer = await asyncio.gather(*(served.try_upload(data, "a.jpg") for data in [*bombs, picture]))
    assert answer.status_code == 200
    assert answer.json()["width"] == 320
    for bomb in refused:
        assert bomb.status_code == 413
        assert "more scans than a picture of its size needs" in bomb.text
