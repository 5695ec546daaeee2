"""A proposer may put a transaction into blocks again: whoever asks what became of it is told of the copy that paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from chain_maker import ChainMaker
from node_cluster import make_cluster

from consensus.ledger.messages import transaction_id
from gensyn_node.app.maintenance import roll_back
from gensyn_node.app.startup import check_chain
from gensyn_node.storage.chain_store import Place

TO = b"\7" * 20


@pytest.mark.parametrize("same_block", [True, False])
def test_a_copy_does_not_hide_the_transaction_that_took_effect(same_block: bool, tmp_path: Path) -> None:
    maker = ChainMaker(make_cluster(tmp_path, 4))
    maker.grow(1)
    sent = maker.transfer(0, TO)
    maker.add([sent, sent] if same_block else [sent])
    maker.add([sent])
    outcomes = [result.applied for height in (2, 3) for result in maker.chain.results(height) or ()]
    assert outcomes == ([True, False, False] if same_block else [True, False])
    assert maker.chain.store.place_of(transaction_id(sent)) == Place(2, 0)
    check_chain(maker.chain)
    maker.chain.close()


def test_one_that_came_too_early_is_found_where_it_took_effect_later(tmp_path: Path) -> None:
    maker = ChainMaker(make_cluster(tmp_path, 4))
    maker.grow(1)
    first, second = maker.transfer(0, TO), maker.transfer(0, TO)
    name = transaction_id(second)
    maker.add([second, first])
    assert maker.chain.store.place_of(name) == Place(2, 0)
    maker.add([second, second])
    assert maker.chain.store.place_of(name) == Place(3, 0)
    check_chain(maker.chain)
    maker.chain.close()
    roll_back(maker.settings.home, 2)
    again = ChainMaker(maker.cluster)
    check_chain(again.chain)
    again.chain.close()
