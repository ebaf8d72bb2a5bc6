"""Whether what the metadata of a picture say agrees with each other and with the picture.

Nothing here proves a change: programs copy metadata, clocks are wrong, and people crop. It tells where to look.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import StageError
from vision.images import Pixels, decode

THUMBNAIL_PIXELS: Final = 1_000_000
SAMPLE: Final = 48
"""Pixels of the shorter side in which a thumbnail is compared with its picture."""
LEAST_CORRELATION: Final = 0.75
"""Of the luminance with that of the picture, below which a thumbnail shows something else. The report
ops/bench/reports/provenance.md has the values of thumbnails of the picture itself and of others. A small part that was
changed is not seen by it."""
LEAST_CONTRAST: Final = 6.0
"""Standard deviation in grey levels of a picture in which there is something to compare."""
LEAST_SIDE: Final = 16
BAR: Final = 24
"""Grey level up to which a row or column of a thumbnail is a bar."""
ZONES: Final = timedelta(hours=26)
"""By which local times may differ from UTC, and the clock of a camera from the right one, without a contradiction."""
FIRST: Final = datetime(1990, 1, 1, tzinfo=UTC)
_FORMATS: Final = (None, "%Y:%m:%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")
"""ISO 8601 first."""
STANDARD_LUMA: Final = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""Table K.1 of ITU-T T.81, row by row, which libjpeg scales by its quality."""


def parsed_time(value: str) -> datetime | None:
    """Return a time of EXIF or XMP, as UTC where it names a zone, else as if it were; None for one that is none."""
    return next((time for form in _FORMATS if (time := _read(value.strip(), form))), None)


def _read(text: str, form: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if form is None else datetime.strptime(text[:19], form)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def contradicting_times(times: Mapping[str, str], gps: str | None, now: datetime) -> list[str]:
    """Return what is wrong with times: ``taken``, ``digitized``, ``created`` and ``modified``, each as in the file.

    ``gps``: date and time of a satellite receiver, UTC.
    """
    read = {name: time for name, value in times.items() if (time := parsed_time(value))}
    wrong = []
    for name, time in read.items():
        if time > now + ZONES:
            wrong.append(f"the time {name} ({times[name]}) lies in the future")
        elif time < FIRST:
            wrong.append(f"the time {name} ({times[name]}) lies before digital cameras")
    begun = max((read[name] for name in ("taken", "created") if name in read), default=None)
    changed = read.get("modified")
    if begun and changed and begun - changed > ZONES:
        wrong.append(f"it was last changed ({times['modified']}) before it was taken or made")
    taken, seen = read.get("taken"), parsed_time(gps) if gps else None
    if taken and seen and abs(taken - seen) > ZONES:
        wrong.append(f"it was taken at {times['taken']} by its clock, but at {gps} by its satellite receiver")
    return wrong


def standard_quality(table: tuple[int, ...]) -> int | None:
    """Return the quality, 1 to 100, at which libjpeg makes this luminance table; None for another maker's table."""
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        if all(
            step == min(max((base * scale + 50) // 100, 1), 255)
            for step, base in zip(table, STANDARD_LUMA, strict=True)
        ):
            return quality
    return None


def thumbnail_correlation(thumbnail: bytes, image: Pixels, orientation: int) -> float | None:
    """Return how much the embedded thumbnail looks like the picture: correlation of luminance, -1 to 1.

    ``image``: upright, uint8 (H, W, 3). ``orientation``: the EXIF value by which the thumbnail is turned too. None
    where the thumbnail cannot be decoded or either is too plain to tell.
    """
    try:
        small = decode(thumbnail, max_pixels=THUMBNAIL_PIXELS)
    except StageError:
        return None
    stored, whole = _grey(small), _grey(_reduced(image))
    seen = [grey for grey in (stored, _without_bars(stored)) if min(grey.shape) >= LEAST_SIDE]
    values = [_correlation(_turned(grey, turn), whole) for grey in seen for turn in {orientation, 1}]
    return max((value for value in values if value is not None), default=None)


def _reduced(image: Pixels) -> Pixels:
    """Return every n-th pixel of a picture, eight for one that is compared: a filter over all takes 20 ms more."""
    step = max(min(image.shape[:2]) // (8 * SAMPLE), 1)
    return np.ascontiguousarray(image[::step, ::step])


def _grey(image: Pixels) -> NDArray[np.uint8]:
    import cv2

    grey: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey


def _without_bars(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut off the black bars by which thumbnails of 160 x 120 pixels are filled."""
    rows, columns = np.flatnonzero(grey.max(1) > BAR), np.flatnonzero(grey.max(0) > BAR)
    if not len(rows) or not len(columns):
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _turned(grey: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn what is stored by the EXIF orientation to how it is shown."""
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    return grey


def _correlation(small: NDArray[np.uint8], whole: NDArray[np.uint8]) -> float | None:
    """Return the correlation with the picture, scaled as a whole or cut in its middle to the thumbnail's shape."""
    import cv2

    height, width = small.shape
    shape = (
        (SAMPLE, max(round(SAMPLE * height / width), 8))
        if width <= height
        else (max(round(SAMPLE * width / height), 8), SAMPLE)
    )
    shape = min(shape[0], 4 * SAMPLE), min(shape[1], 4 * SAMPLE)
    seen = cv2.resize(np.ascontiguousarray(small), shape, interpolation=cv2.INTER_AREA).astype(np.float32)
    best = None
    for part in (whole, _middle(whole, width / height)):
        shown = cv2.resize(np.ascontiguousarray(part), shape, interpolation=cv2.INTER_AREA).astype(np.float32)
        if min(float(seen.std()), float(shown.std())) < LEAST_CONTRAST:
            continue
        value = float(np.corrcoef(seen.ravel(), shown.ravel())[0, 1])
        best = value if best is None else max(best, value)
    return best


def _middle(grey: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    """Return the middle of a picture that has this ratio of width to height."""
    height, width = grey.shape
    wanted_width, wanted_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - max(wanted_width, 1)) // 2, (height - max(wanted_height, 1)) // 2
    return grey[top : top + max(wanted_height, 1), left : left + max(wanted_width, 1)]
