"""Types an uploaded file by its bytes and probes it, before it is stored or shown to a model."""

from pathlib import Path
from typing import Final

from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import name_of, opened, upright_rgb
from vision.media.facts import Limits, Probe
from vision.media.sniff import HEAD, SUPPORTED, sniff
from vision.media.upload_media import probe_media

__all__ = ["Limits", "Probe", "probe"]

_MIME: Final = {"HEIF": "image/heic"}


def probe(path: Path, limits: Limits) -> Probe:
    """What the file at ``path`` is: its first frame (or sound) has been decoded when this returns.

    Blocks for milliseconds to seconds: run it in a thread. Raises ``InvalidMedia`` and ``MediaTooLarge``; an
    ``OSError`` means that the spool cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise InvalidMedia("The file is empty.")
    guess = sniff(head)
    if guess.kind == "refused":
        raise InvalidMedia(f"{guess.name} is no supported format; send {SUPPORTED}.")
    if guess.kind == "container":
        return probe_media(path, guess, head, limits)
    size = path.stat().st_size
    if size > limits.max_image_bytes:
        raise MediaTooLarge(
            f"This {guess.name} has {size / 2**20:.1f} MB; an image may have {limits.max_image_bytes / 2**20:g} MB."
        )
    return _probe_image(path.read_bytes(), limits.max_image_pixels)


def _probe_image(data: bytes, max_pixels: int) -> Probe:
    with opened(data, max_pixels) as image:
        name = name_of(image)
        width, height = upright_rgb(image).size
    return Probe("image", name, _MIME.get(name, f"image/{name.lower()}"), width, height)
