"""Converts colours of any transfer curve and primaries to sRGB: what people and models see of HDR and wide gamuts.

Curves and primaries are named by their codes in ITU-T H.273, which video streams, FFmpeg, HEIF and AVIF share. HDR (PQ
and HLG of ITU-R BT.2100) is tone-mapped by the curve of ITU-R BT.2390, section 5.4.1: white of 203 cd/m², the reference
of BT.2408, comes out a little below the white of sRGB, what is darker keeps its brightness, and highlights are rolled
off up to ``PEAK``. The curve is applied to the largest of the three channels, so hues stay. Colours outside of sRGB are
clipped to it.

Ordinary video counts as sRGB, whichever of the curves close to that of BT.709 it names, as in players.
"""

from fractions import Fraction
from functools import lru_cache
from tempfile import NamedTemporaryFile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BT709: Final = 1
BT2020: Final = 9
PQ: Final = 16
HLG: Final = 18

WHITE: Final = 203.0
"""Luminance in cd/m² of reference white in HDR, as BT.2408 has it."""
PEAK: Final = {PQ: 4000.0, HLG: 1000.0}
"""Luminance in cd/m² that becomes the white of sRGB: of the brightest mastering displays, and of a nominal HLG one."""
GRID: Final = 49
"""Points on each side of the cube that pictures are converted by."""
# FFmpeg's lut3d has vector code for planes of 16 bits, and none for packed pixels or fewer bits.
_WIDE: Final = "gbrp16le"
_MOST_SIZES: Final = 8
"""Sizes of pictures at a time; each holds a cube of some 2 MB."""

Point = tuple[float, float]
D50: Final = (0.9642, 1.0, 0.8249)
"""White of ICC profiles in CIE XYZ."""
_D65: Final = (0.3127, 0.3290)
_C: Final = (0.310, 0.316)
PRIMARIES: Final = {
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    10: ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1 / 3, 1 / 3)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
"""Red, green, blue and white in CIE xy, by their codes in table 2 of H.273."""
# The gammas of 2.2 and 2.8 that old television names are not those of its receivers: players show it like any other.
GAMMAS: Final = {8: 1.0, 17: 2.6}
"""Transfer curves of linear light and digital cinema, by their codes in table 3."""
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Signal = NDArray[np.floating[Any]]


def is_srgb(transfer: int, primaries: int) -> bool:
    """Return whether colours are those of sRGB as they are, or of curves and primaries that nothing is known of."""
    return transfer not in PEAK and transfer not in GAMMAS and (primaries == BT709 or primaries not in PRIMARIES)


def to_srgb(signal: Signal, transfer: int, primaries: int) -> Signal:
    """Return non-linear RGB, floats (..., 3) from 0 to 1, in sRGB, floats of the same shape and range."""
    return np.clip(_unclipped(signal, transfer, primaries), 0, 1)


def _unclipped(signal: Signal, transfer: int, primaries: int) -> Signal:
    """Return sRGB as it goes on outside of its gamut: the smoother it is, the better a cube of it."""
    light = _matrix(transfer, primaries)
    if transfer in PEAK:
        display = _pq_light(signal) if transfer == PQ else _hlg_light(signal)
        linear = display @ light.T
        largest = linear.max(-1, keepdims=True)
        linear = linear * (_rolled_off(largest, PEAK[transfer]) / np.maximum(largest, 1e-6) / WHITE)
    else:
        linear = _sdr_light(signal, transfer) @ light.T
    return _srgb_signal(linear)


