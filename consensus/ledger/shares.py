"""The arithmetic of shares and of rewards a share: all integers, every rounding in favour of who stays.

Tokens come in for shares at the present price and leave for shares at the present price; a slash takes tokens and no
shares, so it hits everybody alike. A share begins at one nano and is never worth more: rounding cannot make it, nobody
can give tokens without getting shares, and so the first delegator cannot blow the price up.
"""

from __future__ import annotations

RATIO_BYTES = 24
"""Bytes of a stored ratio: 16 before the point and 8 behind it."""
RATIO_SHIFT = 64
ZERO_RATIO = bytes(RATIO_BYTES)


def shares_for(amount_nano: int, stake_nano: int, shares: int) -> int:
    """Shares that `amount_nano` buys, rounded down. The stake must not be zero while there are shares."""
    return amount_nano if shares == 0 else amount_nano * shares // stake_nano


def worth(held: int, stake_nano: int, shares: int) -> int:
    """What `held` of all `shares` are worth, in nano, rounded down."""
    return 0 if shares == 0 else held * stake_nano // shares


def shares_of(amount_nano: int, held: int, stake_nano: int, shares: int) -> int:
    """Shares given up for `amount_nano`, at most what `held` are worth: rounded up, all of them for the whole worth."""
    if amount_nano >= worth(held, stake_nano, shares):
        return held
    return -(-amount_nano * shares // stake_nano)


def add_reward(ratio: bytes, amount_nano: int, shares: int) -> bytes:
    """The reward a share once `amount_nano` more was earned by all `shares`, rounded down."""
    grown = int.from_bytes(ratio, "big") + (amount_nano << RATIO_SHIFT) // shares
    return grown.to_bytes(RATIO_BYTES, "big")


def reward(held: int, mark: bytes, ratio: bytes) -> int:
    """What `held` shares earned while the ratio went from `mark` to `ratio`, in nano, rounded down."""
    return held * (int.from_bytes(ratio, "big") - int.from_bytes(mark, "big")) >> RATIO_SHIFT
