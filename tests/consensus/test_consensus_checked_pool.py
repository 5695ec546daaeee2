"""What the mempool looks at again after a block: what the block changed, and everything when the rules change."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from consensus.ledger import keys, queries
from consensus.ledger.messages import Transfer, decode_transaction, encode_transaction, sign_transaction
from consensus.pool import CheckedMempool
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_world import CHAIN, World, key

FEE = 200_000


def transfer(name: str, nonce: int, amount_nano: int = 1, fee_nano: int = FEE) -> bytes:
    message = Transfer(b"\x07" * 20, amount_nano)
    return encode_transaction(sign_transaction(key(name), CHAIN, nonce, fee_nano, message))


class Changed:
    """A ledger with other values at some keys."""

    def __init__(self, world: World, values: dict[bytes, bytes]) -> None:
        self._world, self._values = world, values

    def get(self, name: bytes) -> bytes | None:
        return self._values.get(name) or self._world.ledger.get(name)


def test_a_block_that_leaves_too_little_for_a_fee_drops_what_its_sender_has_waiting() -> None:
    world, pool = World(), CheckedMempool()
    first, second = transfer("alice", 0), transfer("alice", 1)
    other = transfer("bob", 0)
    for data in (first, second, other):
        pool.add(world.ledger, 1, data)
    pool.after_block(world.ledger, 1, ())
    account = queries.account(world.ledger, key("alice").address)
    spent = msgspec.structs.replace(account, balance_nano=FEE - 1, nonce=1)
    after = Changed(world, {keys.account(key("alice").address): codec.encode(spent)})
    assert {entry.data for entry in pool.after_block(after, 2, (first,))} == {first, second}
    assert [entry.data for entry in pool.pending.contents()] == [other]


def test_when_the_least_fee_rises_everything_that_waits_is_looked_at_again() -> None:
    world, pool = World(), CheckedMempool()
    low, high = transfer("alice", 0), transfer("bob", 0, fee_nano=2_000 * FEE)
    for data in (low, high):
        pool.add(world.ledger, 1, data)
    assert not pool.after_block(world.ledger, 1, ())
    dearer = msgspec.structs.replace(queries.parameters(world.ledger), fee_base_nano=1_000 * FEE)
    after = Changed(world, {keys.PARAMETERS: codec.encode(dearer)})
    assert [entry.data for entry in pool.after_block(after, 2, ())] == [low]
    assert [entry.data for entry in pool.pending.contents()] == [high]


def test_a_decoded_transaction_is_known_by_all_its_bytes() -> None:
    world, pool = World(), CheckedMempool()
    good = transfer("alice", 0)
    pool.add(world.ledger, 1, good)
    for position in range(len(good) - 64, len(good)):
        forged = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        assert decode_transaction(forged) != decode_transaction(good)
        with pytest.raises(Rejection, match="bad_signature"):
            pool.add(world.ledger, 1, forged)
    assert decode_transaction(good).sender_address == key("alice").address


def test_one_balance_backs_all_fees_of_a_row_and_a_replacement_counts_once() -> None:
    world, pool = World(), CheckedMempool()
    half = queries.account(world.ledger, key("alice").address).balance_nano // 2
    pool.add(world.ledger, 1, transfer("alice", 0, fee_nano=half))
    with pytest.raises(Rejection, match="insufficient_funds"):
        pool.add(world.ledger, 1, transfer("alice", 1, fee_nano=half + 1))
    pool.add(world.ledger, 1, transfer("alice", 0, fee_nano=2 * half - half // 2))
    with pytest.raises(Rejection, match="insufficient_funds"):
        pool.add(world.ledger, 1, transfer("alice", 1, fee_nano=half))
    pool.add(world.ledger, 1, transfer("alice", 1, fee_nano=half // 2))
    assert pool.pending.fees_beside(key("alice").address, 1) == 2 * half - half // 2
    pool.pending.after_block(1, {key("alice").address: 2})
    assert pool.pending.fees_beside(key("alice").address, 2) == 0 and not pool.pending.senders()
