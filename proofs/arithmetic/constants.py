"""Constants of the elementary functions of `rep-v1`, as IEEE-754 bits of f32, highest power first.

They are part of the meaning of the operators: another implementation takes them from here and does the same operations
in the same order (`elementary`). Sources: Cephes `expf`, `logf`, `tanhf`, `sinf` (S. Moshier) and the erff of N. Juffa;
the error bounds in `elementary` were measured for exactly these bits, without fused multiply-add.
"""

NAN = 0x7FC00000
"""The only NaN that an arithmetic operator returns."""

LOG2_E = 0x3FB8AA3B
"""log2(e)."""

LN2_HIGH = 0x3F318000
"""Leading 10 bits of ln 2: times an integer below 2**14 it is exact."""

LN2_LOW = 0xB95E8083
"""ln 2 - LN2_HIGH."""

EXP_LOWEST = 0xC2D00000
"""Below this exp is 0."""

EXP_HIGHEST = 0x42B20000
"""From here exp is infinite."""

EXP = (
    0x39506967,  # 0.000198756912
    0x3AB743CE,  # 0.00139819994
    0x3C088908,  # 0.00833345205
    0x3D2AA9C1,  # 0.0416657962
    0x3E2AAAAA,  # 0.166666657
    0x3F000000,  # 0.5
)
"""(exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2."""

SQRT_HALF = 0x3F3504F3
"""Mantissas below this are doubled in log."""

LOG = (
    0x3D9021BB,  # 0.0703768358
    0xBDEBD1B8,  # -0.115146101
    0x3DEF251A,  # 0.116769984
    0xBDFE5D4F,  # -0.12420141
    0x3E11E9BF,  # 0.142493233
    0xBE2AAE50,  # -0.166680574
    0x3E4CCEAC,  # 0.200007141
    0xBE7FFFFC,  # -0.24999994
    0x3EAAAAAA,  # 0.333333313
)
"""(log(1 + m) - m + m**2 / 2) / m**3 for sqrt(1/2) <= 1 + m < sqrt(2)."""

TANH_SPLIT = 0x3F200000
"""Below this tanh is a polynomial."""

TANH = (
    0xBBBAF0EA,  # -0.00570498873
    0x3CA9134E,  # 0.020639088
    0xBD5C1E2D,  # -0.0537397154
    0x3E088393,  # 0.133314416
    0xBEAAAA99,  # -0.333332807
)
"""(tanh(x) - x) / x**3 in powers of x**2."""

ERF_SPLIT = 0x3F6D8000
"""Up to this erf is a polynomial."""

ERF_ONE = 0x40800000
"""Above this |erf| is 1."""

ERF_SMALL = (
    0xBA1C7000,  # -0.000596761703
    0x3BA38D2C,  # 0.00499119423
    0xBCDB48D9,  # -0.0267681349
    0x3DE70E22,  # 0.112819925
    0xBEC09380,  # -0.376125336
    0x3E0375D4,  # 0.128379166
)
"""(erf(x) - x) / x in powers of x**2."""

ERF_LARGE_HIGH = (
    0xB7910000,  # -1.7285347e-05
    0x39C8E7D9,  # 0.000383197126
)
"""(log(1 - erf(t)) + t) / t: coefficients of t**6 and t**5."""

ERF_LARGE_MIDDLE = (
    0xBB7E8A1C,  # -0.00388396438
    0x3CC6B1A1,  # 0.0242546219
)
"""The coefficients of t**4 and t**3."""

ERF_LARGE_LOW = (
    0xBDDAAE5C,  # -0.106777877
    0xBF228550,  # -0.634846687
    0xBE03CE86,  # -0.128717512
)
"""The coefficients of t**2, t and 1."""

SIN = (
    0xB94CA1F9,  # -0.000195152956
    0x3C08839E,  # 0.00833216123
    0xBE2AAAA3,  # -0.166666552
)
"""(sin(r) - r) / r**3 in powers of r**2, |r| <= pi / 4."""

COS = (
    0x37CCF5CE,  # 2.44331568e-05
    0xBAB6061A,  # -0.00138873165
    0x3D2AAAA5,  # 0.0416666456
)
"""(cos(r) - 1 + r**2 / 2) / r**4 in powers of r**2."""

HALF_PI_HIGH = 0x20C90000
"""Leading 12 bits of pi/2 * 2**-62."""

HALF_PI_LOW = 0x1AFDAA22
"""pi/2 * 2**-62 - HALF_PI_HIGH."""

HALF_PI = 0x20C90FDB
"""pi/2 * 2**-62."""

TWO_OVER_PI = (
    0x00000000,
    0xA2F9836E,
    0x4E441529,
    0xFC2757D1,
    0xF534DDC0,
    0xDB629599,
    0x3C439041,
    0xFE5163AB,
)
"""Bits of 2/pi in 32-bit words, most significant first, after one word of zeros."""
