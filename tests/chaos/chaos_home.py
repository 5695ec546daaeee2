"""A lone validator's home and its production parts without a network: enough to commit blocks and sign for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import trio

from consensus.ledger import keys
from consensus.ledger.messages import Transfer, encode_transaction, sign_transaction
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.records import Account, Genesis, GenesisAccount, GenesisValidator
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.types import (
    ConsensusMessage,
    FullProposal,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from gensyn_node.app.chain import CommittedBlock
from gensyn_node.app.driver import Driver
from gensyn_node.app.executor import Executor, Pace
from gensyn_node.app.pool import Pool
from gensyn_node.app.settings import NodeSettings, load_settings
from gensyn_node.app.startup import Opened, init_storage, open_home
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import NodeConfig, NodeSection
from gensyn_node.config.template import render_config
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.primitives import codec
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.storage.chain_store import ChainStore
from gensyn_node.storage.files import replace_file
from gensyn_node.storage.signer import SignStep

CHAIN_ID = "devnet-chaos"
GENESIS_TIME_MS = 1_700_000_000_000
FEE_NANO = 100_000
TARGET = b"\x42" * 20
Place = tuple[int, int, int]
"""Height, round, step of something signed."""


def key(name: str) -> SecretKey:
    """A fixed key."""
    return SecretKey(sha256(b"chaos " + name.encode()).digest())


def make_home(path: Path) -> None:
    """What `node init` writes, for a chain with one validator."""
    genesis = Genesis(
        CHAIN_ID,
        GENESIS_TIME_MS,
        (GenesisValidator(key(CONSENSUS).public, key(ACCOUNT).address, 100 * NANO_PER_GSN, "lone"),),
        (GenesisAccount(key(ACCOUNT).address, 1_000_000 * NANO_PER_GSN),),
        devnet_parameters(),
    )
    home = Home(path)
    home.make()
    for name in (ACCOUNT, CONSENSUS, P2P):
        Keyring(home.keys).add(name, key(name), None)
    init_storage(home, genesis, key(CONSENSUS))
    replace_file(home.config, render_config(NodeConfig(node=NodeSection(role="none"))).encode())


def signed_thing(message: ConsensusMessage) -> tuple[Place, bytes] | None:
    """Where our signature stands in a message that leaves, and over what."""
    match message:
        case Vote(kind, height, round_):
            step = SignStep.PREVOTE if kind is VoteType.PREVOTE else SignStep.PRECOMMIT
            return (height, round_, int(step)), vote_sign_bytes(CHAIN_ID, message)
        case FullProposal(proposal, _):
            place = (proposal.height, proposal.round, int(SignStep.PROPOSAL))
            return place, proposal_sign_bytes(CHAIN_ID, proposal)
    return None


class Validator:
    """The node's own chain, log, signer, executor and driver on one home."""

    def __init__(
        self,
        settings: NodeSettings,
        opened: Opened,
        *,
        sent: Callable[[ConsensusMessage], None],
        committed: Callable[[CommittedBlock], None],
    ) -> None:
        self.opened = opened
        self.chain = opened.chain
        self.pool = Pool(opened.chain)
        self._clock_ms = opened.chain.state.time_ms
        executor = Executor(
            chain=opened.chain,
            pool=self.pool,
            key=settings.consensus_key,
            pace=Pace(idle_ms=1, busy_ms=0),
            clock_ms=self._tick,
            on_commit=committed,
        )
        self.driver = Driver(
            chain_id=CHAIN_ID,
            core=ConsensusCore(CHAIN_ID, ConsensusParameters(), settings.consensus_key.address),
            ledger=executor,
            wal=opened.wal,
            signer=opened.signer,
            broadcast=sent,
            clock_ms=self._tick,
        )

    def _tick(self) -> int:
        """Time that passes by being looked at: the same blocks each time."""
        self._clock_ms = max(self._clock_ms, self.chain.state.time_ms) + 5
        return self._clock_ms

    def pay(self, count: int) -> None:
        """Put transfers into the pool."""
        sender = key(ACCOUNT)
        first = self.pool.next_nonce(sender.address)
        for nonce in range(first, first + count):
            transfer = sign_transaction(sender, CHAIN_ID, nonce, FEE_NANO, Transfer(target_of(nonce), 1_000_000))
            self.pool.add(encode_transaction(transfer))

    async def run_to(self, height: int, within_s: float = 60.0) -> None:
        """Work until the head is there; `trio.TooSlowError` when it does not come."""
        with trio.fail_after(within_s):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.driver.run, self.opened.records)
                await self.driver.wait_height_after(height)
                nursery.cancel_scope.cancel()


def target_of(nonce: int) -> bytes:
    """Who gets the transfer with this nonce: ever new accounts, so that the ledger grows."""
    return sha256(nonce.to_bytes(8, "big")).digest()[:20]


@contextmanager
def opened_home(path: Path) -> Iterator[tuple[NodeSettings, Opened]]:
    """The production start-up of a home; `Rejection` as it says."""
    settings = load_settings(Home(path))
    opened = open_home(settings)
    try:
        yield settings, opened
    finally:
        opened.wal.close()
        opened.chain.close()


def store_digest(store: ChainStore) -> str:
    """Names everything in the database, key by key, read in both ways; `Rejection` when a read meets damage."""
    hashed = sha256()
    for name, value in store_items(store):
        hashed.update(len(name).to_bytes(4, "big") + name + len(value).to_bytes(4, "big") + value)
    return hashed.hexdigest()


def store_items(store: ChainStore) -> list[tuple[bytes, bytes]]:
    """All keys and values."""
    return list(store.database.items(b""))


def balance(opened: Opened, address: bytes) -> int:
    """Spendable money of an account at the head."""
    data = opened.chain.view().get(keys.account(address))
    account: Account = Account() if data is None else codec.decode(Account, data)
    return account.balance_nano
