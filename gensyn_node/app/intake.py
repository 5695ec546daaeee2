"""From peers to the driver: everything is decoded, bounded and its signatures checked before the core hears of it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeAlias

import structlog
import trio

from consensus.ledger.messages import transaction_id
from consensus.ledger.reasons import WRONG_CHAIN
from consensus.mempool import KNOWN
from consensus.tendermint.block import check_roots
from consensus.tendermint.inputs import Input, VerifiedProposal
from consensus.tendermint.proposer import ProposerSchedule
from consensus.tendermint.types import Block, Certificate, ConsensusMessage, FullProposal, ValidatorSet, Vote
from consensus.tendermint.verify import verify_certificate, verify_proposal, verify_vote
from gensyn_node.app import wire
from gensyn_node.app.chain import Chain
from gensyn_node.app.doppelganger import Watch
from gensyn_node.app.driver import Driver
from gensyn_node.app.pool import Pool
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.reasons import BAD_SIGNATURE, MALFORMED, NOT_CANONICAL, TOO_LARGE
from p2p.api import Gossip, GossipMessage, Peers, RequestFailed, RequestRefused, Requests
from p2p.bulk import let_others_work
from p2p.reasons import OUT_OF_SEASON

RECENT_BLOCKS_MAX = 8
"""Proposed blocks whose transactions are kept for peers that lack them."""
NEVER_PASSED_ON = frozenset({MALFORMED, NOT_CANONICAL, TOO_LARGE, BAD_SIGNATURE, WRONG_CHAIN})
"""What is wrong with a transaction wherever the chain is: nobody who checks passes it on."""
CHECKED_AT_ONCE = 8
"""Transactions checked before votes and blocks get their turn: about a millisecond."""
REQUEST_TIMEOUT_S = 4.0
FETCH_TIMEOUT_S = 8.0
"""For all requests of one proposal."""
WAITING_PROPOSALS_MAX = 8
"""Proposals whose transactions are being fetched at a time; more are left to catch-up."""
WAITING_PER_PEER_MAX = 2
"""Of these from one peer: it could alter the list of transactions under a signed header as often as it likes."""

CHECKED_BUNDLES_MAX = 256
"""Vote bundles checked and not yet taken."""
CHECKED_MESSAGES_MAX = 2_048
"""Votes and certificates whose signatures are not checked again: anybody can send what others signed, at any pace."""

Take: TypeAlias = Callable[[GossipMessage, trio.Nursery], Awaitable[None]]
"""What is done with a message; slow parts go into the nursery."""

log = structlog.get_logger()


class Intake:
    """Receives gossip and catch-up answers."""

    def __init__(
        self,
        *,
        chain: Chain,
        driver: Driver,
        pool: Pool,
        requests: Requests,
        peers: Peers,
        clock_ms: Callable[[], int],
        watch: Watch | None = None,
    ) -> None:
        self._chain = chain
        self._driver = driver
        self._pool = pool
        self._requests = requests
        self._peers = peers
        self._clock_ms = clock_ms
        self._watch = watch
        self._recent: OrderedDict[bytes, dict[bytes, bytes]] = OrderedDict()
        self._schedule: tuple[int, ProposerSchedule] | None = None
        self._fetching: Counter[str] = Counter()
        self._checked_votes: OrderedDict[bytes, list[Input]] = OrderedDict()
        self._checked: OrderedDict[ConsensusMessage, Input] = OrderedDict()

    # --- gossip

    async def run(self, gossip: Gossip | None) -> None:
        """Take in gossip until cancelled."""
        if gossip is None:
            return
        async with trio.open_nursery() as nursery:
            votes = await gossip.subscribe(wire.TOPIC_VOTES, self._check_votes, per_second=200.0)
            proposals = await gossip.subscribe(wire.TOPIC_PROPOSALS, self._check_compact, per_second=20.0)
            await gossip.subscribe_bulk(wire.TOPIC_TRANSACTIONS, self._take_transactions, per_second=100.0)
            nursery.start_soon(self._read, votes, self._take_votes, nursery)
            nursery.start_soon(self._read, proposals, self._take_compact, nursery)

    async def _read(self, channel: trio.MemoryReceiveChannel[GossipMessage], take: Take, nursery: trio.Nursery) -> None:
        async for message in channel:
            try:
                await take(message, nursery)
            except Rejection as rejection:
                # It passed the check on arrival; the head has moved since, and the neighbour is not to blame.
                log.debug("gossip_outdated", topic=message.topic, why=str(rejection))

    def _check_votes(self, sender: str, data: bytes) -> None:
        """Signatures are checked before a bundle is passed on, so that a forger is blamed and not who forwards."""
        bundle: wire.VoteBundle = codec.decode(wire.VoteBundle, data)
        verified = self.verify(bundle.votes)
        if len(verified) < len(bundle.votes):
            # Passed on unchecked, a forgery would be blamed on us by neighbours whose heads differ from ours.
            raise Rejection(OUT_OF_SEASON, f"votes of other heights than those around {self._chain.head.height}")
        self._checked_votes[data] = verified
        while len(self._checked_votes) > CHECKED_BUNDLES_MAX:
            self._checked_votes.popitem(last=False)

    async def _take_votes(self, message: GossipMessage, nursery: trio.Nursery) -> None:
        verified = self._checked_votes.pop(message.data, None)
        if verified is None:
            bundle: wire.VoteBundle = codec.decode(wire.VoteBundle, message.data)
            verified = self.verify(bundle.votes)
        for item in verified:
            await self._driver.offer(item)

    async def _take_transactions(self, sender: str, data: bytes) -> None:
        """Takes what is new, and passes the batch on only if something was.

        Every transaction is checked here, before it is passed on, its signature once in its life: whoever sends a
        forged one has not checked it and is blamed. What the ledger refuses is nobody's fault, since heads differ.
        """
        batch: wire.TransactionBatch = codec.decode(wire.TransactionBatch, data)
        taken, refused = 0, []
        for number, encoded in enumerate(batch.transactions):
            if number % CHECKED_AT_ONCE == 0:
                await self._pool.admission.wait_open()
                await let_others_work()
            try:
                self._pool.add(encoded)
                taken += 1
            except Rejection as rejection:
                if rejection.reason in NEVER_PASSED_ON:
                    raise
                log.debug("transaction_refused", why=str(rejection))
                if rejection.reason != KNOWN:
                    refused.append(encoded)
        if not taken:
            raise Rejection(OUT_OF_SEASON, "no transaction of the batch is new and possible here")
        for number, encoded in enumerate(refused):
            if number % CHECKED_AT_ONCE == 0:
                await let_others_work()
            # Passed on with the others, to neighbours with another head, who would blame a forgery on us.
            self._pool.check_signature(encoded)

    def _check_compact(self, sender: str, data: bytes) -> None:
        compact: wire.CompactProposal = codec.decode(wire.CompactProposal, data)
        if self._watch is not None:
            self._watch.see_proposal(compact.proposal)
        schedule = self._schedule_of(compact.proposal.height)
        if schedule is None:
            raise Rejection(OUT_OF_SEASON, f"a proposal of height {compact.proposal.height}")
        without_transactions = Block(compact.header, (), None, ())
        verify_proposal(self._chain.chain_id, schedule, compact.proposal, without_transactions, 0)

    async def _take_compact(self, message: GossipMessage, nursery: trio.Nursery) -> None:
        proposal: wire.CompactProposal = codec.decode(wire.CompactProposal, message.data)
        if self._schedule_of(proposal.proposal.height) is None:
            return
        received_ms = self._clock_ms()
        have = self._known(proposal.transaction_ids)
        if len(have) == len(set(proposal.transaction_ids)):
            await self._take_full(_filled(proposal, have), received_ms)
        elif self._fetching[message.sender] < WAITING_PER_PEER_MAX and self._fetching.total() < WAITING_PROPOSALS_MAX:
            self._fetching[message.sender] += 1
            nursery.start_soon(self._fetch_and_take, message.sender, proposal, have, received_ms)

    async def _fetch_and_take(
        self, sender: str, proposal: wire.CompactProposal, have: dict[bytes, bytes], received_ms: int
    ) -> None:
        missing = [name for name in dict.fromkeys(proposal.transaction_ids) if name not in have]
        try:
            # Whoever answers with one transaction at a time would keep the place for hours.
            with trio.move_on_after(FETCH_TIMEOUT_S):
                have |= await self._fetch_transactions(sender, missing)
        except Rejection as rejection:
            await self._peers.report(sender, rejection)
        except (RequestFailed, RequestRefused) as error:
            log.info("proposal_incomplete", peer=sender, missing=len(missing), why=str(error))
        finally:
            self._fetching -= Counter((sender,))
        if have.keys() >= set(proposal.transaction_ids):
            try:
                await self._take_full(_filled(proposal, have), received_ms)
            except Rejection as rejection:
                # Who forwards a proposal cannot check its body before it has the transactions: it is not to blame.
                log.info("proposal_body_wrong", peer=sender, why=str(rejection))

    async def _fetch_transactions(self, peer: str, ids: list[bytes]) -> dict[bytes, bytes]:
        """Ask for transactions, in several requests when they do not fit into one reply."""
        found: dict[bytes, bytes] = {}
        wanted = set(ids)
        while ids:
            query = wire.TransactionsQuery(tuple(ids))
            data = await self._requests.request(
                peer, wire.METHOD_TRANSACTIONS, codec.encode(query), timeout_s=REQUEST_TIMEOUT_S
            )
            reply: wire.TransactionsReply = codec.decode(wire.TransactionsReply, data)
            came = {transaction_id(transaction): transaction for transaction in reply.transactions}
            if not (came.keys() & wanted) - found.keys():
                break
            found |= {name: transaction for name, transaction in came.items() if name in wanted}
            ids = [name for name in ids if name not in found]
        return found

    # --- signed messages, from gossip or from an answer

    async def take_messages(self, messages: Iterable[ConsensusMessage]) -> None:
        """Check an answer's messages and hand them on. Raises `Rejection` when one of them is forged."""
        for item in self.verify(messages):
            await self._driver.offer(item)

    def verify(self, messages: Iterable[ConsensusMessage]) -> list[Input]:
        """The messages as checked inputs, without those of heights that do not matter now. `Rejection` if forged."""
        chain_id = self._chain.chain_id
        verified: list[Input] = []
        for message in messages:
            self._look_for_twin(message)
            match message:
                case Vote():
                    validators = self._set_of(message.height)
                    if validators is not None:
                        verified.append(self._once(message, partial(verify_vote, chain_id, validators, message)))
                case Certificate():
                    validators = self._set_of(message.height)
                    if validators is not None:
                        check = partial(verify_certificate, chain_id, validators, message)
                        verified.append(self._once(message, check))
                case FullProposal(proposal, _):
                    schedule = self._schedule_of(proposal.height)
                    if schedule is not None:
                        verified.append(self._verify_full(schedule, message, self._clock_ms()))
        return verified

    def _look_for_twin(self, message: ConsensusMessage) -> None:
        """A signature of our own key that we did not give matters at any height."""
        if self._watch is None:
            return
        match message:
            case Vote():
                self._watch.see_vote(message)
            case FullProposal(proposal, _):
                self._watch.see_proposal(proposal)
            case Certificate() if (validators := self._set_of(message.height)) is not None:
                self._watch.see_certificate(message, validators)

    def _once(self, message: ConsensusMessage, check: Callable[[], Input]) -> Input:
        """The outcome of an earlier check of the very same message, or of this one."""
        known = self._checked.get(message)
        if known is None:
            known = self._checked[message] = check()
            while len(self._checked) > CHECKED_MESSAGES_MAX:
                self._checked.popitem(last=False)
        return known

    async def _take_full(self, full: FullProposal, received_ms: int) -> None:
        schedule = self._schedule_of(full.proposal.height)
        if schedule is not None:
            await self._driver.offer(self._verify_full(schedule, full, received_ms))

    def _verify_full(self, schedule: ProposerSchedule, full: FullProposal, received_ms: int) -> VerifiedProposal:
        """The signature covers the header alone, and who passes a proposal on could put another body under it.

        Such a block would take the place of the true one in the core, so the body is checked against the header here.
        """
        verified = verify_proposal(self._chain.chain_id, schedule, full.proposal, full.block, received_ms)
        check_roots(full.block)
        self.remember(full.block)
        return verified

    def _set_of(self, height: int) -> ValidatorSet | None:
        """The set of a height that matters now: the last, the one in progress, or the next."""
        state, head = self._chain.state, self._chain.head.height
        return {head: state.last_validators, head + 1: state.validators, head + 2: state.next_validators}.get(height)

    def _schedule_of(self, height: int) -> ProposerSchedule | None:
        validators = self._set_of(height)
        if validators is None:
            return None
        if self._schedule is None or self._schedule[0] != height or self._schedule[1].validators is not validators:
            self._schedule = (height, ProposerSchedule(validators))
        return self._schedule[1]

    # --- transactions of proposals

    def remember(self, block: Block) -> None:
        """Keep a proposed block's transactions for peers that will ask for them."""
        if block.id not in self._recent:
            self._recent[block.id] = {transaction_id(data): data for data in block.transactions}
            while len(self._recent) > RECENT_BLOCKS_MAX:
                self._recent.popitem(last=False)

    def _known(self, ids: Iterable[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for name in ids:
            data = self._pool.get(name)
            for transactions in () if data is not None else self._recent.values():
                data = transactions.get(name, data)
            if data is not None:
                found[name] = data
        return found

    async def serve_transactions(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_TRANSACTIONS`."""
        query: wire.TransactionsQuery = codec.decode(wire.TransactionsQuery, request)
        await trio.lowlevel.checkpoint()
        reply: list[bytes] = []
        size = 0
        for data in self._known(query.ids).values():
            size += len(data) + 8
            if size > wire.REPLY_BYTES_MAX:
                break
            reply.append(data)
        return codec.encode(wire.TransactionsReply(tuple(reply)))


def _filled(compact: wire.CompactProposal, transactions: dict[bytes, bytes]) -> FullProposal:
    block = Block(
        compact.header,
        tuple(transactions[name] for name in compact.transaction_ids),
        compact.last_commit,
        compact.evidence,
    )
    return FullProposal(compact.proposal, block)
