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
    assert (chain.block(3), chain.header(3), chain.commit(3), chain.results(3), chain.events(3)) == (None,) * 5
    assert chain.set_changes() == before
    chain.adopt(committed)
    assert [chain.place_of(name) for name in names] == [Place(3, 0), Place(3, 1)]
    assert chain.block(3) == block and chain.commit(3) == commit and len(chain.results(3) or ()) == 2
    chain.close()
