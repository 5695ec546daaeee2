"""The mempool: order, replacement, bounds, expiry; and that its books always balance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import mempool as m
from consensus.mempool import Mempool, MempoolBounds, PendingTransaction
from gensyn_node.primitives.errors import Rejection


def tx(sender: str, nonce: int, fee: int, *, size: int = 100, height: int = 1, salt: str = "") -> PendingTransaction:
    return PendingTransaction(f"{sender}{nonce}{fee}{salt}".encode(), sender.encode(), nonce, fee, b"x" * size, height)


def refused(pool: Mempool, transaction: PendingTransaction, account_nonce: int = 0) -> str:
    before = (pool.contents(), pool.total_bytes)
    with pytest.raises(Rejection) as caught:
        pool.insert(transaction, account_nonce)
    assert sorted(before[0], key=lambda t: t.id) == sorted(pool.contents(), key=lambda t: t.id)
    assert before[1] == pool.total_bytes
    return caught.value.reason.name


def test_reap_orders_by_fee_between_accounts_and_by_nonce_within() -> None:
    pool = Mempool()
    for transaction in (tx("a", 0, 10), tx("a", 1, 1_000), tx("b", 0, 50), tx("c", 1, 9_999)):
        pool.insert(transaction, 0)
    assert [(t.sender, t.nonce) for t in pool.reap(10_000)] == [(b"b", 0), (b"a", 0), (b"a", 1)]


def test_reap_fills_the_bytes_with_what_fits() -> None:
    pool = Mempool()
    pool.insert(tx("a", 0, 10_000, size=500), 0)
    pool.insert(tx("a", 1, 10_000, size=10), 0)
    pool.insert(tx("b", 0, 10, size=100), 0)
    assert [t.sender for t in pool.reap(450)] == [b"b"]


def test_replacement_needs_a_tenth_more() -> None:
    pool = Mempool()
    pool.insert(tx("a", 0, 100), 0)
    assert refused(pool, tx("a", 0, 109)) == "fee_too_low_to_replace"
    assert pool.insert(tx("a", 0, 110), 0) == (tx("a", 0, 100),)
    pool.insert(tx("b", 0, 0), 0)
    assert refused(pool, tx("b", 0, 0, salt="again")) == "fee_too_low_to_replace"
    assert pool.insert(tx("b", 0, 1), 0)


def test_known_used_and_far_nonces_are_refused() -> None:
    pool = Mempool(MempoolBounds(per_sender=3))
    pool.insert(tx("a", 5, 1), 5)
    assert refused(pool, tx("a", 5, 1), 5) == "transaction_known"
    assert refused(pool, tx("a", 4, 1), 5) == "nonce_used"
    assert refused(pool, tx("a", 8, 1), 5) == "nonce_too_far"
    pool.insert(tx("a", 7, 1), 5)
    assert pool.next_nonce(b"a", 5) == 6


def test_a_full_pool_pushes_out_the_cheapest_last_transaction() -> None:
    pool = Mempool(MempoolBounds(transactions=3))
    for transaction in (tx("a", 0, 1), tx("a", 1, 500), tx("b", 0, 200)):
        pool.insert(transaction, 0)
    assert refused(pool, tx("c", 0, 150)) == "mempool_full"
    # a's nonce 0 pays least, but pushing it out would strand nonce 1: the cheapest *last* one is b's.
    assert pool.insert(tx("c", 0, 300), 0) == (tx("b", 0, 200),)
    assert len(pool) == 3


def test_bytes_are_bounded_and_a_refusal_changes_nothing() -> None:
    pool = Mempool(MempoolBounds(total_bytes=300))
    pool.insert(tx("a", 0, 100), 0)
    pool.insert(tx("b", 0, 300), 0)
    assert refused(pool, tx("c", 0, 500, size=250)) == "mempool_full"
    assert {t.sender for t in pool.reap(1_000)} == {b"a", b"b"}
    assert len(pool.insert(tx("c", 0, 5_000, size=250), 0)) == 2


def test_after_block_drops_used_expired_and_invalid() -> None:
    pool = Mempool(MempoolBounds(expiry_blocks=10))
    for transaction in (tx("a", 0, 1), tx("a", 1, 1), tx("a", 2, 1), tx("b", 0, 1, height=3), tx("c", 0, 1, height=9)):
        pool.insert(transaction, 0)
    dropped = pool.after_block(14, {b"a": 1, b"zzz": 9}, lambda t: t.nonce != 2)
    assert [(t.sender, t.nonce) for t in dropped] == [(b"a", 0), (b"a", 2), (b"a", 1), (b"b", 0)]
    assert [t.sender for t in pool.contents()] == [b"c"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.integers(0, 6),
            st.integers(0, 200),
            st.integers(1, 200),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_the_books_balance_whatever_comes(operations: list[tuple[str, int, int, int, bool]]) -> None:
    pool = Mempool(MempoolBounds(transactions=6, total_bytes=600, per_sender=4, expiry_blocks=20))
    nonces = dict.fromkeys((b"a", b"b", b"c", b"d"), 0)
    for number, (sender, nonce, fee, size, block) in enumerate(operations):
        if block:
            for transaction in pool.reap(250):
                assert transaction.nonce == nonces[transaction.sender]
                nonces[transaction.sender] += 1
            pool.after_block(number, nonces)
        else:
            try:
                pool.insert(tx(sender, nonce, fee, size=size, height=number, salt=str(number)), nonces[sender.encode()])
            except Rejection as rejection:
                assert rejection.reason.code.startswith("E112")
        contents = pool.contents()
        assert pool.total_bytes == sum(len(t.data) for t in contents) <= 600
        assert len(contents) == len({(t.sender, t.nonce) for t in contents}) == len(pool) <= 6
        assert sum(len(t.data) for t in pool.reap(300)) <= 300
    assert m.KNOWN.code == "E1120"


class SlowModel:
    """The mempool's rules, written plainly over one list: every bound found by looking at everything."""

    def __init__(self, bounds: MempoolBounds) -> None:
        self.bounds = bounds
        self.pending: list[PendingTransaction] = []

    def insert(self, new: PendingTransaction, account_nonce: int) -> bool:
        own = {t.nonce: t for t in self.pending if t.sender == new.sender}
        old = own.get(new.nonce)
        first_gap = next(n for n in range(account_nonce, account_nonce + 99) if n not in own)
        crowded = 2 * len(self.pending) >= self.bounds.transactions or 2 * self.size() >= self.bounds.total_bytes
        if (
            new.id in {t.id for t in self.pending}
            or not account_nonce <= new.nonce < account_nonce + self.bounds.per_sender
            or (old is not None and (new.fee * 10 < old.fee * 11 or new.fee <= old.fee))
            or (old is None and (len(own) >= self.bounds.per_sender or (crowded and new.nonce > first_gap)))
        ):
            return False
        left = [t for t in self.pending if t is not old]
        while (
            len(left) + 1 > self.bounds.transactions or sum(len(t.data) for t in [*left, new]) > self.bounds.total_bytes
        ):
            last = [
                t
                for t in left
                if t.sender != new.sender and t.nonce == max(o.nonce for o in left if o.sender == t.sender)
            ]
            victim = min(last, key=lambda t: (t.rate, t.id), default=None)
            if victim is None or victim.rate >= new.rate:
                return False
            left.remove(victim)
        self.pending = [*left, new]
        return True

    def size(self) -> int:
        return sum(len(t.data) for t in self.pending)

    def after_block(self, height: int, nonces: dict[bytes, int]) -> None:
        self.pending = [
            t for t in self.pending if t.nonce >= nonces[t.sender] and t.height >= height - self.bounds.expiry_blocks
        ]

    def reap(self, nonces: dict[bytes, int], max_bytes: int) -> list[PendingTransaction]:
        nonces, closed, reaped = dict(nonces), set(), list[PendingTransaction]()
        while True:
            heads = [t for t in self.pending if t.sender not in closed and t.nonce == nonces[t.sender]]
            if not heads:
                return reaped
            best = min(heads, key=lambda t: (-t.rate, t.id))
            if len(best.data) > max_bytes:
                closed.add(best.sender)
                continue
            nonces[best.sender] += 1
            max_bytes -= len(best.data)
            reaped.append(best)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.integers(0, 6), st.integers(0, 60), st.integers(1, 200), st.integers(0, 5)
        ),
        max_size=60,
    )
)
def test_it_does_what_the_slow_model_does(operations: list[tuple[str, int, int, int, int]]) -> None:
    bounds = MempoolBounds(transactions=6, total_bytes=600, per_sender=4, expiry_blocks=20)
    pool, model = Mempool(bounds), SlowModel(bounds)
    nonces = dict.fromkeys((b"a", b"b", b"c", b"d"), 0)
    for number, (sender, nonce, fee, size, kind) in enumerate(operations):
        if kind == 0:
            assert pool.reap(350) == model.reap(nonces, 350)
            for transaction in pool.reap(250):
                nonces[transaction.sender] += 1
            pool.after_block(number, nonces)
            model.after_block(number, nonces)
        else:
            new = tx(sender, nonce, fee, size=size, height=number, salt=str(number))
            try:
                pool.insert(new, nonces[sender.encode()])
                taken = True
            except Rejection:
                taken = False
            assert taken == model.insert(new, nonces[sender.encode()])
        assert {t.id for t in pool.contents()} == {t.id for t in model.pending}
        assert pool.has_next() == any(t.nonce == nonces[t.sender] for t in model.pending)
