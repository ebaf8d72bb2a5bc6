"""The parts of one multipart form as the parser finds them: files to disk, text fields to a dict."""

import hashlib
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from vision.errors import InvalidInput, InvalidMedia, MediaTooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS: Final = 16
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_NAME: Final = 255  # characters of a file name

_PARAMETER: Final = re.compile(rb';\s*([\w.-]+\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)', re.DOTALL)
_ESCAPES: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # what browsers write for these, and only these


@dataclass(slots=True)
class SpooledFile:
    """A file part; ``digest`` is its SHA-256 so far, ``size`` its bytes so far."""

    name: str
    handle: IO[bytes]
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    @property
    def path(self) -> Path:
        return Path(self.handle.name)


class Parts:
    """Callbacks for ``MultipartParser``; whatever they raise comes out of its ``write``."""

    def __init__(self, directory: Path, field: str, max_bytes: int, max_files: int) -> None:
        self.field = field
        self.fields: dict[str, str] = {}
        self.ended = False
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._files: list[SpooledFile] = []
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._name = ""
        self._texts = 0
        self._text: bytearray | None = None
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_header_begin": self._header_begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def finished(self) -> list[SpooledFile]:
        """The files of a form that has been read to its end; at least one."""
        if not self._files:
            raise InvalidInput(f"No file came; send it as multipart/form-data in the part {self.field!r}.")
        for file in self._files:
            if not file.size:
                raise InvalidMedia(f"The file {file.name!r} is empty.")
        return self._files

    def discard(self) -> None:
        """Close and remove all files that are still where they were spooled."""
        for file in self._files:
            file.handle.close()
            file.path.unlink(missing_ok=True)

    def _part_begin(self) -> None:
        self._disposition, self._text = b"", None

    def _header_begin(self) -> None:
        self._header = (bytearray(), bytearray())

    def _header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)

    def _headers_finished(self) -> None:
        name, filename = _names(self._disposition)
        if name == self.field:
            if len(self._files) == self._max_files:
                raise InvalidInput(f"Too many files; send at most {self._max_files} in the part {name!r}.")
            self._directory.mkdir(parents=True, exist_ok=True)
            handle = tempfile.NamedTemporaryFile(dir=self._directory, prefix="upload-", delete=False)  # noqa: SIM115
            self._files.append(SpooledFile(base_name(filename or ""), handle))
        elif filename is not None:
            raise InvalidInput(f"A file came in the part {name[:100]!r}; send it in the part {self.field!r}.")
        else:
            self._name, self._text, self._texts = name, bytearray(), self._texts + 1
            if self._texts > MAX_FIELDS:
                raise InvalidInput(f"The form has more than {MAX_FIELDS} text fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            if len(self._text) + end - start > MAX_FIELD_BYTES:
                raise InvalidInput(f"The text field {self._name[:100]!r} has more than {MAX_FIELD_BYTES} bytes.")
            self._text += data[start:end]
            return
        file, piece = self._files[-1], memoryview(data)[start:end]
        file.size += len(piece)
        if file.size > self._max_bytes:
            raise MediaTooLarge(f"The file {file.name!r} has more than {self._max_bytes / 2**20:g} MB.")
        file.digest.update(piece)
        file.handle.write(piece)

    def _part_end(self) -> None:
        if self._text is not None:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
        else:
            self._files[-1].handle.close()

    def _end(self) -> None:
        self.ended = True


def base_name(filename: str) -> str:
    """What may be shown of a client's file name: its last component, printable, 1 to 255 characters."""
    last = re.split(r"[/\\]", filename)[-1]
    name = "".join(character for character in last if character.isprintable()).strip()
    if not name.strip("."):
        return "unnamed"
    suffix = Path(name).suffix[-16:]
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - len(suffix)] + suffix


def _names(disposition: bytes) -> tuple[str, str | None]:
    """Name of a part and of its file, None if the part is no file.

    ``filename*`` (RFC 5987) is preferred to ``filename``. Raw bytes are read as UTF-8, which browsers send.
    """
    values: dict[str, str] = {}
    for key, value in _PARAMETER.findall(disposition):
        values[key.decode().lower()] = _text(value)
    filename = values.get("filename")
    for code, character in _ESCAPES.items():
        filename = filename and filename.replace(code, character)
    charset, _, extended = values.get("filename*", "").partition("'")
    if extended and charset.lower() in ("utf-8", "iso-8859-1"):
        filename = unquote(extended.partition("'")[2], charset, "replace")
    return values.get("name", ""), filename


def _text(value: bytes) -> str:
    if value.startswith(b'"'):
        value = value[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
