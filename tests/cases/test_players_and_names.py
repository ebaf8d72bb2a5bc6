"""What players ask for, and what people call their files."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote

import av
import httpx
import pytest

from tests.cases.conftest import CaseFile, CaseService
from tests.cases.files import write_video
from tests.graphs.harness import listening
from tests.graphs.samples import picture

FAMILY, RAINBOW = "👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈"
ENGLAND = "🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in "gbeng") + "\U000e007f"


@pytest.fixture(scope="module")
async def player(served: CaseService) -> AsyncIterator[httpx.AsyncClient]:
    """A client over a socket."""
    async with (
        listening(served.app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield client


def written(path: Path, name: str, codec: str, options: dict[str, str]) -> Path:
    """Return a film of 60 numbered frames in another container, by another codec."""
    target = path / name
    write_video(target, 60, codec, options=options)
    return target


async def probed(player: httpx.AsyncClient, address: str, query: dict[str, str]) -> bytes:
    """What comes of Safari's questions: two bytes, then all of them by their number, then the middle."""
    probe = await player.get(address, params=query, headers={"range": "bytes=0-1"})
    assert (probe.status_code, len(probe.content)) == (206, 2), probe.text
    first, _, size = probe.headers["content-range"].partition("/")
    assert first == "bytes 0-1"
    whole = await player.get(address, params=query, headers={"range": f"bytes=0-{int(size) - 1}"})
    assert (whole.status_code, len(whole.content)) == (206, int(size))
    middle = await player.get(address, params=query, headers={"range": f"bytes={int(size) // 2}-"})
    assert middle.content == whole.content[int(size) // 2 :]
    assert probe.content == whole.content[:2]
    return whole.content


@pytest.mark.parametrize("query", [{}, {"start_frame": "0", "end_frame": "20"}, {"audio": "off"}])
async def test_safari_plays_what_it_is_pointed_at(
    served: CaseService, case: CaseFile, player: httpx.AsyncClient, tmp_path: Path, query: dict[str, str]
) -> None:
    mpeg4 = written(tmp_path, "mpeg4.mov", "mpeg4", {"g": "12"})
    vp9 = written(tmp_path, "vp9.webm", "libvpx-vp9", {"g": "15", "deadline": "realtime", "cpu-used": "8"})
    for path in (case("apple_hevc", "hvc1.mp4"), mpeg4, vp9):
        asset_id = (await served.upload(path))["asset_id"]
        data = await probed(player, f"/api/v1/file/{asset_id}/video", query)
        with av.open(io.BytesIO(data)) as film:
            assert len(list(film.decode(video=0))) >= (21 if "start_frame" in query else 60)
        content = await probed(player, f"/api/v1/media/{asset_id}/content", {})
        assert content == path.read_bytes()
        poster = await probed(player, f"/api/v1/media/{asset_id}/poster", {})
        assert poster[:2] == b"\xff\xd8"


NAMES = [
    *(f"{FAMILY}.mp4", f"{RAINBOW}.png", f"{ENGLAND} 1-0.jpg", "می\u200cخواهم.png", "क्\u200dष.png"),
    *("cafe\u0301.png", "café.png", 'say "hi"; 100%.png', "50%25.png", "写真\u3000一.png", "at 9.41\u202fAM.png"),
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_kept_and_sent_back(served: CaseService, name: str) -> None:
    asset = await served.upload(picture(NAMES.index(name)), name)
    assert asset["filename"] == name
    media = f"/api/v1/media/{asset['asset_id']}"
    assert (await served.client.get(media)).json()["filename"] == name
    disposition = (await served.client.get(f"{media}/content")).headers["content-disposition"]
    assert disposition.startswith('inline; filename="')
    _, _, encoded = disposition.partition("; filename*=UTF-8''")
    assert (unquote(encoded) if encoded else disposition[18:-1]) == name


async def test_frames_and_parts_are_named_after_their_film(served: CaseService, tmp_path: Path) -> None:
    film = written(tmp_path, "film.mp4", "libx264", {"g": "10"})
    asset_id = (await served.upload(film, f"{FAMILY}.mp4"))["asset_id"]
    for route, query, name in (
        ("thumbnail", {"frame": 7}, "frame 7.jpg"),
        ("clip", {"start_frame": 0, "end_frame": 4}, "frames 0-4.ts"),
        ("video", {"start_time": 0, "end_time": 0.5}, "0-0.5 s.mp4"),
    ):
        answer = await served.of_file(asset_id, route, **query)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("inline; filename=")
        assert answer.headers["content-disposition"].endswith(quote(f"{FAMILY} {name}"))
