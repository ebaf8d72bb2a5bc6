"""Turns the decoded pictures of a video into pixels as a player shows them."""

from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision.colour import BT709, BT2020, ColourConverter, is_srgb
from vision.images import Pixels

BT601: Final = 5
# PyAV takes swscale's names for a matrix, which are the codes of H.273 but for the second one of BT.601.
_MATRICES: Final = {BT709: BT709, 4: 4, BT601: BT601, 6: BT601, 7: 7, BT2020: BT2020}
_HD_WIDTH, _SD_HEIGHT = 1280, 576
_MOST_ASPECT: Final = 8
"""Lenses stretch by 2, television by 3; what claims more than this is an error."""
_NARROW_RANGE: Final = 1
_MOST_COLOURS: Final = 4
"""Pairs of curve and primaries at a time, each with a converter of some megabytes."""
_MOST_SCALERS: Final = 4
"""At a time; indexing has three."""
_LEAST_SIDE: Final = 16
"""Pixels; bwdif refuses planes of fewer than four lines, and those of colours may have a quarter of them."""


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
        """Degrees by which a player turns, before it mirrors from left to right if it does; 0 where it only mirrors."""
        if self.swapped:
            return 270 if self.mirrored_y else 90
        return 180 if self.mirrored_x and self.mirrored_y else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as shown, or back again."""
        return (height, width) if self.swapped else (width, height)

    def upright(self, pixels: Pixels) -> Pixels:
        """Return a plane or an image, uint8 (H, W) or (H, W, channels), as shown; contiguous."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1])


class Colours(NamedTuple):
    """What the numbers of a picture mean, by the codes of H.273."""

    matrix: int
    primaries: int
    curve: int


