"""Does this machine, in this process, compute `rep-v1`? A node asks before it takes part.

A library built with -ffast-math switches denormals off for the whole thread when it is loaded, and a validator with
such a library would rule against the honest party: better not to start.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from gensyn_node.primitives.errors import InvariantViolation
from proofs.arithmetic import definitions, elementwise
from proofs.arithmetic.elementary import F32Array

_EXPECTED = "630db5756ea4bc038d8941cf7b4d23024089e3eee48e65fc93ce07b7ea5b4f4d"
_UNARY = ("neg", "abs", "sign", "floor", "sqrt", "reciprocal", "exp", "log", "tanh", "erf", "sin", "cos")
_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")


def _arguments() -> F32Array:
    """512 f32 of every sign and exponent, denormals, infinities and NaNs among them."""
    bits = np.arange(512, dtype=np.uint64) * np.uint64(0x9E3779B9) & np.uint64(0x007FFFFF)
    return (np.arange(512, dtype=np.uint32) << np.uint32(23) | bits.astype(np.uint32)).view(np.float32)


def fingerprint() -> str:
    """A hash over the bits of every kind of f32 operation."""
    x, seen = _arguments(), sha256()
    for operator in _UNARY:
        seen.update(elementwise.apply(operator, [x], ()).tobytes())
    for operator in _BINARY:
        for shift in (1, 256, 300):
            seen.update(elementwise.apply(operator, [x, np.roll(x, shift)], ()).tobytes())
    seen.update(elementwise.cast(x, "i64").tobytes())
    finite = np.where(np.abs(x) < np.float32(1e9), x, np.float32(0.5)).reshape(16, 32)
    with np.errstate(all="ignore"):
        seen.update(definitions.matmul(finite, np.ascontiguousarray(finite.T)).tobytes())
        seen.update(definitions.sum_rows(finite).tobytes())
    return seen.hexdigest()


def check_machine() -> None:
    """Raise `InvariantViolation` when this process does not compute `rep-v1`."""
    found = fingerprint()
    if found != _EXPECTED:
        raise InvariantViolation(f"this process does not compute rep-v1 ({found[:16]}): are denormals switched off?")
