"""Names of files: what is kept of them, how they are cut, and the header that gives them back."""

import unicodedata
from email.message import Message

import pytest

from graphs.web.filenames import base_name, content_disposition, derived_name

FAMILY = "👨\u200d👩\u200d👧"
RAINBOW = "🏳\ufe0f\u200d🌈"
ENGLAND = "🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in "gbeng") + "\U000e007f"

KEPT = [
    *(FAMILY, RAINBOW, ENGLAND, "❤\ufe0f.png", "می\u200cخواهم.mp4", "क्\u200dष.jpg", "ශ්\u200dරී.png"),
    *("cafe\u0301.png", "caf\u00e9.png", "각.png", unicodedata.normalize("NFD", "각.png"), "ﬁ №.png"),
    *("Screenshot at 9.41\u202fAM.png", "a\u00a0b.png", "写真\u3000一.jpg", "soft\u00adhyphen.txt", "\uf8ff.png"),
    *('say "hi".png', "it's; 100 %.png", "50%25.png", "a=b&c+d.png", "...and then.jpg", ".hidden", " a .jpg "),
    *("𞤀𞤣.png", "\U0001fae9.png", "𐑢𐑻𐑛.png", "שלום.png", "x" * 255, "写" * 251 + ".png"),
]


@pytest.mark.parametrize("name", KEPT)
def test_names_are_kept_as_they_are_sent(name: str) -> None:
    assert base_name(name) == name
    assert base_name("dir/" + name) == name
    assert base_name("C:\\dir\\" + name) == name


@pytest.mark.parametrize("mark", [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"])
def test_marks_of_direction_go(mark: str) -> None:
    assert base_name(f"ab{mark}gpj.exe") == "abgpj.exe"


@pytest.mark.parametrize("character", [*"\0\t\n\r\x1b\x7f\x85\x9b\u2028\u2029\ud800\udfff"])
def test_control_characters_and_halves_go(character: str) -> None:
    assert base_name(f"a{character}b.png") == "ab.png"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "   ", " . .", "\u3000", "\u200d\u200c", "\ufe0f", "\u202e\n", "dir/", "\\"]
)
def test_a_name_of_nothing_that_can_be_seen(name: str) -> None:
    assert base_name(name) == "unnamed"


@pytest.mark.parametrize("unit", ["x", "写", "e\u0301", "🇩🇪", FAMILY, RAINBOW, ENGLAND, "क्\u200dष", "각"])
def test_long_names_are_cut_between_characters_and_keep_their_suffix(unit: str) -> None:
    unit = unicodedata.normalize("NFD", unit)
    name = base_name(unit * 300 + ".jpeg")
    assert name == unit * (250 // len(unit)) + ".jpeg"
    assert len(name.encode()) <= 4 * 255


def test_a_long_name_without_a_suffix_and_one_of_a_single_character() -> None:
    assert base_name("a." + "x" * 300) == "a." + "x" * 253
    assert base_name("e" + "\u0301" * 400) == "e" + "\u0301" * 254


def sent_back(name: str) -> tuple[str, str]:
    """What two kinds of clients read: by RFC 6266, and the plain parameter alone."""
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    plain, _, _ = header.partition("; filename*=")
    message, simple = Message(), Message()
    message["Content-Disposition"] = header if plain == header else header.replace(plain, "inline")
    simple["Content-Disposition"] = plain
    assert (message.get_content_disposition(), simple.get_content_disposition()) == ("inline", "inline")
    return message.get_filename() or "", simple.get_filename() or ""


@pytest.mark.parametrize("name", KEPT)
def test_names_come_back(name: str) -> None:
    assert sent_back(name)[0].strip() == name.strip()  # the standard library leaves out spaces at the ends


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("film.mp4", "film.mp4"),
        ("a; b=c, 'd'.png", "a; b=c, 'd'.png"),
        ('say "hi".png', "say _hi_.png"),
        ("back\\slash.png", "back_slash.png"),
        ("50%41.png", "50_41.png"),
        ("café.png", "caf_.png"),
        ("cafe\u0301.png", "caf_.png"),
        (f"{FAMILY}{ENGLAND} x.png", "__ x.png"),
    ],
)
def test_clients_without_rfc_8187_get_a_name_too(name: str, plain: str) -> None:
    assert sent_back(name) == (name, plain)


@pytest.mark.parametrize(
    ("name", "label", "derived"),
    [
        ("film.mov", "frames 0-40", "film frames 0-40.ts"),
        ("film.2026.mov", "", "film.2026.ts"),
        ("unnamed", "boxes", "unnamed boxes.ts"),
        (".hidden", "boxes", ".hidden boxes.ts"),
        (FAMILY * 60 + ".mov", "boxes", FAMILY * 25 + " boxes.ts"),
    ],
)
def test_names_of_what_is_made_of_a_file(name: str, label: str, derived: str) -> None:
    assert derived_name(name, label, ".ts") == derived
