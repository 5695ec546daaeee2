"""exp, log, tanh, erf, sin, cos, sqrt of rep-v1 in torch: the operations of `proofs.arithmetic.elementary` in order."""

from __future__ import annotations

import math

import torch

from proofs.arithmetic import constants

Tensor = torch.Tensor


def bits(number: int, like: Tensor) -> Tensor:
    """The f32 scalar with these bits, on the device of `like`."""
    signed = number - (1 << 32) if number >> 31 else number
    return torch.tensor(signed, dtype=torch.int32, device=like.device).view(torch.float32)


def number(value: float, like: Tensor) -> Tensor:
    """An f32 scalar on the device of `like`."""
    return torch.tensor(value, dtype=torch.float32, device=like.device)


def canonical(x: Tensor) -> Tensor:
    """Every NaN of an f32 tensor replaced by the canonical one."""
    return torch.where(torch.isnan(x), bits(constants.NAN, x), x) if x.dtype == torch.float32 else x


def horner(x: Tensor, coefficients: tuple[int, ...]) -> Tensor:
    """((c0 * x + c1) * x + …) + cn, each product and each sum rounded."""
    y = bits(coefficients[0], x)
    for item in coefficients[1:]:
        y = torch.add(torch.mul(y, x), bits(item, x))
    return y


def _power_of_two(n: Tensor) -> Tensor:
    return ((n + 127) << 23).view(torch.float32)


def exp(x: Tensor) -> Tensor:
    """e**x."""
    lowest, highest = bits(constants.EXP_LOWEST, x), bits(constants.EXP_HIGHEST, x)
    c = torch.where(torch.isnan(x), number(0.0, x), x)
    c = torch.where(c < lowest, lowest, c)
    c = torch.where(c > highest, highest, c)
    n = torch.round(c * bits(constants.LOG2_E, x))
    r = c - n * bits(constants.LN2_HIGH, x)
    r = r - n * bits(constants.LN2_LOW, x)
    y = horner(r, constants.EXP) * (r * r) + r + number(1.0, x)
    exponent = n.to(torch.int32)
    half = exponent >> 1
    y = y * _power_of_two(half) * _power_of_two(exponent - half)
    return torch.where(torch.isnan(x), bits(constants.NAN, x), y)


def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    one, zero, infinity = number(1.0, x), number(0.0, x), number(math.inf, x)
    denormal = x < bits(0x00800000, x)
    word = torch.where(denormal, x * number(float(1 << 24), x), x).view(torch.int32)
    e = (word >> 23) - torch.where(denormal, 150, 126).to(torch.int32)
    m = ((word & 0x7FFFFF) | 0x3F000000).view(torch.float32)
    low = m < bits(constants.SQRT_HALF, x)
    m = torch.where(low, m + m - one, m - one)
    exponent = torch.where(low, e - 1, e).to(torch.float32)
    z = m * m
    y = horner(m, constants.LOG) * m * z
    y = y + exponent * bits(constants.LN2_LOW, x)
    y = y - z * number(0.5, x)
    y = (m + y) + exponent * bits(constants.LN2_HIGH, x)
    y = torch.where(x == infinity, infinity, y)
    y = torch.where(x == zero, -infinity, y)
    return torch.where((x < zero) | torch.isnan(x), bits(constants.NAN, x), y)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    one = number(1.0, x)
    a = torch.abs(x)
    large = one - number(2.0, x) / (exp(a + a) + one)
    z = a * a
    small = horner(z, constants.TANH) * z * a + a
    return canonical(torch.copysign(torch.where(a < bits(constants.TANH_SPLIT, x), small, large), x))


def erf(x: Tensor) -> Tensor:
    """Error function."""
    one = number(1.0, x)
    t = torch.abs(x)
    s = x * x
    small = horner(s, constants.ERF_SMALL) * x + x
    r = horner(t, constants.ERF_LARGE_HIGH) * s + horner(t, constants.ERF_LARGE_MIDDLE)
    for item in constants.ERF_LARGE_LOW:
        r = r * t + bits(item, x)
    r = r * t - t
    large = torch.where(t > bits(constants.ERF_ONE, x), one, one - exp(r))
    return canonical(torch.where(t > bits(constants.ERF_SPLIT, x), torch.copysign(large, x), small))


def _reduced(x: Tensor) -> tuple[Tensor, Tensor]:
    """(q, r) with |x| = q pi/2 + r, |r| <= pi/4, q modulo 4, in 64-bit integers."""
    word = x.view(torch.int32).to(torch.int64) & 0x7FFFFFFF
    exponent = torch.clamp(word >> 23, 126, 254)
    m = (word & 0x7FFFFF) | 0x800000
    start = exponent - 120
    place, offset = start >> 5, start & 31
    table = torch.tensor(constants.TWO_OVER_PI, dtype=torch.int64, device=x.device)
    w0, w1, w2 = (
        ((table[place + i] << offset) | (table[place + i + 1] >> (32 - offset))) & 0xFFFFFFFF for i in range(3)
    )
    middle = m * w1 + ((m * w2) >> 32)
    top = m * w0 + (middle >> 32)
    q = (top >> 30) & 3
    fraction = ((top & 0x3FFFFFFF) << 32) | (middle & 0xFFFFFFFF)
    up = fraction >= 1 << 61
    q = torch.where(up, q + 1, q) & 3
    fraction = torch.where(up, fraction - (1 << 62), fraction)
    high = (fraction.to(torch.float32).view(torch.int32) & -4096).view(torch.float32)
    low = (fraction - high.to(torch.int64)).to(torch.float32)
    tail = high * bits(constants.HALF_PI_LOW, x) + low * bits(constants.HALF_PI, x)
    r = high * bits(constants.HALF_PI_HIGH, x) + tail
    small = word < 0x3F000000
    return torch.where(small, 0, q), torch.where(small, torch.abs(x), r)


def _quadrant(q: Tensor, r: Tensor) -> Tensor:
    """sin(q pi/2 + r)."""
    z = r * r
    sine = horner(z, constants.SIN) * z * r + r
    cosine = horner(z, constants.COS) * z * z - z * number(0.5, r) + number(1.0, r)
    y = torch.where(q & 1 == 1, cosine, sine)
    return torch.where(q & 2 == 2, -y, y)


def sin(x: Tensor) -> Tensor:
    """Sine."""
    y = _quadrant(*_reduced(x))
    return torch.where(torch.isfinite(x), torch.where(torch.signbit(x), -y, y), bits(constants.NAN, x))


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    q, r = _reduced(x)
    return torch.where(torch.isfinite(x), _quadrant(q + 1, r), bits(constants.NAN, x))


def sqrt(x: Tensor) -> Tensor:
    """Correctly rounded: the fp64 root rounded (torch's own fp32 root is not)."""
    return canonical(torch.sqrt(x.to(torch.float64)).to(torch.float32))
