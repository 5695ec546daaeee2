"""Evidence of this node: judged by its own chain, kept over restarts, offered to the next block it builds.

Nothing that comes with evidence is believed but its signatures: sets, headers, ages and who is punished already are
read from the chain and its ledger, the same on every node at the same head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import structlog
from msgspec import Meta, structs

from consensus.ledger import queries
from consensus.tendermint.evidence import (
    PENDING_MAX,
    EvidencePool,
    check_place,
    evidence_height,
    offenders,
    verify_evidence,
)
from consensus.tendermint.light_attack import check_sealed, double_votes, is_lunatic, lunatic_offenders
from consensus.tendermint.reasons import BAD_EVIDENCE, EVIDENCE_OUT_OF_REACH
from consensus.tendermint.types import (
    Block,
    DuplicateVoteEvidence,
    Evidence,
    Header,
    LightClientAttackEvidence,
    ValidatorSet,
)
from gensyn_node.app.chain import Chain
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.files import replace_file

FILE_BYTES_MAX = 32 * limits.MIB

log = structlog.get_logger()


class EvidenceFile(Struct):
    """What waits for a block when a node stops."""

    pending: Annotated[tuple[Evidence, ...], Meta(max_length=PENDING_MAX)]


class EvidenceKeeper:
    """The pool of one node. Implements `ChainRecords`."""

    def __init__(self, chain: Chain, path: Path | None = None) -> None:
        """`path`: where pending evidence is kept; None keeps it in memory only."""
        self._chain = chain
        self._path = path
        self._pool = EvidencePool()
        self._pool.commit(chain.committed_evidence(), forget_below=0)
        self._load()

    # --- in

    def add(self, evidence: Evidence) -> Evidence | None:
        """Keep evidence for our next block; as it was kept, None when it is no news.

        `Rejection` BAD_EVIDENCE when it proves nothing, EVIDENCE_OUT_OF_REACH when this node cannot tell or need not.
        """
        judged = self.judge(evidence)
        if not self._pool.add(judged):
            return None
        log.warning(
            "evidence_kept",
            kind=type(judged).__name__,
            height=evidence_height(judged),
            validators=[name.hex() for name in offenders(judged)],
        )
        self._save()
        return judged

    def judge(self, evidence: Evidence) -> Evidence:
        """What of the evidence can be punished now. `Rejection` as for `add`."""
        check_place(evidence)
        validators = self.validators(evidence)
        if validators is None:
            raise Rejection(EVIDENCE_OUT_OF_REACH, "the offence is too old, of a height to come, or punished")
        if isinstance(evidence, DuplicateVoteEvidence):
            verify_evidence(self._chain.chain_id, validators, evidence)
            return evidence
        found = lunatic_offenders(self._chain.chain_id, validators, self, evidence)
        if not found:
            raise Rejection(EVIDENCE_OUT_OF_REACH, "whom it accuses is punished")
        return structs.replace(evidence, byzantine=found)

    def add_attack(self, attack: LightClientAttackEvidence) -> tuple[Evidence, ...]:
        """Keep what a header that somebody was shown proves; what of it is news.

        A header that the chain could have had proves double votes when it was signed in the true one's round. Signed in
        another round it proves nothing against anybody (amnesia): refused with BAD_EVIDENCE.
        """
        check_place(attack)
        true = self._chain.header(attack.header.height)
        if true is None:
            raise Rejection(EVIDENCE_OUT_OF_REACH, f"there is no header {attack.header.height} here")
        if true.id == attack.header.id:
            raise Rejection(BAD_EVIDENCE, "the header is the chain's own")
        found: tuple[Evidence, ...] = (attack,)
        if not is_lunatic(true, attack.header):
            check_sealed(self._chain.chain_id, attack.header, attack.commit, attack.validators)
            validators, commit = self._chain.validators(true.height), self._chain.commit(true.height)
            if validators is None or commit is None:
                raise Rejection(EVIDENCE_OUT_OF_REACH, f"there is no commit {true.height} here")
            found = double_votes(validators, commit, attack.header, attack.commit)
        if not found:
            raise Rejection(
                BAD_EVIDENCE, f"signed in round {attack.commit.round}: without the logs of all nobody can be blamed"
            )
        return tuple(kept for item in found if (kept := self.add(item)) is not None)

    # --- out

    def pending(self) -> tuple[Evidence, ...]:
        """What the next block should carry. Votes of the height in progress wait until that height is over."""
        head = self._chain.head.height
        return tuple(item for item in self._pool.pending(self.is_punishable) if evidence_height(item) <= head)

    def all(self) -> tuple[Evidence, ...]:
        """Everything that waits for a block, for peers that ask."""
        return self._pool.all()

    def after_block(self, block: Block) -> None:
        """The chain is already at the new head: drop what was punished and what has expired."""
        before = self._pool.all()
        self._pool.commit(block.evidence, forget_below=self.oldest())
        self._pool.drop_punished(self.is_punishable)
        if self._pool.all() != before:
            self._save()

    # --- what evidence in blocks is judged by

    @property
    def pool(self) -> EvidencePool:
        """For `validate_block`."""
        return self._pool

    def validators(self, evidence: Evidence) -> ValidatorSet | None:
        """The set that answers for the offence; None when it is too old, to come, or punished."""
        height = evidence_height(evidence)
        if not self.oldest() <= height <= self._chain.head.height + 1:
            return None
        if isinstance(evidence, DuplicateVoteEvidence) and not self.is_punishable(evidence.first.validator, height):
            # A validator that is punished could sign double votes for ever, and fill all blocks with them for nothing.
            return None
        return self._chain.validators(height)

    def oldest(self) -> int:
        """Offences below this height have expired, for every node that looks at the block after this head."""
        return queries.oldest_evidence(self._chain.view(), self._chain.head.height + 1)

    def header(self, height: int) -> Header | None:
        """See `ChainRecords`."""
        return self._chain.header(height)

    def is_punishable(self, validator: bytes, height: int) -> bool:
        """See `ChainRecords`."""
        return queries.is_punishable(self._chain.view(), validator, height)

    # --- on disk

    def _load(self) -> None:
        if self._path is None or not self._path.exists():
            return
        try:
            stored: EvidenceFile = codec.decode(EvidenceFile, self._path.read_bytes(), max_bytes=FILE_BYTES_MAX)
        except Rejection as rejection:
            # Other nodes have it too, and what this one saw comes again; the file is replaced with the next evidence.
            log.error("evidence_file_unreadable", path=str(self._path), why=str(rejection))
            return
        for item in stored.pending:
            try:
                self._pool.add(self.judge(item))
            except Rejection as rejection:
                log.info("evidence_dropped", why=str(rejection))

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            replace_file(self._path, codec.encode(EvidenceFile(self._pool.all())))
        except OSError as error:  # a full disk; the pool in memory goes on, and other nodes have it too
            log.error("evidence_not_saved", path=str(self._path), why=str(error))
