"""The still picture that stands for a video: the key frame at or before its middle."""

import tempfile
from pathlib import Path
from typing import Any

import av

from vision.errors import InvalidMedia
from vision.media.sniff import HEAD, sniff
from vision.media.upload_container import armed, opened_media

QUALITY = 90
MAX_SIDE = 1280


def poster_of(video: Path, directory: Path, max_pixels: int) -> Path:
    """Write the poster of a probed video to a JPEG file in ``directory``; upright, no side over 1280 pixels.

    ``max_pixels`` bounds a frame. Raises InvalidMedia when no frame can be decoded.
    """
    with video.open("rb") as file:
        guess = sniff(file.read(HEAD))
    with opened_media(video, guess, max_pixels) as container:
        stream = armed(container.streams.video[0], max_pixels)
        if container.duration:
            container.seek(container.duration // 2, backward=True)
        frame = _first_frame(container, stream)
        if frame is None:
            container.seek(0)
            frame = _first_frame(container, stream)
        if frame is None:
            raise InvalidMedia("No frame of this video can be decoded; export it again and upload the new file.")
        image = frame.to_image()
        if frame.rotation:
            image = image.rotate(frame.rotation, expand=True)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    with tempfile.NamedTemporaryFile(dir=directory, suffix=".jpg", delete=False) as target:
        image.save(target, "JPEG", quality=QUALITY)
    return Path(target.name)


def _first_frame(container: Any, stream: Any) -> Any:
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                return frame
        except av.FFmpegError:
            # One damaged packet; a later one may still be whole.
            continue
    return None
