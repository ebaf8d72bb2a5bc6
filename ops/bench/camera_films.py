"""Make shots with a known camera movement: a virtual camera moves over real pictures, with noise and H.264.

The camera has a place, a magnification and an angle over a picture, which is mirrored beyond its edges. Speeds, easing,
frame rates, durations, sensor noise and compression are random; the same seed gives the same movements.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.shots.camera import FrameRun
from vision.images import Pixels

SIZES: Final = ((640, 360), (640, 480), (480, 272), (360, 640))
RATES: Final = (12, 24, 25, 30, 50, 60)
SAMPLES: Final = 12.0
"""Frames a second that are sampled, or up to half as many again."""
SIDE: Final = 320
SWAY: Final = 0.008
"""Sway of a tracked subject, in frame sizes."""
KINDS: Final = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll cw",
    "roll ccw",
    "handheld",
    "tracking",
    "dolly_in",
    "dolly_out",
)

Way = NDArray[np.float64]
"""Camera path, float64 (frames, 4): right and down in frame widths, logarithm of the magnification, radians
clockwise."""


@dataclass(frozen=True)
class Clip:
    """An encoded shot; ``kind``: one of ``KINDS``; ``note``: its parameters."""

    kind: str
    note: str
    data: bytes
    fps: int


def make(kind: str, pictures: Sequence[Pixels], rng: np.random.Generator) -> Clip:
    """Make one shot of this kind."""
    size, fps = SIZES[rng.integers(len(SIZES))], RATES[rng.integers(len(RATES))]
    seconds = rng.uniform(1.0, 4.0)
    frames = max(8, round(seconds * fps))
    noise, crf = rng.uniform(0, 6), int(rng.integers(18, 34))
    first, second = rng.choice(len(pictures), 2, replace=False)
    way, speed = _way(kind, frames, fps, rng)
    subject = kind == "tracking" or (kind == "static" and rng.random() < 0.4)
    scene = _Scene(pictures[first], size, pictures[second] if subject else None, kind, seconds, rng)
    note = f"{size[0]}x{size[1]}, {fps} fps, {seconds:.1f} s, {speed}, noise {noise:.1f}, crf {crf}"
    shown = (_grainy(scene.frame(place, number / fps), noise, rng) for number, place in enumerate(way))
    return Clip(kind, note + (", subject" if subject else ""), _encoded(shown, size, fps, crf), fps)


def sampled(clip: Clip) -> FrameRun:
    """Return the input of shots/camera: every n-th frame, grey and small."""
    import av

    step = max(1, int(clip.fps / SAMPLES))
    frames, times = [], []
    with av.open(BytesIO(clip.data)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for number, frame in enumerate(container.decode(stream)):
            if number % step == 0:
                frames.append(small(frame.to_ndarray(format="gray")))
                times.append(float(frame.time))
    return FrameRun(np.stack(frames), np.array(times))


def small(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a frame to a longer side of 320 pixels, uint8 (h, w)."""
    import cv2

    scale = SIDE / max(grey.shape)
    size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    shrunk: NDArray[np.uint8] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _way(kind: str, frames: int, fps: int, rng: np.random.Generator) -> tuple[Way, str]:
    seconds = frames / fps
    way = np.zeros((frames, 4))
    sign = -1.0 if kind.endswith(("_left", "_up", "_out", "ccw")) else 1.0
    name = kind.partition("_")[0].partition(" ")[0]
    if name == "handheld":
        return _shaken(frames, fps, rng.uniform(0.5, 2.0), rng), "shaken"
    # Uniform over the logarithm, so that slow and fast ones are equally frequent.
    speed = float(np.exp(rng.uniform(np.log(0.03), np.log(0.5))))
    column, amount = {
        "pan": (0, min(speed * seconds, 1.5)),
        "tracking": (0, min(max(speed, 0.06) * seconds, 1.5)),
        "tilt": (1, min(speed * seconds, 1.0)),
        "zoom": (2, min(speed * seconds, 0.9)),
        "dolly": (2, min(speed * seconds, 0.25)),
        "roll": (3, min(speed * seconds, 0.9)),
    }.get(name, (0, 0.0))
    if name == "tracking":
        sign = float(rng.choice([-1, 1]))
    way[:, column] = sign * amount * _eased(frames, rng)
    hands = float(rng.choice([0.0, 0.0, 0.1]))
    if name != "static" and hands:
        way += _shaken(frames, fps, hands, rng)
    return way, f"{amount / seconds:.3f}/s" + (", shaky" if hands else "")


