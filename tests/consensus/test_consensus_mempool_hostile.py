"""A mempool that somebody tries to fill for nothing."""

from __future__ import annotations

from test_consensus_mempool import refused, tx

from consensus.mempool import Mempool, MempoolBounds


def test_transactions_behind_a_gap_leave_half_of_the_pool_to_others() -> None:
    pool = Mempool(MempoolBounds(transactions=40, per_sender=8))
    taken = 0
    for sender in "abcdefgh":
        for nonce in range(1, 8):
            if len(pool) < 20:
                pool.insert(tx(sender, nonce, 1_000_000), 0)
                taken += 1
            else:
                assert refused(pool, tx(sender, nonce, 1_000_000)) == "nonce_too_far"
    assert taken == 20
    for sender in "klmnopqrstuvwxyzKLMN":
        pool.insert(tx(sender, 0, 1), 0)
    assert len(pool.reap(100_000)) == 20


def test_the_same_by_bytes() -> None:
    pool = Mempool(MempoolBounds(total_bytes=4_000))
    for nonce in range(1, 21):
        pool.insert(tx("a", nonce, 1_000_000), 0)
    assert refused(pool, tx("a", 21, 1_000_000)) == "nonce_too_far"
    pool.insert(tx("a", 0, 1), 0)
    pool.insert(tx("a", 21, 1_000_000), 0)
