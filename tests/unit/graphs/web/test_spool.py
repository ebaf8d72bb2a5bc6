"""Forms that arrive in any pieces, in any shape, and stop at any moment."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graphs.web.uploads.spool import Spool, spool_upload, spool_uploads
from stores.disk import Disk
from stores.errors import StoreFull
from vision.errors import InvalidInput, InvalidMedia, MediaTooLarge

KIND = "multipart/form-data; boundary=XyZ"
CONTENT = b"\r\n--Xy" + bytes(range(256)) + b"\r\n--XyZ?\r\n-"


def part(content: bytes, disposition: str, *headers: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *headers]
    return b"--XyZ\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XyZ--\r\n"


def file(content: bytes = CONTENT, name: str = "file", filename: str = "a.jpg") -> bytes:
    return part(content, f'name="{name}"; filename="{filename}"', "Content-Type: image/jpeg")


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def pieces(body: bytes, *cuts: int) -> AsyncIterator[bytes]:
    for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
        yield body[start:end]


async def test_a_file_and_its_fields(tmp_path: Path) -> None:
    body = form(part("grün".encode(), 'name="mode"'), file(), part(b"2", 'name="page"'))
    async with spool_upload(pieces(body), KIND, Spool(tmp_path / "new", 2**30), 1000) as upload:
        assert upload.path.parent == tmp_path / "new"
        assert upload.path.read_bytes() == CONTENT
        assert upload.sha256_hex == hashlib.sha256(CONTENT).hexdigest()
        assert (upload.size, upload.filename) == (len(CONTENT), "a.jpg")
        assert upload.fields == {"mode": "grün", "page": "2"}
    assert not upload.path.exists()


async def test_any_cut_gives_the_same(tmp_path: Path) -> None:
    body = form(part(b"v", 'name="k"'), file())
    for cut in range(len(body) + 1):
        async with spool_upload(pieces(body, cut), KIND, Spool(tmp_path, 2**30), 1000) as upload:
            assert upload.sha256_hex == hashlib.sha256(CONTENT).hexdigest()
            assert upload.fields == {"k": "v"}
    async with spool_upload(pieces(body, *range(1, len(body))), KIND, Spool(tmp_path, 2**30), 1000) as upload:
        assert upload.path.read_bytes() == CONTENT


async def test_big_chunks_are_fed_in_slices(tmp_path: Path) -> None:
    content = bytes(3 * 2**20)
    async with spool_upload(pieces(form(file(content))), KIND, Spool(tmp_path, 2**30), 2**22) as upload:
        assert upload.size == upload.path.stat().st_size == len(content)


@pytest.mark.parametrize(("megabytes", "slice_bytes"), [(9, 2**16), (3, 2**12), (4, 3 * 2**20)])
async def test_the_disk_is_asked_for_every_megabyte(
    megabytes: int, slice_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    require = Disk.require
    monkeypatch.setattr(Disk, "require", lambda disk, more=0: (asked.append(more), require(disk, more)))
    body = form(file(bytes(megabytes * 2**20)))
    cuts = range(slice_bytes, len(body), slice_bytes)
    async with spool_upload(pieces(body, *cuts), KIND, Spool(tmp_path, 2**30, 1), 2**24) as upload:
        assert upload.size == megabytes * 2**20
    assert asked[0] == 0  # before there is a file
    assert sum(asked) >= megabytes * 2**20
    assert len(asked) <= 2 + megabytes


async def test_a_disk_that_fills_up_ends_an_upload_within_a_megabyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 4 * 2**20

    def require(disk: Disk, more: int = 0) -> None:
        if more > left:
            raise StoreFull("full")

    async def sent() -> AsyncIterator[bytes]:
        nonlocal left
        yield from_part[: len(from_part) - len(CONTENT)]
        for _ in range(1024):
            left -= 2**16
            yield bytes(2**16)

    from_part = part(CONTENT, 'name="file"; filename="a.jpg"')[:-2]
    monkeypatch.setattr(Disk, "require", require)
    spool = Spool(tmp_path, 2**30, 1)
    for _ in range(2):  # it is asked again by the next one
        with pytest.raises(StoreFull):
            async with spool_upload(sent(), KIND, spool, 2**30):
                pytest.fail("there was no room")
        assert -(2**20) < left < 2**20
        assert not left_in(tmp_path)


async def test_moved_files_stay_moved(tmp_path: Path) -> None:
    async with spool_upload(pieces(form(file())), KIND, Spool(tmp_path, 2**30), 1000) as upload:
        kept = upload.path.rename(tmp_path / "kept")
    assert kept.read_bytes() == CONTENT


async def test_limit_stops_the_stream_at_once(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"--XyZ\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
        while True:
            sent += 1000
            yield bytes(1000)

    with pytest.raises(MediaTooLarge, match=r"more than 0\.00953674 MB"):
        async with spool_upload(endless(), KIND, Spool(tmp_path, 2**30), 10_000):
            pass
    assert sent == 11_000
    assert not left_in(tmp_path)
    async with spool_upload(pieces(form(file(bytes(10_000)))), KIND, Spool(tmp_path, 2**30), 10_000) as upload:
        assert upload.size == 10_000


async def test_padding_around_the_form_is_limited(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield form(file())
        while True:
            yield b"\r\n" * 50_000

    with pytest.raises(MediaTooLarge, match="longer than all"):
        async with spool_upload(endless(), KIND, Spool(tmp_path, 2**30), 1000):
            pass


@pytest.mark.parametrize("leave", [ConnectionResetError, asyncio.CancelledError])
async def test_a_client_that_leaves_takes_its_file_along(leave: type[BaseException], tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield form(file())[:200]
        assert len(left_in(tmp_path)) == 1
        raise leave

    with pytest.raises(leave):
        async with spool_upload(broken(), KIND, Spool(tmp_path, 2**30), 1000):
            pass
    assert not left_in(tmp_path)


async def test_a_cancelled_handler_leaves_no_file(tmp_path: Path) -> None:
    spooled = asyncio.Event()

    async def handler() -> None:
        async with spool_upload(pieces(form(file())), KIND, Spool(tmp_path, 2**30), 1000):
            spooled.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(handler())
    await spooled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not left_in(tmp_path)


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (form(file()), "application/json", "Send the file as multipart/form-data"),
        (form(file()), "", "Send the file as multipart/form-data"),
        (form(file()), "multipart/form-data", "with a boundary"),
        (form(file()), "multipart/form-data; boundary=" + "x" * 300, "multipart body is broken"),
        (form(file()), "multipart/form-data; boundary=Other", "multipart body is broken"),
        (form(file())[:-6], KIND, "ends before its last boundary"),
        (b"", KIND, "ends before its last boundary"),
        (b"--XyZ\r\nbroken header\r\n\r\n", KIND, "multipart body is broken"),
        (b"--XyZ--\r\n", KIND, "No file was sent"),
        (form(part(b"v", 'name="k"')), KIND, "No file was sent"),
        (form(file(name="image")), KIND, "is in the part 'image'; send it in the part 'file'"),
        (form(file(), file()), KIND, "at most 1"),
        (form(file(), part(bytes(65_537), 'name="k"')), KIND, "more than 65536 bytes"),
        (form(*(part(b"", f'name="{i}"') for i in range(17)), file()), KIND, "more than 16 text fields"),
        (form(*(part(b"", 'name="k"') for _ in range(17)), file()), KIND, "more than 16 text fields"),
        (form(part(b"", 'name="file"; filename="a"', *["A: b"] * 20)), KIND, "multipart body is broken"),
    ],
)
async def test_what_is_no_upload(body: bytes, kind: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=says):
        async with spool_upload(pieces(body), kind, Spool(tmp_path, 2**30), 100_000):
            pass
    assert not left_in(tmp_path)


async def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidMedia, match=r"'a\.jpg' is empty"):
        async with spool_upload(pieces(form(file(b""))), KIND, Spool(tmp_path, 2**30), 1000):
            pass
    assert not left_in(tmp_path)


async def test_largest_fields_are_kept(tmp_path: Path) -> None:
    body = form(*(part(b"x" * 65_536, f'name="{i}"') for i in range(16)), file())
    async with spool_upload(pieces(body), KIND, Spool(tmp_path, 2**30), 1000) as upload:
        assert [len(value) for value in upload.fields.values()] == [65_536] * 16


@pytest.mark.parametrize(
    "disposition",
    [
        f'name="file"; filename="{"n" * 5000}.png"',
        f'name="file"; filename="{"ü" * 20_000}.png"',
        f"name=\"file\"; filename*=UTF-8''{'%F0%9F%90%84' * 5000}.png",
        f'name="file"; filename="a.png"; filename*=utf-8\'\'{"%C3%BC" * 9000}.png',
    ],
)
async def test_a_long_name_is_cut_before_its_suffix(disposition: str, tmp_path: Path) -> None:
    async with spool_upload(
        pieces(form(part(CONTENT, disposition)), 1000), KIND, Spool(tmp_path, 2**30), 1000
    ) as upload:
        assert (len(upload.filename), upload.filename[-4:]) == (255, ".png")
        assert upload.path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "disposition",
    [f'name="file"; filename="{"n" * 70_000}.png"', f'name="{"n" * 70_000}"', f'name="file"{"; a=b" * 20_000}'],
)
async def test_a_header_without_end_is_refused_with_the_reason(disposition: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"header of a part of the form has more than 65,536 bytes.*shorter name"):
        async with spool_upload(pieces(form(part(CONTENT, disposition)), 1000), KIND, Spool(tmp_path, 2**30), 1000):
            pass
    assert not left_in(tmp_path)


@pytest.mark.parametrize("name", ["n" * 5000, "ü" * 3000])
async def test_a_long_name_of_a_field_is_shown_in_part(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="send it in the part 'file'") as caught:
        async with spool_upload(pieces(form(file(name=name))), KIND, Spool(tmp_path, 2**30), 1000):
            pass
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('name="file"; filename="näme.jpg"', "näme.jpg"),
        ("name=file; filename=plain.jpg", "plain.jpg"),
        ('filename="first.jpg"; name="file"', "first.jpg"),
        ('name="file"; filename="a \\"b\\"; filename=c.jpg"', 'a "b"; filename=c.jpg'),
        ('name="file"; filename="100%.jpg"', "100%.jpg"),
        ('name="file"; filename="a%22b%0D%0A.jpg"', 'a"b.jpg'),
        ('name="file"; filename="x.jpg"; filename*=UTF-8\'\'%E2%82%AC%20rates.jpg', "€ rates.jpg"),
        ("name=\"file\"; filename*=iso-8859-1'en'%A3.jpg; filename=x", "£.jpg"),
        ('name="file"; filename="x.jpg"; filename*=punycode\'\'%FF', "x.jpg"),
        ('name="file"; filename="../../etc/passwd"', "passwd"),
        ('name="file"; filename="C:\\dir\\photo.jpg"', "photo.jpg"),
        ("name=\"file\"; filename*=UTF-8''..%2F..%2Fup.jpg", "up.jpg"),
        ('name="file"; filename="a\x00\x1b\u202eb.jpg"', "ab.jpg"),
        ('name="file"; filename="👨\u200d👩\u200d👧 می\u200cخواهم.jpg"', "👨\u200d👩\u200d👧 می\u200cخواهم.jpg"),
        (
            "name=\"file\"; filename=x; filename*=utf-8''%F0%9F%8F%B3%EF%B8%8F%E2%80%8D%F0%9F%8C%88%3B.jpg",
            "🏳️\u200d🌈;.jpg",
        ),
        ('name="file"; filename="a \\\\\\"b.jpg"', '"b.jpg'),
        ('name="file"; filename="%41%2522%.jpg"', "%41%2522%.jpg"),
        ('name="file"; filename=""', "unnamed"),
        ('name="file"; filename=".."', "unnamed"),
        ('name="file"', "unnamed"),
    ],
)
async def test_file_names(disposition: str, filename: str, tmp_path: Path) -> None:
    async with spool_upload(pieces(form(part(b"x", disposition))), KIND, Spool(tmp_path, 2**30), 1000) as upload:
        assert upload.filename == filename
        assert upload.path.parent == tmp_path


async def test_several_files_in_order(tmp_path: Path) -> None:
    body = form(*(file(bytes([i]) * (i + 1), "files", f"{i}.jpg") for i in range(3)), part(b"1", 'name="k"'))
    async with spool_uploads(pieces(body), KIND, Spool(tmp_path, 2**30), 1000, max_files=3) as uploads:
        assert [upload.filename for upload in uploads] == ["0.jpg", "1.jpg", "2.jpg"]
        assert [upload.path.read_bytes() for upload in uploads] == [b"\0", b"\1\1", b"\2\2\2"]
        assert all(upload.fields == {"k": "1"} for upload in uploads)
    assert not left_in(tmp_path)
    with pytest.raises(InvalidInput, match="at most 2"):
        async with spool_uploads(pieces(body), KIND, Spool(tmp_path, 2**30), 1000, max_files=2):
            pass
    assert not left_in(tmp_path)