class Renderer:
    """Renders the pictures of one video stream, all in the size of the first as it is shown.

    ``width`` and ``height`` are that size, of square pixels: where a player stretches the pixels, the shorter of their
    sides grows. Colours come out as sRGB, see ``vision.colour``; their matrix is that of BT.601 or, in HD, BT.709 where
    the stream names none, as in players.
    """

    orientation: Orientation
    """Turns decoded pictures upright."""
    colours: Colours
    """Of the first picture, as ``converted_colours``."""

    def __init__(self, first: Any, pixel_aspect: Fraction | None) -> None:
        """Take the first picture, a PyAV VideoFrame, and the width of its pixels over their height, if stated."""
        from av.video.reformatter import VideoReformatter

        self.orientation = Orientation.of(first)
        self.width, self.height = self.orientation.size(*_squared(first.width, first.height, pixel_aspect))
        self._make_scaler = VideoReformatter
        self._scalers: dict[tuple[int, int, str, str], Any] = {}
        self._converters: dict[tuple[int, int], ColourConverter] = {}
        self.colours = self.converted_colours(first)

    def twin(self) -> "Renderer":
        """Return one that renders the same, for another thread."""
        twin = copy(self)
        twin._scalers, twin._converters = {}, {}
        return twin

    def pixels(
        self, picture: Any, size: tuple[int, int] | None = None, interpolation: Literal["AREA", "BICUBIC"] = "AREA"
    ) -> Pixels:
        """Return RGB of a picture, uint8 (H, W, 3), upright, to be written to; ``size`` is its (width, height).

        ``interpolation`` is the filter that resizes it to ``size``; BICUBIC is FFmpeg's default, and takes twice as
        long.
        """
        how = interpolation if size else "BICUBIC" if self.resizes(picture) else "BILINEAR"
        converter = self._converter(picture)
        rgb = self._scaled(picture, size or (self.width, self.height), converter.takes if converter else "rgb24", how)
        rgb = converter.converted(rgb) if converter else rgb
        # What needs no conversion is the picture itself, which the decoder may predict later ones from.
        pixels = np.array(rgb.to_ndarray()) if rgb is picture else np.asarray(rgb.to_ndarray(), np.uint8)
        return self.orientation.upright(_widened(pixels) if _is_narrow_grey(picture) else pixels)

    def luminance(self, picture: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return grey levels of a picture, uint8 (H, W), upright; ``size`` is its (width, height)."""
        if self.changes_colours(picture):
            import cv2

            return np.asarray(cv2.cvtColor(self.pixels(picture, size), cv2.COLOR_RGB2GRAY), np.uint8)
        grey = self._scaled(picture, size, "gray", "AREA")
        return self.orientation.upright(np.asarray(grey.to_ndarray(), np.uint8))

    def resizes(self, picture: Any) -> bool:
        """Return whether a picture is stored in another size than it is shown in."""
        return self.orientation.size(picture.width, picture.height) != (self.width, self.height)

    def changes_colours(self, picture: Any) -> bool:
        """Return whether a picture needs more than the matrix of its colours to be RGB."""
        return _is_narrow_grey(picture) or not is_srgb(picture.color_trc, picture.color_primaries)

    def converted_colours(self, picture: Any) -> Colours:
        """Return the colours of a picture, those of BT.709 where they are changed."""
        if self.changes_colours(picture):
            return Colours(BT709, BT709, BT709)
        return Colours(matrix_of(picture), picture.color_primaries, picture.color_trc)

    def _converter(self, picture: Any) -> ColourConverter | None:
        colours = picture.color_trc, picture.color_primaries
        if is_srgb(*colours):
            return None
        converter = self._converters.pop(colours, None) or ColourConverter(*colours)
        self._converters[colours] = converter
        if len(self._converters) > _MOST_COLOURS:
            del self._converters[next(iter(self._converters))]
        return converter

    def _scaled(self, picture: Any, size: tuple[int, int], layout: str, interpolation: str) -> Any:
        """Return a picture that is not upright yet in FFmpeg's format ``layout``; ``size`` is that of the upright."""
        width, height = self.orientation.size(*size)
        # Grey levels of another matrix than that of BT.601 would be made from RGB. What is made has none or that one,
        # which has to be said, as the picture may name one that the scaler refuses.
        return self._scaler(width, height, layout, interpolation).reformat(
            picture,
            width,
            height,
            layout,
            src_colorspace=BT601 if layout == "gray" else matrix_of(picture),
            dst_colorspace=BT601,
            interpolation=interpolation,
            threads=1,
        )

    def _scaler(self, *key: Any) -> Any:
        """Return the scaler of a size, a layout and a filter; one for all would compute its filters at each change."""
        scaler = self._scalers.pop(key, None) or self._make_scaler()
        self._scalers[key] = scaler
        if len(self._scalers) > _MOST_SCALERS:
            del self._scalers[next(iter(self._scalers))]
        return scaler


def matrix_of(picture: Any) -> int:
    """Return the matrix between YUV and RGB of a PyAV VideoFrame by its code in H.273, of BT.601 always 5.

    One that is not named, or that FFmpeg's scaler does not know, is guessed from the primaries and the size.
    """
    named: int = picture.colorspace
    if named in _MATRICES:
        return _MATRICES[named]
    if picture.color_primaries == BT2020:
        return BT2020
    return BT709 if picture.width >= _HD_WIDTH or picture.height > _SD_HEIGHT else BT601


def _squared(width: int, height: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Return the size of a picture in square pixels."""
    aspect = Fraction(pixel_aspect or 1)
    if aspect >= 1:
        return (round(width * aspect) if aspect <= _MOST_ASPECT else width), height
    return width, (round(height / aspect) if aspect >= Fraction(1, _MOST_ASPECT) else height)


def _is_narrow_grey(picture: Any) -> bool:
    """Return whether black is 16 and white 235 in a picture without colours, which FFmpeg's scaler leaves so."""
    return bool(picture.color_range == _NARROW_RANGE and picture.format.name.startswith("gray"))


def _widened(pixels: Pixels) -> Pixels:
    import cv2

    levels = (np.arange(256) - 16) * (255 / 219)
    return np.asarray(cv2.LUT(pixels, np.clip(np.rint(levels), 0, 255).astype(np.uint8)), np.uint8)


class Deinterlacer:
    """Joins the two fields of interlaced pictures by FFmpeg's bwdif; what does not move between them stays as it is.

    It uses three pictures only, so the result does not depend on what was joined before.
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
        return picture if joined is None else joined

    def _pulled(self) -> Any:
        """Return the last picture that is ready: the one before what was pushed."""
        pulled = None
        with suppress(BlockingIOError):  # until more is pushed
            while True:
                pulled = self._graph.pull()
        return pulled


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
