"""What one balance can put into the mempool."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_cluster import FEE_NANO, key, make_cluster, run
from test_node_executor import Bench

from consensus.ledger.messages import Transfer, encode_transaction, sign_transaction
from consensus.ledger.records import GenesisAccount
from gensyn_node.primitives.errors import Rejection


def test_a_balance_backs_no_more_fees_than_it_can_pay(tmp_path: Path) -> None:
    async def scenario() -> None:
        poor = key("poor", 1)
        cluster = make_cluster(tmp_path, 1, accounts=(GenesisAccount(poor.address, 3 * FEE_NANO),))
        bench = Bench(cluster.settings[0])

        def transfer(nonce: int, fee: int = FEE_NANO) -> bytes:
            message = Transfer(b"\2" * 20, 1)
            return encode_transaction(sign_transaction(poor, cluster.genesis.chain_id, nonce, fee, message))

        for nonce in range(3):
            bench.pool.add(transfer(nonce))
        for data in (transfer(3), transfer(9), transfer(1, 2 * FEE_NANO)):
            with pytest.raises(Rejection) as caught:
                bench.pool.add(data)
            assert caught.value.reason.name == "insufficient_funds"
        assert len(bench.pool) == 3

    run(scenario)
