"""Money is integers: one unit, the nano; 1 GSN = 10^9 nano. Parsing and printing only; the ledger moves it."""

from __future__ import annotations

import re

from gensyn_node.primitives import reasons
from gensyn_node.primitives.errors import Rejection

NANO_PER_GSN = 10**9
SUPPLY_NANO_MAX = (1 << 63) - 1
"""No amount and no sum of all amounts exceeds this: every amount fits a signed 64-bit integer."""

_AMOUNT = re.compile(r"^\s*([0-9]{1,10})(?:\.([0-9]{1,9}))?\s*(GSN|gsn)\s*$")
_NANO = re.compile(r"^\s*([0-9]{1,19})\s*nano\s*$")


def parse_amount(text: str) -> int:
    """Nano in `12.5 GSN` or `1000 nano`; the unit must be written. `Rejection` BAD_AMOUNT otherwise."""
    if match := _AMOUNT.match(text):
        nano = int(match[1]) * NANO_PER_GSN + int((match[2] or "").ljust(9, "0"))
    elif match := _NANO.match(text):
        nano = int(match[1])
    else:
        raise Rejection(reasons.BAD_AMOUNT, f"{text!r} is not an amount such as 12.5 GSN or 1000 nano")
    if nano > SUPPLY_NANO_MAX:
        raise Rejection(reasons.BAD_AMOUNT, f"{text!r} is more than can exist")
    return nano


def format_amount(nano: int) -> str:
    """`12.5 GSN`: exact, without trailing zeros."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, rest = divmod(nano, NANO_PER_GSN)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{sign}{whole:,}{fraction} GSN"
