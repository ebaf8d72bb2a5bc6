"""Colours as files spell them: primaries, ICC profiles, transfer curves, 10-bit frames."""

import struct

import av
import numpy as np

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def to_xyz(primaries) -> np.ndarray:
    """Linear RGB with white D65 to CIE XYZ."""
    columns = np.stack([xyz(*p) for p in primaries], axis=1)
    return columns * np.linalg.solve(columns, xyz(*D65))


def profile(primaries, gamma: float, name: str) -> bytes:
    """An ICC matrix profile, version 2."""
    cone = np.diag((BRADFORD @ xyz(*D50)) / (BRADFORD @ xyz(*D65)))
    matrix = np.linalg.inv(BRADFORD) @ cone @ BRADFORD @ to_xyz(primaries)
    text = name.encode("ascii") + b"\0"

    def fixed(values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = [(b"desc", desc), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", fixed(xyz(*D50)))]
    tags += [(t, fixed(matrix[:, i])) for i, t in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(t, curve) for t in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags:
        value += bytes(-len(value) % 4)
        table += struct.pack(">4sII", tag, at + len(body), len(value))
        body += value
    rest = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(
        ">I4sI4s4s4s6H4s4sIII8sI3i4s",
        128 + len(rest),
        bytes(4),
        0x02400000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        2026,
        1,
        1,
        0,
        0,
        0,
        b"acsp",
        bytes(4),
        0,
        0,
        0,
        bytes(8),
        0,
        *(round(v * 65536) for v in xyz(*D50)),
        bytes(4),
    )
    return head.ljust(128, b"\0") + rest


def srgb_encode(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_decode(value):
    value = np.asarray(value, float)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def pq_encode(nits):
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    y = (np.asarray(nits, float) / 10000) ** m1
    return ((c1 + c2 * y) / (1 + c3 * y)) ** m2


def ten_bits(rgb: np.ndarray) -> av.VideoFrame:
    """Non-linear BT.2020 RGB, float (H, W, 3) 0 to 1, as 10-bit 4:2:0 of limited range."""
    height, width, _ = rgb.shape
    y = rgb @ np.array([0.2627, 0.6780, 0.0593])
    cb, cr = (rgb[..., 2] - y) / 1.8814, (rgb[..., 0] - y) / 1.4746
    frame = av.VideoFrame(width, height, "yuv420p10le")
    planes = (64 + 876 * y, 512 + 896 * cb[::2, ::2], 512 + 896 * cr[::2, ::2])
    for plane, values in zip(frame.planes, planes, strict=True):
        lines = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        lines[:, : values.shape[1]] = np.rint(values)
        plane.update(lines.tobytes())
    return frame


HDR_NITS = (203.0, 50.0)


def hdr_patches() -> np.ndarray:
    """Four patches in nits, linear BT.2020: reference white, a grey, the red and the green of sRGB at 203 nits."""
    turn = np.linalg.inv(to_xyz(BT2020)) @ to_xyz(SRGB)
    colours = [np.full(3, 203.0), np.full(3, 50.0), 203 * (turn @ [1, 0, 0]), 203 * (turn @ [0, 1, 0])]
    picture = np.empty((96, 128, 3))
    for i, colour in enumerate(colours):
        picture[48 * (i // 2) : 48 * (i // 2) + 48, 64 * (i % 2) : 64 * (i % 2) + 64] = colour
    return np.maximum(picture, 0)
