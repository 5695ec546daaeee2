"""exp, log, tanh, erf, sin, cos and sqrt of `rep-v1` on f32 arrays of any shape.

Only f32 add, sub, mul, div (each rounded once, never fused), comparisons, round-half-even, integer operations and bit
casts: any IEEE-754 machine gives these bits when it does these operations in this order. Largest errors seen
in millions of arguments of all sizes, in units in the last place: exp 1.0, log 0.9, tanh 1.3, erf 1.2, sin and cos
1.6 (results below the normal range included; the tests hold all to 2); sqrt is correctly rounded. NaNs are canonical.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import constants

F32Array = npt.NDArray[np.float32]
I64Array = npt.NDArray[np.int64]


def from_bits(bits: int) -> np.float32:
    """The f32 with these bits."""
    return np.uint32(bits).view(np.float32)


NAN = from_bits(constants.NAN)
ONE = np.float32(1.0)
HALF = np.float32(0.5)
INFINITY = np.float32(np.inf)


def canonical(x: F32Array) -> F32Array:
    """The same values with every NaN replaced by the canonical one."""
    return np.where(np.isnan(x), NAN, x)


def horner(x: F32Array, coefficients: tuple[int, ...]) -> F32Array:
    """((c0 * x + c1) * x + …) + cn, each product and each sum rounded."""
    y = x * from_bits(coefficients[0]) + from_bits(coefficients[1])
    for bits in coefficients[2:]:
        y = y * x + from_bits(bits)
    return y


def _power_of_two(n: npt.NDArray[np.int32]) -> F32Array:
    """2**n for -126 <= n <= 127, by its bits."""
    return ((n + np.int32(127)) << np.int32(23)).view(np.float32)


def exp(x: F32Array) -> F32Array:
    """e**x: x = n ln 2 + r, polynomial in r, times two powers of two: one rounding even below the normal range."""
    with np.errstate(all="ignore"):
        lowest, highest = from_bits(constants.EXP_LOWEST), from_bits(constants.EXP_HIGHEST)
        c: F32Array = np.where(np.isnan(x), np.float32(0), x)
        c = np.where(c < lowest, lowest, c)
        c = np.where(c > highest, highest, c)
        n = np.rint(c * from_bits(constants.LOG2_E))
        r = c - n * from_bits(constants.LN2_HIGH)
        r = r - n * from_bits(constants.LN2_LOW)
        y = horner(r, constants.EXP) * (r * r) + r + ONE
        exponent = n.astype(np.int32)
        half = exponent >> np.int32(1)
        y = y * _power_of_two(half) * _power_of_two(exponent - half)
        return np.where(np.isnan(x), NAN, y)


def log(x: F32Array) -> F32Array:
    """Natural logarithm: x = 2**e (1 + m), polynomial in m; log(±0) = -inf, of negative numbers NaN."""
    with np.errstate(all="ignore"):
        denormal = x < from_bits(0x00800000)
        bits = np.where(denormal, x * np.float32(1 << 24), x).view(np.int32)
        e = (bits >> np.int32(23)) - np.where(denormal, np.int32(150), np.int32(126))
        m = ((bits & np.int32(0x7FFFFF)) | np.int32(0x3F000000)).view(np.float32)
        low = m < from_bits(constants.SQRT_HALF)
        m = np.where(low, m + m - ONE, m - ONE)
        exponent = np.where(low, e - np.int32(1), e).astype(np.float32)
        z = m * m
        y = horner(m, constants.LOG) * m * z
        y = y + exponent * from_bits(constants.LN2_LOW)
        y = y - z * HALF
        y = (m + y) + exponent * from_bits(constants.LN2_HIGH)
        y = np.where(x == INFINITY, INFINITY, y)
        y = np.where(x == 0, -INFINITY, y)
        return np.where((x < 0) | np.isnan(x), NAN, y)


def tanh(x: F32Array) -> F32Array:
    """Of |x|: polynomial below 0.625, then 1 - 2 / (exp(2|x|) + 1); with the sign of x."""
    with np.errstate(all="ignore"):
        a = np.abs(x)
        large = ONE - np.float32(2) / (exp(a + a) + ONE)
        z = a * a
        small = horner(z, constants.TANH) * z * a + a
        return canonical(np.copysign(np.where(a < from_bits(constants.TANH_SPLIT), small, large), x))


def erf(x: F32Array) -> F32Array:
    """Polynomial up to 475/512 (relative accuracy near 0), then 1 - exp(p(|x|)) with the sign of x, ±1 above 4."""
    with np.errstate(all="ignore"):
        t = np.abs(x)
        s = x * x
        small = horner(s, constants.ERF_SMALL) * x + x
        r = t * from_bits(constants.ERF_LARGE_HIGH[0]) + from_bits(constants.ERF_LARGE_HIGH[1])
        u = t * from_bits(constants.ERF_LARGE_MIDDLE[0]) + from_bits(constants.ERF_LARGE_MIDDLE[1])
        r = r * s + u
        for bits in constants.ERF_LARGE_LOW:
            r = r * t + from_bits(bits)
        r = r * t - t
        large = np.where(t > from_bits(constants.ERF_ONE), ONE, ONE - exp(r))
        return canonical(np.where(t > from_bits(constants.ERF_SPLIT), np.copysign(large, x), small))


def _reduced(x: F32Array) -> tuple[I64Array, F32Array]:
    """(q, r) with |x| = q pi/2 + r and |r| <= pi/4, q modulo 4, exact for every finite x.

    |x| = m 2**s; the 24-bit m times a 96-bit window of 2/pi that starts at weight 2 leaves x 2/pi modulo 4.
    """
    bits = x.view(np.int32).astype(np.int64) & 0x7FFFFFFF
    exponent = np.clip(bits >> 23, 126, 254)
    m = (bits & 0x7FFFFF) | 0x800000
    start = exponent - 120
    word, offset = start >> 5, start & 31
    table = np.array(constants.TWO_OVER_PI, dtype=np.int64)
    w0, w1, w2 = (((table[word + i] << offset) | (table[word + i + 1] >> (32 - offset))) & 0xFFFFFFFF for i in range(3))
    middle = m * w1 + ((m * w2) >> 32)
    top = m * w0 + (middle >> 32)
    q = (top >> 30) & 3
    fraction = ((top & 0x3FFFFFFF) << 32) | (middle & 0xFFFFFFFF)
    up = fraction >= 1 << 61
    q = np.where(up, q + 1, q) & 3
    fraction = np.where(up, fraction - (1 << 62), fraction)
    high = (fraction.astype(np.float32).view(np.int32) & np.int32(-4096)).view(np.float32)
    low = (fraction - high.astype(np.int64)).astype(np.float32)
    tail = high * from_bits(constants.HALF_PI_LOW) + low * from_bits(constants.HALF_PI)
    r = high * from_bits(constants.HALF_PI_HIGH) + tail
    small = bits < 0x3F000000
    return np.where(small, np.int64(0), q), np.where(small, np.abs(x), r)


def _sin_kernel(r: F32Array) -> F32Array:
    z = r * r
    return horner(z, constants.SIN) * z * r + r


def _cos_kernel(r: F32Array) -> F32Array:
    z = r * r
    y: F32Array = horner(z, constants.COS) * z * z - z * HALF + ONE
    return y


def _quadrant(q: I64Array, r: F32Array) -> F32Array:
    """sin(q pi/2 + r)."""
    y: F32Array = np.where(q & 1 == 1, _cos_kernel(r), _sin_kernel(r))
    signed: F32Array = np.where(q & 2 == 2, -y, y)
    return signed


def sin(x: F32Array) -> F32Array:
    """Sine, reduced exactly for every finite argument; NaN for infinities."""
    with np.errstate(all="ignore"):
        q, r = _reduced(x)
        y = _quadrant(q, r)
        return np.where(np.isfinite(x), np.where(np.signbit(x), -y, y), NAN)


def cos(x: F32Array) -> F32Array:
    """Cosine, reduced exactly for every finite argument; NaN for infinities."""
    with np.errstate(all="ignore"):
        q, r = _reduced(x)
        return np.where(np.isfinite(x), _quadrant(q + 1, r), NAN)


def sqrt(x: F32Array) -> F32Array:
    """Correctly rounded: an fp64 root with less than 4 ulp error rounds to the right fp32 for every fp32 argument."""
    with np.errstate(all="ignore"):
        return canonical(np.sqrt(x.astype(np.float64)).astype(np.float32))
