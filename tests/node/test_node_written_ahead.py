"""A block is written on a thread before it becomes the head: until then no reader meets any of it."""

from __future__ import annotations

from pathlib import Path

from chain_maker import ChainMaker
from node_cluster import make_cluster

from consensus.ledger.messages import transaction_id
from gensyn_node.app.executor import execute
from gensyn_node.storage.chain_store import Place

TO = b"\7" * 20


def test_a_block_that_is_written_is_nowhere_until_it_is_the_head(tmp_path: Path) -> None:
    maker = ChainMaker(make_cluster(tmp_path, 4))
    maker.grow(2)
    chain = maker.chain
    sent = [maker.transfer(0, TO), maker.bond(1, 10**9)]
    block = maker.build(sent)
    commit, names = maker.seal(block), tuple(map(transaction_id, sent))
    committed = execute(chain, block)
    before = chain.set_changes()
    chain.write(committed, commit, names)
    # The ledger that a reader is given does not know what the transaction did, so nobody may be told that it is in.
    assert chain.store.place_of(names[0]) == Place(3, 0)
    assert chain.head.height == 2
    assert [chain.place_of(name) for name in names] == [None, None]
    assert (chain.height_of(block.id), chain.validators(4) is None, chain.validators(5)) == (None, False, None)
    assert (chain.block(3), chain.header(3), chain.commit(3), chain.results(3), chain.events(3)) == (None,) * 5
    assert chain.set_changes() == before
    chain.adopt(committed)
    assert [chain.place_of(name) for name in names] == [Place(3, 0), Place(3, 1)]
    assert (chain.height_of(block.id), chain.validators(5) is None) == (3, False)
    assert chain.block(3) == block and chain.commit(3) == commit and len(chain.results(3) or ()) == 2
    chain.close()


def test_a_place_that_was_told_is_told_until_there_is_another(tmp_path: Path) -> None:
    """A transaction that came too early has a place without effect, which a later block replaces."""
    maker = ChainMaker(make_cluster(tmp_path, 4))
    maker.grow(1)
    chain = maker.chain
    first, second = maker.transfer(0, TO), maker.transfer(0, TO)
    maker.add([second, first])
    name = transaction_id(second)
    assert chain.place_of(name) == Place(2, 0)
    block = maker.build([second])
    committed = execute(chain, block)
    chain.write(committed, maker.seal(block), (name,))
    assert chain.store.place_of(name) == Place(3, 0)
    assert chain.place_of(name) == Place(2, 0)
    chain.adopt(committed)
    assert chain.place_of(name) == Place(3, 0)
    chain.close()