class ColourConverter:
    """Converts pictures of one transfer curve and primaries to sRGB, by a cube of ``GRID``³ colours.

    Use it on one thread at a time.
    """

    takes: Final = _WIDE
    """FFmpeg's name of the format of pictures that need no conversion beforehand."""

    def __init__(self, transfer: int, primaries: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._colours = transfer, primaries
        self._graphs: dict[tuple[int, int], Any] = {}
        self._widen, self._narrow = VideoReformatter(), VideoReformatter()

    def converted(self, frame: Any) -> Any:
        """Return a PyAV VideoFrame of RGB in any format, as one of rgb24."""
        wide = self._widen.reformat(frame, format=_WIDE, threads=1)
        graph = self._graph(wide.width, wide.height)
        wide.pts = None
        graph.push(wide)
        return self._narrow.reformat(graph.pull(), format="rgb24", threads=1)

    def pixels(self, rgb: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return RGB of all bits, uint8 or uint16 (H, W, 3), as uint8 (H, W, 3)."""
        from av import VideoFrame

        layout = "rgb24" if rgb.dtype == np.uint8 else "rgb48le"
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=layout)
        return np.asarray(self.converted(frame).to_ndarray(), np.uint8)

    def _graph(self, width: int, height: int) -> Any:
        graph = self._graphs.pop((width, height), None) or _cube_graph(width, height, *self._colours)
        self._graphs[width, height] = graph
        if len(self._graphs) > _MOST_SIZES:
            del self._graphs[next(iter(self._graphs))]
        return graph


def _cube_graph(width: int, height: int, transfer: int, primaries: int) -> Any:
    from av import VideoFormat
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=width, height=height, format=VideoFormat(_WIDE), time_base=Fraction(1, 1000))
    with NamedTemporaryFile("w", suffix=".cube") as file:  # the filter takes nothing but files
        file.write(_cube(transfer, primaries))
        file.flush()
        cube = graph.add("lut3d", file=file.name, interp="tetrahedral")
    sink = graph.add("buffersink")
    graph.link_nodes(source, cube, sink)
    graph.configure()
    return graph


@lru_cache(maxsize=8)  # 3 MB each, and files may name codes that nobody uses
def _cube(transfer: int, primaries: int) -> str:
    """Return sRGB at each point of the cube as text, red running fastest."""
    steps = np.linspace(0, 1, GRID)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = _unclipped(np.stack([red, green, blue], -1).reshape(-1, 3), transfer, primaries)
    lines = "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in colours.tolist())
    return f"LUT_3D_SIZE {GRID}\n{lines}\n"


@lru_cache(maxsize=64)
def _matrix(transfer: int, primaries: int) -> NDArray[np.float64]:
    """Return the matrix from linear RGB of these primaries to that of sRGB, white to white."""
    if primaries not in PRIMARIES:
        primaries = BT2020 if transfer in PEAK else BT709
    target = _to_xyz(*PRIMARIES[BT709])
    return np.asarray(np.linalg.inv(target) @ _adapted(_to_xyz(*PRIMARIES[primaries]), target.sum(1)))


def colorants(colours: tuple[Point, Point, Point, Point]) -> NDArray[np.float64]:
    """Return the matrix from linear RGB of red, green, blue and white in CIE xy to XYZ under D50, as ICC profiles have
    it."""
    return _adapted(_to_xyz(*colours), np.array(D50))


def _adapted(to_xyz: NDArray[np.float64], white: NDArray[np.float64]) -> NDArray[np.float64]:
    from_white, to_white = _BRADFORD @ to_xyz.sum(1), _BRADFORD @ white
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(to_white / from_white) @ _BRADFORD @ to_xyz)


def _to_xyz(*points: Point) -> NDArray[np.float64]:
    columns = np.array([(x, y, 1 - x - y) for x, y in points[:3]]).T
    x, y = points[3]
    return columns * np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y]))


def _srgb_signal(linear: Signal) -> Signal:
    size = np.abs(linear)
    return np.copysign(np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055), linear)


def _sdr_light(signal: Signal, transfer: int) -> Signal:
    """Return light from 0 to 1; curves that are not listed count as that of sRGB."""
    if transfer in GAMMAS:
        return np.asarray(signal ** GAMMAS[transfer])
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


# SMPTE ST 2084
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_light(signal: Signal) -> Signal:
    """Return light in cd/m²."""
    root = np.asarray(signal ** (1 / _M2))
    return np.asarray(10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1))


def _pq_signal(light: Signal | float) -> Signal:
    power = (np.asarray(light) / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_light(signal: Signal) -> Signal:
    """Return light in cd/m² of a display of 1000 cd/m²: BT.2100 table 5, with its system gamma of 1.2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(PEAK[HLG] * luminance[..., None] ** 0.2 * scene)


def _rolled_off(light: Signal, peak: float) -> Signal:
    """Return light in cd/m², at most ``WHITE``, which ``peak`` becomes."""
    signal = np.minimum(_pq_signal(np.maximum(light, 0)) / _pq_signal(peak), 1)
    most = float(_pq_signal(WHITE) / _pq_signal(peak))
    knee = 1.5 * most - 0.5
    t = (signal - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return _pq_light(np.where(signal < knee, signal, curve) * _pq_signal(peak))