def _eased(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return progress from 0 to 1: linear, eased in and out, or with a stop before and after."""
    share = np.linspace(0, 1, frames)
    how = rng.integers(3)
    if how == 0:
        return share
    if how == 2:
        share = np.clip((share - rng.uniform(0, 0.25)) / rng.uniform(0.55, 0.75), 0, 1)
    return share * share * (3 - 2 * share)


def _shaken(frames: int, fps: int, percent: float, rng: np.random.Generator) -> Way:
    """Return the shake of a hand: sines of 0.8 to 6 Hz, smaller the faster they are."""
    seconds = np.arange(frames)[:, None] / fps
    way = np.zeros((frames, 4))
    for column, share in ((0, 1.0), (1, 0.8), (2, 0.15), (3, 0.5)):
        hertz = rng.uniform(0.8, 6.0, 6)
        waves = np.sin(2 * np.pi * (hertz * seconds + rng.random(6))) / hertz**0.8
        way[:, column] = share * percent / 100 * waves.sum(1) * np.sqrt(2 / 6) * 1.5
    return way


class _Scene:
    """What the camera films: a picture, a subject that stays or moves in the frame, depth for a dolly."""

    def __init__(
        self,
        picture: Pixels,
        size: tuple[int, int],
        other: Pixels | None,
        kind: str,
        seconds: float,
        rng: np.random.Generator,
    ) -> None:
        import cv2

        width, height = size
        self._size, self._picture, self._seconds = size, picture, seconds
        # About 60 % of the picture is in view, so that its own detail fills the frame.
        self._scale = 0.6 * min(picture.shape[1] / width, picture.shape[0] / height)
        self._subject: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._goes: tuple[float, float] | None = None
        if other is not None:
            side = rng.uniform(0.28, 0.45) * min(1.3 * height, width)
            how = round(side), round(side * rng.uniform(1.0, 1.5))
            cut = cv2.resize(other, how, interpolation=cv2.INTER_AREA).astype(np.float32)
            mask = np.zeros(how[::-1], np.float32)
            cv2.ellipse(mask, (how[0] // 2, how[1] // 2), (how[0] // 2 - 3, how[1] // 2 - 3), 0, 0, 360, 1.0, -1)
            self._subject = cut, cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
            if kind != "tracking":
                self._goes = rng.uniform(0.2, 0.5), rng.uniform(-0.1, 0.1)
        self._depth: NDArray[np.float32] | None = None
        if kind.startswith("dolly"):
            coarse = rng.uniform(0, 1, (4, 6)).astype(np.float32)
            field = np.clip(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), 0, 1)
            self._depth = (1 + 3 * field).astype(np.float32)

    def frame(self, place: NDArray[np.float64], time: float) -> Pixels:
        """Render the frame at ``time`` seconds."""
        import cv2

        width, height = self._size
        right, down, zoom, angle = place.tolist()
        rows, columns = self._picture.shape[:2]
        if self._depth is not None:
            shown = self._travelled(zoom)
        else:
            turn = (
                self._scale
                * np.exp(-zoom)
                * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            )
            middle = np.array([columns / 2 + right * width * self._scale, rows / 2 + down * width * self._scale])
            matrix = np.column_stack([turn, middle - turn @ (width / 2, height / 2)])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            shown = cv2.warpAffine(self._picture, matrix, self._size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return self._with_subject(shown, time)

    def _travelled(self, zoom: float) -> Pixels:
        """Render the view after the camera moved forward: nearer parts grow more. Depths are 1 to 4."""
        import cv2

        assert self._depth is not None
        width, height = self._size
        forward = 2.5 * (1 - np.exp(-zoom))  # things at the mean depth grow as if it zoomed
        x, y = np.meshgrid(np.arange(width, dtype=np.float32) - width / 2, np.arange(height) - height / 2)
        seen_x, seen_y = x.astype(np.float32), y.astype(np.float32)
        for _ in range(6):  # where the point seen here was before: its depth is known only there
            depth = cv2.remap(self._depth, seen_x + width / 2, seen_y + height / 2, 1, borderMode=cv2.BORDER_REPLICATE)
            ratio = np.maximum(0.2, (depth - forward) / depth)
            seen_x, seen_y = (x * ratio).astype(np.float32), (y * ratio).astype(np.float32)
        rows, columns = self._picture.shape[:2]
        shown: Pixels = cv2.remap(
            self._picture,
            (columns / 2 + seen_x * self._scale).astype(np.float32),
            (rows / 2 + seen_y * self._scale).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return shown

    def _with_subject(self, shown: Pixels, time: float) -> Pixels:
        if self._subject is None:
            return shown
        width, height = self._size
        cut, mask = self._subject
        if self._goes is None:  # it stays in the frame
            x, y = 0.5 + SWAY * np.sin(2 * np.pi * time / 3), 0.5 + SWAY * np.sin(2 * np.pi * time / 1.5)
        else:
            x, y = (0.5 + way * (time / self._seconds - 0.5) for way in self._goes)
        left, top = round(x * width - cut.shape[1] / 2), round(y * height - cut.shape[0] / 2)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + cut.shape[1]), min(height, top + cut.shape[0])
        part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        under = shown[y0:y1, x0:x1].astype(np.float32)
        shown[y0:y1, x0:x1] = np.rint(under + (cut[part] - under) * mask[part]).astype(np.uint8)
        return shown


def _grainy(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    grain = rng.normal(0, sigma, (*pixels.shape[:2], 1)).astype(np.float32)
    noisy: Pixels = np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)
    return noisy


def _encoded(frames: Iterator[Pixels], size: tuple[int, int], fps: int, crf: int) -> bytes:
    import av

    file = BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()
