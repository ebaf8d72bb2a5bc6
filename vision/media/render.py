"""Turns the decoded pictures of a video into pixels as a player shows them."""

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels


@dataclass(frozen=True, slots=True)
class Orientation:
    """How decoded frames become upright: swap the axes first, if at all, then mirror.

    Of a display matrix only the right angles are used.
    """

    swapped: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: Any) -> "Orientation":
        """Return that of a PyAV VideoFrame, by its display matrix."""
        for data in frame.side_data:
            if data.type.name == "DISPLAYMATRIX":
                # A pixel at (x, y) is shown at (a x + c y, b x + d y), but for an offset.
                (a, b, _), (c, d, _), _ = np.frombuffer(bytes(data), np.int32).reshape(3, 3).tolist()
                swapped = abs(b) + abs(c) > abs(a) + abs(d)
                return cls(swapped, *((c < 0, b < 0) if swapped else (a < 0, d < 0)))
        return cls()

    @property
    def turns(self) -> bool:
        """Whether decoded frames differ from upright ones."""
        return self.swapped or self.mirrored_x or self.mirrored_y

    @property
    def clockwise(self) -> int:
        """Degrees by which a player turns, after it has mirrored from left to right where that is needed."""
        if self.swapped:
            return 270 if self.mirrored_y else 90
        return 180 if self.mirrored_y else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as shown, or back again."""
        return (height, width) if self.swapped else (width, height)

    def upright(self, pixels: Pixels) -> Pixels:
        """Return a plane or an image, uint8 (H, W) or (H, W, channels), as shown; contiguous."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1])


class Renderer:
    """Renders the pictures of one video stream; ``width`` and ``height`` are those of a frame as shown."""

    orientation: Orientation
    """Turns decoded pictures upright."""
    pixel_aspect: Fraction
    """Width of an upright pixel over its height, as a player shows it; the pictures are not stretched by it."""

    def __init__(self, first: Any, pixel_aspect: Fraction | None) -> None:
        """Take the first picture, a PyAV VideoFrame, and the shape of its pixels by the container, if it tells."""
        from av.video.reformatter import VideoReformatter

        self.orientation = Orientation.of(first)
        aspect = Fraction(pixel_aspect or 1)
        self.pixel_aspect = 1 / aspect if self.orientation.swapped else aspect
        self.width, self.height = self.orientation.size(first.width, first.height)
        self._converter = VideoReformatter()

    def pixels(
        self, picture: Any, size: tuple[int, int] | None = None, interpolation: Literal["AREA", "BICUBIC"] = "AREA"
    ) -> Pixels:
        """Return RGB of a picture, uint8 (H, W, 3), upright; ``size`` is (width, height) of the result.

        ``interpolation`` is the filter that resizes it; BICUBIC is FFmpeg's default, and takes twice as long.
        """
        width, height = self.orientation.size(*size) if size else (picture.width, picture.height)
        rgb = self._converter.reformat(
            picture, width, height, "rgb24", interpolation=interpolation if size else "BILINEAR", threads=1
        )
        return self.orientation.upright(np.asarray(rgb.to_ndarray(), np.uint8))

    def luminance(self, picture: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return grey levels of a picture, uint8 (H, W), upright; ``size`` is its (width, height)."""
        grey = self._converter.reformat(picture, *self.orientation.size(*size), "gray", interpolation="AREA", threads=1)
        return self.orientation.upright(np.asarray(grey.to_ndarray(), np.uint8))


class Deinterlacer:
    """Joins the two fields of interlaced pictures by FFmpeg's bwdif; what does not move between them stays as it is.

    Three pictures tell all that it uses, so the result does not depend on what was joined before.
    """

    def __init__(self) -> None:
        self._graph: Any = None
        self._layout: tuple[Any, ...] = ()
        self._pushed: tuple[Any, Any] = (None, None)

    def joined(self, before: Any, picture: Any, after: Any) -> Any:
        """Return a PyAV VideoFrame of the size of ``picture``, all shown at the time of its first field.

        ``before`` and ``after`` are its neighbours, None where there is none, and count if they are of its layout.
        """
        layout = _layout(picture)
        if picture.width < _LEAST_SIDE or picture.height < _LEAST_SIDE:
            return picture
        neighbours = [other if other is not None and _layout(other) == layout else None for other in (before, after)]
        before, after = neighbours[0] or neighbours[1] or picture, neighbours[1] or neighbours[0] or picture
        if layout != self._layout:
            self._graph, self._layout, self._pushed = _bwdif(picture), layout, (None, None)
        going_on = self._pushed[0] is before and self._pushed[1] is picture
        for frame in (after,) if going_on else (before, picture, after):
            self._graph.push(frame)
            joined = self._pulled()
        self._pushed = picture, after
        assert joined is not None
        return joined

    def _pulled(self) -> Any:
        """Return the last picture that is ready: the one before what was pushed."""
        pulled = None
        with suppress(BlockingIOError):  # until more is pushed
            while True:
                pulled = self._graph.pull()
        return pulled


_LEAST_SIDE: Final = 4
"""Pixels; bwdif refuses smaller pictures."""


def _layout(picture: Any) -> tuple[Any, ...]:
    return picture.width, picture.height, picture.format.name


def _bwdif(picture: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    time_base = picture.time_base or Fraction(1, 1000)
    source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=time_base)
    graph.link_nodes(source, graph.add("bwdif", mode="send_frame"), graph.add("buffersink"))
    graph.configure()
    return graph
