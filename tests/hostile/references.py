"""Files that name other files or addresses, which a player would open: playlists, scripts, links inside of films."""

import struct
from collections.abc import Iterator

from tests.cases.fuzz import whole_files
from tests.hostile.corpus import HostileFile
from tests.hostile.heifs import box, full

LOCAL = ("file:///etc/passwd", "/etc/passwd", "concat:/etc/passwd|/etc/hosts", "subfile,,start,0,end,99,,:/etc/passwd")
LOOPBACK = ("http://127.0.0.1:8000/api/v1/media", "http://[::1]/", "tcp://127.0.0.1:6379", "rtmp://127.0.0.1/x")
SCHEMES = (
    *LOCAL,
    *LOOPBACK,
    "data:text/plain;base64,cm9vdA==",
    "crypto:/etc/passwd",
    "pipe:0",
    "async:cache:/etc/passwd",
)


def m3u8(address: str) -> bytes:
    """Return a playlist of one segment."""
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\n"
    return f"{head}{address}\n#EXT-X-ENDLIST\n".encode()


def master(address: str) -> bytes:
    """Return a playlist of a playlist, with a key at another address."""
    return f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{address}"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{address}\n'.encode()


def linked_movie(kind: bytes, address: bytes) -> bytes:
    """Return a QuickTime film whose samples stand in another file, by a data reference of this kind."""
    whole = bytearray(_film("MOV"))
    at = whole.index(b"dref") - 4
    old = struct.unpack_from(">I", whole, at)[0]
    reference = full(b"dref", 0, 0, struct.pack(">I", 1), full(kind, 0, 0, address))
    grown = len(reference) - old
    whole[at : at + old] = reference
    for name in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        start = whole.rindex(name, 0, at) - 4
        struct.pack_into(">I", whole, start, struct.unpack_from(">I", whole, start)[0] + grown)
    return bytes(whole)


def alias(path: str) -> bytes:
    """Return the record by which a Macintosh finds a file."""
    name = path.encode()
    record = bytes(4) + struct.pack(">HH", 150, 2) + bytes(142)
    record += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2)
    record += struct.pack(">HH", 18, len(name)) + name + bytes(len(name) % 2)
    return record + struct.pack(">HH", 0xFFFF, 0)


def rmra(address: bytes) -> bytes:
    """Return a QuickTime film that is nothing but a pointer to another one."""
    url = box(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(address) + 1), address, b"\0")
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", box(b"rmra", box(b"rmda", url)))


def subtitled_avi(playlist: bytes) -> bytes:
    """Return an AVI with a subtitle track that is a playlist."""
    body = b"GAB2\0\2\0" + struct.pack("<I", 2) + b"a\0" + b"\4\0" + struct.pack("<I", len(playlist)) + playlist
    header = struct.pack("<4s4sIHHIIIIIIII", b"txts", bytes(4), 0, 0, 0, 0, 1, 25, 0, 1, len(body), 0, 0) + bytes(8)

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    main = struct.pack("<14I", 40_000, 0, 0, 0, 1, 0, 1, 0, 64, 48, 0, 0, 0, 0)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", header) + chunk(b"strf", b""))
    movie = chunk(b"LIST", b"movi" + chunk(b"00tx", body))
    listed = b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + stream) + movie
    return chunk(b"RIFF", listed)


_whole: dict[str, bytes] = {}


def _film(name: str) -> bytes:
    if not _whole:
        _whole.update(whole_files())
    return _whole[name]


SDP = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
DASH = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    b'<Representation id="1" bandwidth="1" codecs="avc1"><BaseURL>file:///etc/passwd</BaseURL>'
    b'<SegmentList><SegmentURL media="file:///etc/passwd"/></SegmentList></Representation></AdaptationSet></Period></MPD>'
)


