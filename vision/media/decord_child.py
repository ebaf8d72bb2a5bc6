"""What a ``DecordReader`` has done in its child process; it imports no second FFmpeg there beside that of decord."""

import resource
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import ProcessingFailed

MEMORY_BYTES: Final = 4 * 2**30
"""Address space. decord decodes ahead without a limit; this one ends the process before the machine suffers."""

_videos: list[Any] = []


def open_video(path: str, threads: int) -> list[float]:
    """Open the video of this process, once, and return the times of all its frames in seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import decord

    try:
        video = decord.VideoReader(path, num_threads=threads)
    except decord.DECORDError:
        raise ProcessingFailed("decord cannot open this video; read it by PyAV.") from None
    _videos.append(video)
    times: list[float] = video.get_frame_timestamp(range(len(video)))[:, 0].tolist()
    return times


def pixels(numbers: list[int]) -> NDArray[np.uint8] | None:
    """Return frames as uint8 (n, H, W, 3); None where decord cannot."""
    import decord

    try:
        batch: NDArray[np.uint8] = _videos[0].get_batch(numbers).asnumpy()
    except decord.DECORDError:
        return None
    return batch
