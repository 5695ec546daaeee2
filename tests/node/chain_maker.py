"""Grows a real chain in one process: blocks built, signed by the cluster's keys, executed and stored like any other."""

from __future__ import annotations

from collections.abc import Sequence

from node_cluster import FEE_NANO, Cluster, key, transfer

from consensus import beacon
from consensus.ledger import keys
from consensus.ledger.messages import Bond, encode_transaction, sign_transaction, transaction_id
from consensus.ledger.records import Account
from consensus.tendermint.block import build_block
from consensus.tendermint.types import Block, Commit, CommitFlag, CommitSlot, Evidence, Vote, VoteType, vote_sign_bytes
from gensyn_node.app.chain import Chain
from gensyn_node.app.executor import execute
from gensyn_node.app.node import wall_clock_ms
from gensyn_node.app.settings import CHAIN_FOLDER, NodeSettings
from gensyn_node.primitives import codec
from gensyn_node.primitives.crypto import SecretKey


class ChainMaker:
    """One home's chain, and the keys of all validators of its cluster."""

    def __init__(self, cluster: Cluster, number: int = 0) -> None:
        self.cluster = cluster
        self.settings: NodeSettings = cluster.settings[number]
        self.chain = Chain.open(self.settings.home.data / CHAIN_FOLDER, self.settings.genesis)
        self._keys = {settings.consensus_key.address: settings.consensus_key for settings in cluster.settings}
        self._nonces: dict[int, tuple[int, int]] = {}

    def seal(self, block: Block) -> Commit:
        """Everybody's precommits."""
        height, slots = block.header.height, []
        for member in self.chain.state.validators.validators:
            vote = Vote(VoteType.PRECOMMIT, height, 0, block.id, member.address)
            signature = self._keys[member.address].sign(vote_sign_bytes(self.chain.chain_id, vote))
            slots.append(CommitSlot(CommitFlag.COMMIT, signature))
        return Commit(height, 0, block.id, tuple(slots))

    def build(self, transactions: Sequence[bytes] = (), evidence: tuple[Evidence, ...] = ()) -> Block:
        """The next block, of the validator whose turn it is."""
        tip = self.chain.tip()
        proposer: SecretKey = self._keys[tip.validators.proposer]
        return build_block(
            tip,
            proposer=proposer.address,
            time_ms=wall_clock_ms(),
            transactions=tuple(transactions),
            last_commit=self.chain.commit(tip.height - 1),
            evidence=evidence,
            beacon_proof=beacon.prove(proposer.seed, beacon.beacon_input(tip.chain_id, tip.height, tip.beacon)),
        )

    def adopt(self, block: Block, commit: Commit) -> None:
        """Make a block the head."""
        self.chain.append(
            execute(self.chain, block), commit, tuple(transaction_id(data) for data in block.transactions)
        )

    def add(self, transactions: Sequence[bytes] = (), evidence: tuple[Evidence, ...] = ()) -> tuple[Block, Commit]:
        """One more block."""
        block = self.build(transactions, evidence)
        commit = self.seal(block)
        self.adopt(block, commit)
        return block, commit

    def transfer(self, sender: int, to: bytes, amount_nano: int = 1_000) -> bytes:
        """The sender's next transfer."""
        return transfer(self.cluster, sender, self._next(sender), amount_nano, to)

    def bond(self, number: int, amount_nano: int) -> bytes:
        """More stake behind validator `number`: the validator set changes two heights later."""
        signed = sign_transaction(
            key("account", number),
            self.chain.chain_id,
            self._next(number),
            2 * FEE_NANO,
            Bond(self.cluster.settings[number].consensus_key.public, amount_nano, b""),
        )
        return encode_transaction(signed)

    def grow(self, blocks: int, *, transfers: int = 2) -> None:
        """Blocks with transfers to ever new accounts and back and forth, some with a change of the validator set."""
        for _ in range(blocks):
            self.grow_one(transfers=transfers)

    def grow_one(self, *, transfers: int = 2) -> tuple[Block, Commit]:
        """One such block."""
        validators, height = len(self.cluster.genesis.validators), self.chain.head.height + 1
        sent = []
        for n in range(transfers):
            account = bytes([n]) * 12 + (height // 2 * (height % 3 > 0)).to_bytes(8, "big")
            sent.append(self.transfer((height + n) % validators, account))
        if height % 5 == 3:
            sent.append(self.bond(height % validators, (1 + height % 7) * 10**9))
        return self.add(sent)

    def _next(self, number: int) -> int:
        """The nonce that the ledger expects, or the one after our last in the block being made."""
        data = self.chain.view().get(keys.account(key("account", number).address))
        account: Account = Account() if data is None else codec.decode(Account, data)
        height, nonce = self._nonces.get(number, (0, 0))
        nonce = nonce + 1 if height == self.chain.head.height and nonce >= account.nonce else account.nonce
        self._nonces[number] = (self.chain.head.height, nonce)
        return nonce


def dump(chain: Chain) -> dict[bytes, bytes]:
    """Everything in the store, tree nodes without the height of their last writing."""
    return {key: value[8:] if key[:1] == b"n" else value for key, value in chain.store.database.items(b"")}