def files() -> Iterator[HostileFile]:
    """Yield the files."""

    def one(name: str, data: bytes, ending: str, kind: str = "video/mp4", *, quick: bool = False) -> HostileFile:
        return HostileFile(f"reference/{name}", lambda: data, f"film.{ending}", kind, refused=True, quick=quick)

    for number, address in enumerate(SCHEMES):
        scheme = address.partition(":")[0].strip("/").replace("/", " ")
        yield one(
            f"m3u8 of {number} {scheme}", m3u8(address), "m3u8", "application/vnd.apple.mpegurl", quick=number == 0
        )
    yield one("m3u8 called a film", m3u8(LOCAL[0]), "mp4", quick=True)
    yield one("m3u8 called a picture", m3u8(LOCAL[0]), "jpg", "image/jpeg")
    yield one("m3u8 behind a mark", b"\xef\xbb\xbf" + m3u8(LOCAL[0]), "mp4")
    yield one("m3u8 of playlists", master("http://127.0.0.1:8000/x.m3u8"), "m3u8")
    yield one("m3u8 of a million segments", m3u8("\n".join(["#EXTINF:1,\na.ts"] * 1_000_000)), "m3u8")
    for text in (
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "ffconcat version 1.0\nfile 'http://127.0.0.1/'\n",
        "file '/etc/passwd'\n",
    ):
        yield one(
            f"concat {text.strip().splitlines()[-1]} of {len(text)}", text.encode(), "ffconcat", quick="1.0" in text
        )
    yield one("sdp", SDP, "sdp", "application/sdp", quick=True)
    yield one("dash", DASH, "mpd", "application/dash+xml", quick=True)
    yield one(
        "smooth streaming",
        b'<SmoothStreamingMedia MajorVersion="2"><StreamIndex Url="file:///etc/passwd"/></SmoothStreamingMedia>',
        "ism",
    )
    yield one("pls", b"[playlist]\nFile1=file:///etc/passwd\nNumberOfEntries=1\n", "pls")
    yield one("asx", b'<asx version="3.0"><entry><ref href="file:///etc/passwd"/></entry></asx>', "asx")
    yield one(
        "xspf",
        b'<playlist xmlns="http://xspf.org/ns/0/"><trackList><track><location>file:///etc/passwd</location></track></trackList></playlist>',
        "xspf",
    )
    yield one("cue", b'FILE "/etc/passwd" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n', "cue")
    yield one("image sequence", b"/etc/%d.jpg", "jpg")
    yield one("glob", b"/etc/*.jpg", "jpg")
    yield one("lavfi", b"movie=/etc/passwd", "mp4")
    yield one("avisynth", b'AviSource("/etc/passwd")', "avs")
    yield one("vapoursynth", b"import os; os.system('id')", "vpy")
    yield one("ffmetadata", b";FFMETADATA1\ntitle=x\n[CHAPTER]\nSTART=0\nEND=1\n", "mp4")
    yield one("subtitles", b"1\n00:00:00,000 --> 00:00:01,000\nfile:///etc/passwd\n", "srt")
    yield one("mov pointer", rmra(b"file:///etc/passwd"), "mov", "video/quicktime", quick=True)
    yield one("mov pointer on loopback", rmra(b"http://127.0.0.1:8000/"), "mov", "video/quicktime")
    yield one("avi subtitles of a playlist", subtitled_avi(m3u8(LOCAL[0])), "avi", "video/x-msvideo", quick=True)
    for kind, address in (
        (b"url ", b"file:///etc/passwd\0"),
        (b"url ", b"http://127.0.0.1:8000/\0"),
        (b"alis", alias("/etc/passwd")),
    ):
        name = f"mov samples by {kind.decode().strip()} {address[:16].decode('latin-1').strip(chr(0)) or 'of a file'}"
        yield HostileFile(
            f"reference/{name}",
            lambda kind=kind, address=address: linked_movie(kind, address),
            "film.mov",
            "video/quicktime",
            quick=kind == b"alis",
        )
