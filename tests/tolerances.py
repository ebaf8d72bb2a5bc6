"""How far apart two results of one computation may be, and why.

Compare exactly where arithmetic is exact: whole numbers, copies, what a result is rounded to. Where floating point is
involved, take a tolerance from here. A tolerance about something else (pixels, seconds, degrees, what a codec changes)
stands beside the number that it is about, and is never as small as these.

Processors add the same products in different orders: by 4, 8 or 16 lanes, in tiles of 16 rows (AMX), in blocks whose
size depends on how many items share a batch. The rounding errors of n operations in any order add up to a relative
error of at most n·u, u being half the distance from 1 to the next number, and with a probability of
1 - 2n·exp(-λ²/2) to at most λ·√n·u (Higham and Mary 2019, A new approach to probabilistic rounding error analysis,
https://doi.org/10.1137/18M1226312). Here λ = 8, which fails once in 10^10 comparisons. It is an error of the size of
what was added up, not of what is left of it: compare by ``assert_close``, whose scale is the largest number.
"""

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

U_FP64: Final = 2.0**-53
U_FP32: Final = 2.0**-24
U_BF16: Final = 2.0**-8
"""A bf16 has 8 bits of mantissa, the first of which is not stored; AVX-512 and AMX add up products of them in fp32."""
LAMBDA: Final = 8.0


def rounding(operations: int, unit: float) -> float:
    """Return the relative error that this many rounded operations on the way to a number add up to."""
    return LAMBDA * sqrt(operations) * unit


FP64: Final = rounding(2**20, U_FP64)
"""9e-13: sums of up to a million numbers in fp64."""
FP32: Final = 16 * U_FP32
"""1e-6: up to 16 operations one after the other in fp32, in the worst case. So is a sum by halves of up to 2^16
numbers, as numpy does it: the length of a vector, a mean."""
FP32_DOT: Final = rounding(2**10, U_FP32)
"""1.5e-5: dot products of up to 1,024 numbers in fp32, over the product of the lengths."""
FP32_NETWORK: Final = rounding(2**12, U_FP32)
"""3.1e-5: the small networks that tests generate. Two layers with up to 128 inputs to each of their sums, up to
seven convolutions before them: at most 4,096 operations one after the other."""
FP32_DEEP: Final = rounding(2**16, U_FP32)
"""1.2e-4: the real networks. Each of the 12 blocks of a ViT-S adds up 4 times 384 numbers for its attention, 257 of
softmax, 384 and 1,536 in its MLP: 45,000 operations one after the other; MobileNet, EfficientNet, AASIST and TransNetV2
have fewer."""
BF16_DEEP: Final = U_BF16 * sqrt(72)
"""3.3e-2: the real networks in bf16, over the length of the whole output. Operands are rounded to 8 bits before each of
the six products of 12 blocks, which adds up like noise; what adds their products is fp32 and does not count."""


def least_cosine(error: float) -> float:
    """Return the cosine of two vectors that differ by this relative error of their length."""
    return 1 - error**2 / 2


def decimals(count: int) -> float:
    """Return how far a number that was rounded to so many decimals may be from one that was computed otherwise.

    Half of the last place for the rounding, as much again for the fp32 before it, which may round to the next place.
    """
    return 10.0**-count


def assert_close(got: ArrayLike, expected: ArrayLike, error: float, *, scale: float | None = None) -> None:
    """Raise AssertionError where two arrays differ by more than ``error`` times ``scale``.

    ``scale`` is the size of the numbers that were added up; the largest expected number when it is not given.
    """
    size = float(np.abs(np.asarray(expected)).max()) if scale is None else scale
    np.testing.assert_allclose(got, expected, rtol=0, atol=error * size)
