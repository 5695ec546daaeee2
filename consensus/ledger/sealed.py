"""Forced errors, the part without state: seals, the solver's hash chain of secrets, and the draw that both decide.

The draw takes the secret as well as a beacon that came after the secret and the seal were bound. Without the secret
anybody could tell a forced error from the chain; with a beacon known before, its solver could choose.
"""

from __future__ import annotations

from consensus.ledger.parameters import BASIS_POINTS
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.hashing import tagged_hash


def link_of(secret: bytes) -> bytes:
    """The link of the hash chain before this secret: what the chain knows until the secret is shown."""
    return tagged_hash("gensyn/forced-link/1", secret)


def secret_at(root_secret: bytes, instalments: int, instalment: int) -> bytes:
    """The secret of an instalment; `instalment` -1 gives the anchor. The last instalment's is the root itself.

    Each is the hash of the next one's, so that showing one tells nothing about those that follow.
    """
    secret = root_secret
    for _ in range(instalments - 1 - instalment):
        secret = link_of(secret)
    return secret


def seal_of(
    solver: bytes, task_id: bytes, instalment: int, attempt: int, segment_roots: tuple[bytes, ...], secret: bytes
) -> bytes:
    """Binds a solver to its right segment roots, and hides them as long as the secret is one."""
    place = encode((instalment, attempt))
    return tagged_hash("gensyn/sealed-instalment/1", solver, task_id, place, encode(segment_roots), secret)


def forced_segment(
    secret: bytes, beacon: bytes, task_id: bytes, instalment: int, attempt: int, segments: int, error_bps: int
) -> int | None:
    """Which of the instalment's segments has to be shown with a wrong end, counted from 0; None: none."""
    drawn = tagged_hash("gensyn/forced-error/1", secret, beacon, task_id, encode((instalment, attempt)))
    if int.from_bytes(drawn[:8], "little") * BASIS_POINTS >> 64 >= error_bps:
        return None
    return int.from_bytes(drawn[8:24], "little") % segments
