"""Real files of every format to their facts; fakes, limits, closed doors and random damage."""

import io
import random
import resource
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import av
import pytest

from configs.settings import Settings
from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import RECIPES, X264, Recipe, number_in
from tests.unit.vision.media.upload_samples import image, media
from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import decode
from vision.media import probe as probe_module
from vision.media.container import MediaFile
from vision.media.index import IndexBudget
from vision.media.probe import Limits, Probe, probe
from vision.media.reader import VideoReader
from vision.media.sniff import sniff

LIMITS = Limits(50 * 2**20, 4 * 2**30, 100 * 2**20, 80_000_000)
CLIP = Probe("video", "MP4", "video/mp4", 64, 48, 1.0, 12.0, 12, 0, has_audio=False)
SOUND = Probe("audio", "WAV", "audio/wav", duration=1.0, has_audio=True)

SAMPLES: dict[str, tuple[Callable[[], bytes], Probe]] = {
    **{
        name: (lambda name=name, options=options: image(name, **options), Probe("image", name, mime, 64, 48))
        for name, mime, options in (
            ("JPEG", "image/jpeg", {}),
            ("PNG", "image/png", {}),
            ("WEBP", "image/webp", {}),
            ("GIF", "image/gif", {}),
            ("BMP", "image/bmp", {}),
            ("TIFF", "image/tiff", {"compression": "tiff_lzw"}),
            ("AVIF", "image/avif", {}),
            ("HEIF", "image/heic", {}),
        )
    },
    "MPO": (
        lambda: image("MPO", save_all=True, append_images=[]),
        Probe("image", "JPEG", "image/jpeg", 64, 48),
    ),
    "mp4": (lambda: media("mp4", "libx264", "aac"), replace(CLIP, has_audio=True)),
    "hevc": (lambda: media("mp4", "libx265"), CLIP),
    "fragmented": (lambda: media("mp4", "libx264", movflags="frag_keyframe+empty_moov"), CLIP),
    "mov": (lambda: media("mov", "libx264"), replace(CLIP, format="MOV", content_type="video/quicktime")),
    "mkv": (
        lambda: media("matroska", "libx264"),
        replace(CLIP, format="MKV", content_type="video/x-matroska"),
    ),
    "webm": (
        lambda: media("webm", "libvpx-vp9", "libopus"),
        replace(CLIP, format="WEBM", content_type="video/webm", has_audio=True),
    ),
    "live webm": (
        lambda: media("webm", "libvpx", live="1"),
        replace(CLIP, format="WEBM", content_type="video/webm"),
    ),
    "avi": (lambda: media("avi", "mpeg4"), replace(CLIP, format="AVI", content_type="video/x-msvideo")),
    "wav": (lambda: media("wav", audio="pcm_s16le"), SOUND),
    "mp3": (
        lambda: media("mp3", audio="libmp3lame"),
        replace(SOUND, format="MP3", content_type="audio/mpeg"),
    ),
    "m4a": (lambda: media("ipod", audio="aac"), replace(SOUND, format="M4A", content_type="audio/mp4")),
    "flac": (lambda: media("flac", audio="flac"), replace(SOUND, format="FLAC", content_type="audio/flac")),
    "ogg": (lambda: media("ogg", audio="libopus"), replace(SOUND, format="OGG", content_type="audio/ogg")),
    "audio webm": (
        lambda: media("webm", audio="libopus"),
        replace(SOUND, format="WEBM", content_type="audio/webm"),
    ),
    "mp3 with cover": (
        lambda: media("mp3", audio="libmp3lame", cover=True),
        replace(SOUND, format="MP3", content_type="audio/mpeg"),
    ),
    "m4a with cover": (
        lambda: media("mp4", audio="aac", cover=True),
        replace(SOUND, format="M4A", content_type="audio/mp4"),
    ),
}


@cache
def sample(name: str) -> bytes:
    return SAMPLES[name][0]()


@pytest.fixture
def probed(tmp_path: Path) -> Callable[..., Probe]:
    def apply(data: bytes, limits: Limits = LIMITS) -> Probe:
        path = tmp_path / "upload.jpg"  # a name that says nothing
        path.write_bytes(data)
        return probe(path, limits)

    return apply


@pytest.mark.parametrize("name", SAMPLES)
def test_facts(name: str, probed: Callable[..., Probe]) -> None:
    facts, wanted = probed(sample(name)), SAMPLES[name][1]
    assert facts.duration == (None if wanted.duration is None else pytest.approx(wanted.duration, abs=0.09))
    assert facts.frame_count in (wanted.frame_count, None if name != "avi" else 13)
    assert replace(facts, duration=wanted.duration, frame_count=wanted.frame_count) == wanted


@pytest.mark.parametrize("anticlockwise", [0, 90, 180, -90])
@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_rotation(container: str, anticlockwise: int, probed: Callable[..., Probe]) -> None:
    facts = probed(media(container, "libx264", rotation=anticlockwise))
    assert facts.rotation == -anticlockwise % 360
    assert (facts.width, facts.height) == ((64, 48) if anticlockwise % 180 == 0 else (48, 64))


