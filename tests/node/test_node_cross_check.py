"""At every start head, blocks, commits, sets, indexes and ledger are checked against each other: no lie passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import make_cluster

from consensus.ledger import keys
from consensus.ledger.messages import transaction_id
from gensyn_node.app.chain import Chain
from gensyn_node.app.startup import check_chain
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import Change, head_change, height_key

HEIGHT = 6


def changed_state(**fields: object) -> Callable[[Chain], list[Change]]:
    """The head with another state beside the same block and the same ledger."""

    def change(chain: Chain) -> list[Change]:
        state = structs.replace(chain.state, **fields)
        return [head_change(structs.replace(chain.head, chain_state=codec.encode(state)))]

    return change


def turned(chain: Chain) -> list[Change]:
    """The same members, another rotation: in the state and in the table of sets alike."""
    validators = chain.state.validators
    other = structs.replace(validators, priorities=tuple(reversed(validators.priorities)))
    assert other != validators
    return [*changed_state(validators=other)(chain), (b"v" + height_key(HEIGHT + 1), codec.encode(other))]


def without_transaction(chain: Chain) -> list[Change]:
    block = chain.block(HEIGHT)
    assert block
    return [(b"t" + transaction_id(block.transactions[-1]), None)]


def without_signatures(chain: Chain) -> list[Change]:
    commit = chain.commit(HEIGHT)
    assert commit
    slots = tuple(structs.replace(slot, signature=bytes(64)) for slot in commit.slots)
    return [(b"c" + height_key(HEIGHT), codec.encode(structs.replace(commit, slots=slots)))]


LIES: dict[str, Callable[[Chain], list[Change]]] = {
    "another time": changed_state(time_ms=1),
    "another beacon": changed_state(beacon=b"\1" * 32),
    "another rotation": turned,
    "no set for the next height": lambda chain: [(b"v" + height_key(HEIGHT + 1), None)],
    "no set for the height after that": lambda chain: [(b"v" + height_key(HEIGHT + 2), None)],
    "a block is missing": lambda chain: [(b"b" + height_key(HEIGHT - 2), None)],
    "a commit is missing": lambda chain: [(b"c" + height_key(HEIGHT - 2), None)],
    "the commit's signatures": without_signatures,
    "a transaction is not in the index": without_transaction,
    "no results": lambda chain: [(b"r" + height_key(HEIGHT), None)],
    "another supply": lambda chain: [(b"s" + keys.SUPPLY, b"\x90")],
    "the tree's root is missing": lambda chain: [(b"n" + chain.head.app_hash, None)],
    "an older ledger": lambda chain: [(b"s" + keys.CONSENSUS, b"\x92")],
}


@pytest.mark.parametrize("name", LIES)
def test_a_store_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    maker = ChainMaker(make_cluster(tmp_path, 4))
    maker.grow(HEIGHT)
    check_chain(maker.chain)
    maker.chain.store.database.write(LIES[name](maker.chain))
    maker.chain.close()
    chain = ChainMaker(maker.cluster).chain
    with pytest.raises(Rejection) as caught:
        check_chain(chain)
    assert caught.value.reason is reasons.HEADS_DISAGREE
    chain.close()
