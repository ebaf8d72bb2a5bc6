"""Names of files: as forms send them, as they are kept, and as responses give them back (RFC 6266, RFC 8187)."""

import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

import regex

MAX_NAME: Final = 255  # characters of a file name
UNNAMED: Final = "unnamed"

_MAX_SUFFIX: Final = 16
_PARAMETER: Final = re.compile(rb';\s*([\w.-]+\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)', re.DOTALL)
_ESCAPES: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # what browsers send for these, and only for these
_REMOVED: Final = regex.compile(r"[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]")
"""Control characters, halves of characters, marks that turn the direction of text, and ends of lines."""
_VISIBLE: Final = regex.compile(r"[^\p{White_Space}\p{Default_Ignorable_Code_Point}.]")
_GRAPHEME: Final = regex.compile(r"\X")
_PLAIN: Final = re.compile(r"[ !#-$&-\[\]-~]")
"""What may stand in a quoted string as it is; browsers disagree on backslashes and percent signs there."""
_ATTRIBUTE_SAFE: Final = "!#$&+^`|"


def parse_disposition(disposition: bytes) -> tuple[str, str | None]:
    """Return the name of a part of a form and that of its file, None if the part is no file.

    ``filename*`` (RFC 8187) is preferred to ``filename``. Raw bytes are read as UTF-8, which browsers send.
    """
    values: dict[str, str] = {}
    for key, value in _PARAMETER.findall(disposition):
        values[key.decode().lower()] = _text(value)
    filename = unescaped(values["filename"]) if "filename" in values else None
    charset, _, extended = values.get("filename*", "").partition("'")
    if extended and charset.lower() in ("utf-8", "iso-8859-1"):
        filename = unquote(extended.partition("'")[2], charset, "replace")
    return values.get("name", ""), filename


def unescaped(filename: str) -> str:
    """Return the name that a browser sends as this ``filename`` of a form."""
    for code, character in _ESCAPES.items():
        filename = filename.replace(code, character)
    return filename


def base_name(filename: str) -> str:
    """Return what is kept of a client's file name: its last component, 1 to 255 characters, in any script.

    Only control characters, marks that turn the direction of text and halves of characters are left out: joiners, tags
    of flags and the order of combining marks are part of a name.
    """
    name = _REMOVED.sub("", re.split(r"[/\\]", filename)[-1])
    return _shortened(name) if _VISIBLE.search(name) else UNNAMED


def derived_name(filename: str, label: str, suffix: str) -> str:
    """Return the name of what was made of a file, such as ``film frame 12.jpg`` of ``film.mov``."""
    stem = PurePosixPath(filename).stem
    return _shortened(" ".join(filter(None, (_shortened(stem, MAX_NAME // 2), label))) + suffix)


def content_disposition(filename: str) -> str:
    """Return the value of the header for a file that is shown in place and saved under this name."""
    fallback = _GRAPHEME.sub(lambda match: match[0] if _PLAIN.fullmatch(match[0]) else "_", filename)
    header = f'inline; filename="{fallback}"'
    return header if fallback == filename else f"{header}; filename*=UTF-8''{quote(filename, safe=_ATTRIBUTE_SAFE)}"


def _shortened(name: str, limit: int = MAX_NAME) -> str:
    """Cut a name between two characters as people see them, before its suffix."""
    if len(name) <= limit:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix) <= _MAX_SUFFIX else ""
    cut = limit - len(suffix)
    ends = [match.end() for match in _GRAPHEME.finditer(name, 0, limit + 1) if match.end() <= cut]
    return name[: ends[-1] if ends else cut] + suffix


def _text(value: bytes) -> str:
    if value.startswith(b'"'):
        value = re.sub(rb'\\(["\\])', rb"\1", value[1:-1])
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