def test_image_size_is_the_upright_one(probed: Callable[..., Probe]) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    facts = probed(image("JPEG", exif=exif))
    assert (facts.width, facts.height) == (48, 64)


@pytest.mark.parametrize("budget", [IndexBudget(3, 10.0), IndexBudget(1_000_000, -1.0)])
def test_frames_are_estimated_past_the_cap(
    budget: IndexBudget, probed: Callable[..., Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "BUDGET", budget)
    data = sample("mkv")  # cut, it has 10 frames to count; its stated duration gives 12
    assert probed(data[: len(data) * 95 // 100]).frame_count == 12


def test_time_is_bounded(probed: Callable[..., Probe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "TIMEOUT_S", 0.0)
    with pytest.raises(InvalidMedia):
        probed(sample("mp4"))


def whole_recipes() -> dict[str, Recipe]:
    """Return films that people upload: MPEG-TS is refused."""
    start, encoder = 450_000, {**X264, "g": "20", "bf": "2"}
    late = [start + number * 3600 for number in range(60)]
    return {name: recipe for name, recipe in RECIPES.items() if recipe.container != "mpegts"} | {
        "late start": Recipe(ticks=late, encoder=encoder),
        "late start in matroska": Recipe("matroska", ticks=late, encoder=encoder),
        "longer sound": Recipe(beeps=(0.5,), sound_s=4.0, encoder=encoder),
    }


@pytest.mark.parametrize("name", whole_recipes())
def test_an_upload_has_the_facts_of_its_reader(name: str, video: MakeVideo) -> None:
    path = video(whole_recipes()[name])
    facts = probe(path, LIMITS)
    with VideoReader(path) as reader:
        read = reader.facts
    assert (facts.frame_count, facts.duration, facts.fps) == (read.frame_count, read.duration, read.fps)
    assert (facts.width, facts.height, facts.rotation) == (read.width, read.height, read.rotation)
    assert facts.has_audio == read.has_audio


def test_facts_of_a_film_are_those_of_its_shown_frames(video: MakeVideo) -> None:
    facts = {name: probe(video(recipe), LIMITS) for name, recipe in whole_recipes().items()}
    assert facts["edit list"].frame_count == 57
    for name in ("late start in matroska", "longer sound", "b-frames in avi"):
        # The last picture stays as long as there is sound.
        assert facts[name].duration == pytest.approx(4.0 if name == "longer sound" else 2.4, abs=0.03)
        assert facts[name].frame_count == 60
        assert facts[name].fps == pytest.approx(25)


@pytest.mark.parametrize(
    ("name", "number"), [("b-frames", 20), ("rotated 90", 20), ("mirrored", 20), ("edit list", 40), ("matroska", 20)]
)
def test_the_poster_is_the_key_frame_at_or_before_the_middle(
    name: str, number: int, video: MakeVideo, tmp_path: Path
) -> None:
    poster = tmp_path / "poster.jpg"
    probe(video(name), LIMITS, poster=poster)
    assert number_in(decode(poster.read_bytes(), max_pixels=10**6)) == number


def test_the_poster_of_a_film_whose_frames_are_counted(video: MakeVideo, tmp_path: Path) -> None:
    poster = tmp_path / "poster.jpg"
    probe(video("b-frames in avi"), LIMITS, poster=poster)
    assert number_in(decode(poster.read_bytes(), max_pixels=10**6)) in range(15, 32)


def test_a_picture_and_a_sound_have_no_poster(tmp_path: Path) -> None:
    for name in ("JPEG", "mp3 with cover"):
        path, poster = tmp_path / "upload", tmp_path / "poster.jpg"
        path.write_bytes(sample(name))
        probe(path, LIMITS, poster=poster)
        assert not poster.exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"just some text\n", "A text file is no supported format; send JPG, PNG"),
        (b"%PDF-1.7\n%\xe2\xe3", "A PDF"),
        (b"PK\x03\x04" + bytes(40), "A ZIP archive"),
        (b'<?xml version="1.0"?><!-- a --><svg xmlns="x"><image href="file:///etc/passwd"/></svg>', "An SVG"),
        (b"<!DOCTYPE html><html><body><svg></svg>", "A web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "A PostScript"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "A playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "An ffconcat script"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n", "A session description"),
        (b'<?xml version="1.0"?>\n<MPD><BaseURL>file:///etc/</BaseURL></MPD>', "A DASH manifest"),
        (b"\x00\x01\x02\x03" * 40, "A file of this kind"),
        (b"\xff\xd8\xff\xe0" + b"garbage" * 99, "image cannot be read"),
        (b"\x89PNG\r\n\x1a\n<html><script>alert(1)</script>", "image cannot be read"),
        (b"\0\0\0\x18ftypisom" + bytes(200), "damaged"),
        (b"RIFF\xff\0\0\0WAVEfmt " + b"x" * 99, "damaged"),
        (b"\x1a\x45\xdf\xa3" + b"#EXTM3U\nfile:///etc/passwd\n", "damaged"),
        (b"ID3\x03" + b"#EXTM3U" * 99, "damaged"),
    ],
)
def test_fakes(data: bytes, says: str, probed: Callable[..., Probe]) -> None:
    with pytest.raises(InvalidMedia, match=says) as caught:
        probed(data)
    assert caught.value.message.endswith((".", "OGG."))
    assert "/tmp" not in caught.value.message


def test_image_with_a_web_page_behind_it_is_an_image(probed: Callable[..., Probe]) -> None:
    assert probed(sample("GIF") + b"<html><script>alert(1)</script>").content_type == "image/gif"


def test_long_comments_cost_no_time() -> None:
    assert sniff(io.BytesIO(b"<?xml?>" + b"<!-- -->" * 500)).kind == "refused"
    assert sniff(io.BytesIO(b" " * 4096)).name == "A text file"


@pytest.mark.parametrize(
    ("name", "limits", "says"),
    [
        ("PNG", replace(LIMITS, max_image_bytes=99), "an image may have"),
        ("PNG", replace(LIMITS, max_image_pixels=64 * 48 - 1), "This is a PNG with 64 x 48 pixels"),
        ("mp4", replace(LIMITS, max_video_bytes=99), "This MP4 has"),
        ("mp4", replace(LIMITS, max_image_pixels=64 * 48 - 1), "frames of 64 x 48 pixels"),
        ("m4a", replace(LIMITS, max_audio_bytes=99), "This M4A has"),
    ],
)
def test_limits(name: str, limits: Limits, says: str, probed: Callable[..., Probe]) -> None:
    with pytest.raises(MediaTooLarge, match=says):
        probed(sample(name), limits)


def test_each_kind_has_its_own_limit(probed: Callable[..., Probe]) -> None:
    assert probed(sample("m4a"), replace(LIMITS, max_image_bytes=1, max_video_bytes=1)).kind == "audio"
    assert Limits.of(Settings()) == LIMITS


def test_containers_of_the_wrong_kind(probed: Callable[..., Probe]) -> None:
    with pytest.raises(InvalidMedia, match="no picture or sound"):
        probed(media("avi", audio="pcm_s16le"))
    with pytest.raises(InvalidMedia, match="MPEG program or transport stream"):
        probed(media("mpegts", "libx264"))
    with pytest.raises(InvalidMedia, match=r"Nothing in this AVI can be decoded \(codec wmv2\)"):
        probed(media("avi", "wmv2"))


def test_first_frame_must_decode(probed: Callable[..., Probe]) -> None:
    data = sample("mp4")
    body = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    with pytest.raises(InvalidMedia, match="Nothing in this MP4 can be decoded"):
        probed(data[:body] + bytes(end - body) + data[end:])


def test_damage_behind_the_first_frame_is_tolerated(probed: Callable[..., Probe]) -> None:
    data = sample("mkv")
    assert probed(data[: len(data) * 95 // 100]).frame_count == 10
    data = sample("fragmented")
    assert probed(data[: data.index(b"mfra") - 20]).frame_count == 11


@pytest.mark.parametrize("demuxer", ["concat", "hls", "sdp", "dash"])
def test_scripts_open_nothing_even_if_their_demuxer_is_forced(demuxer: str, tmp_path: Path) -> None:
    """The sniffer lets no script pass; this is the second lock."""
    target, script = tmp_path / "private.mp4", tmp_path / "script"
    target.write_bytes(media("mp4", "libx264"))
    script.write_text(
        {
            "concat": f"ffconcat version 1.0\nfile {target}\n",
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
            "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            "m=video 5004 RTP/AVP 96\r\n",
            "dash": f'<MPD><Period><AdaptationSet><Representation id="1"><BaseURL>{target}</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>",
        }[demuxer]
    )
    if demuxer == "concat":
        with av.open(str(script), format="concat", options={"safe": "0"}) as open_door:
            assert open_door.streams.video[0].width == 64
    with (
        pytest.raises(InvalidMedia, match="is damaged"),
        MediaFile(script, demuxer=demuxer) as media_file,
        media_file.errors(),
    ):
        list(media_file.container.demux())


def test_memory_is_bounded(probed: Callable[..., Probe]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = b"LIST" + struct.pack("<I", 0x70000000) + b"INFOISFT" + struct.pack("<I", 0x60000000)
    data = sample("wav")
    with pytest.raises(InvalidMedia):
        probed(data[:36] + text + data[36:])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB; 1.6 GB are asked for


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_random_damage(name: str, probed: Callable[..., Probe]) -> None:
    """A probe, or a refusal that can be shown; never any other exception."""
    whole, dice, outcomes, messages = sample(name), random.Random(name), set[Any](), set[str]()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 3, 30))):
            # Headers are where the parsers live, so half of the damage is done there.
            place = dice.randrange(min(len(data), 200) if dice.random() < 0.5 else len(data))
            data[place] = dice.choice((0, 0xFF, 0x7F, 0x80, dice.randrange(256)))
        if dice.random() < 0.3:
            data = data[: dice.randrange(len(data))]
        try:
            outcomes.add(type(probed(bytes(data))))
        except (InvalidMedia, MediaTooLarge) as error:
            outcomes.add(type(error))
            messages.add(error.message)
    assert max(map(len, messages)) < 260
    assert outcomes >= {InvalidMedia}
