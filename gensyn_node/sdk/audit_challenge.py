"""Filing what an audit found: bond, announce, show, and play the dispute to its end. Interrupted, it resumes.

What was announced is on disk before it is sent: lost, it would cost the bond of an honest finder.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from consensus.ledger import keys, queries
from consensus.ledger.duties import in_turn, segment_work
from consensus.ledger.messages import (
    ROLE_WHISTLEBLOWER,
    Challenge,
    DisputeMove,
    EvidenceChallenge,
    InitialChallenge,
    OpenChallengeCommit,
    OpenChallengeReveal,
    RegisterProvider,
    SegmentChallenge,
    UpdateProvider,
    challenge_commitment,
)
from consensus.ledger.records import (
    DISPUTE_OPEN,
    INSTALMENT_CLOSING,
    INSTALMENT_WINDOW,
    OUTCOME_FORCED,
    DisputeRecord,
    PendingChallenge,
    Provider,
)
from consensus.ledger.schedule import verifier_bond
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import format_amount
from gensyn_node.sdk import blobs, reasons, transactions
from gensyn_node.sdk.audit import EVIDENCE_DIFFERS, INITIAL_DIFFERS, Asks, Audit, Finding
from gensyn_node.sdk.client import NodeClient
from gensyn_node.storage.files import replace_file

POLL_S = 0.5
Tell = Callable[[str], None]


class Filed(Struct):
    """A challenge as it was announced."""

    instalment: int
    challenge: Challenge
    salt: bytes


def challenge_of(finding: Finding) -> Challenge:
    """What is claimed against the finding's culprit."""
    number, attempt = finding.instalment, finding.attempt
    if finding.result == INITIAL_DIFFERS:
        return InitialChallenge(attempt, finding.own_root)
    if finding.result == EVIDENCE_DIFFERS:
        return EvidenceChallenge(number, attempt, finding.segment, finding.verifier, finding.own_root)
    return SegmentChallenge(number, attempt, finding.segment, finding.own_root)


class Filing:
    """One challenge of one account, from its announcement to the ruling."""

    def __init__(self, client: NodeClient, key: SecretKey, audit: Audit, tell: Tell) -> None:
        self._client = client
        self._key = key
        self._audit = audit
        self._tell = tell
        self._task_id = audit.task.task_id
        self.forced_error = False
        """What was found was planted there: no dispute comes of it; the first finder wins of what approvers lose."""

    # --- the bond

    def bond_missing(self) -> tuple[int, Provider | None]:
        """(nano of free bond that the account lacks for a challenge, its record as a provider)."""
        parameters = queries.parameters(self._audit.reader)
        need = verifier_bond(self._audit.task.solver_bond_nano, parameters)
        provider = queries.provider(self._audit.reader, self._key.address)
        if provider is None:
            return max(need, parameters.provider_bond_min_nano), None
        return max(0, need - provider.free_nano), provider

    def require_bond(self) -> None:
        """Raises Rejection NOT_BONDED with the amount and what to do."""
        missing, provider = self.bond_missing()
        if missing:
            who = "the account has no bond" if provider is None else "the account's free bond is too small"
            raise Rejection(reasons.NOT_BONDED, f"{who}: {format_amount(missing)} more are needed to challenge")

    def bond(self) -> int:
        """Put up what is missing: register as a whistleblower that is drawn for nothing, or add to the bond."""
        missing, provider = self.bond_missing()
        if not missing:
            return 0
        parameters = queries.parameters(self._audit.reader)
        if provider is None:
            message: RegisterProvider | UpdateProvider = RegisterProvider(
                ROLE_WHISTLEBLOWER, "cpu", 0, parameters.ask_min_nano, missing, (), "auditor"
            )
        else:
            message = UpdateProvider(
                provider.roles,
                provider.device_class,
                provider.memory_bytes,
                provider.ask_price_nano,
                missing,
                provider.endpoints,
                provider.name,
            )
        transactions.send(self._client, self._key, message)
        self._audit.reader.forget()
        return missing

    # --- announce and show

    def announce(self, finding: Finding) -> Path:
        """Write the challenge down, then commit to it; the file."""
        filed = Filed(finding.instalment, challenge_of(finding), secrets.token_bytes(32))
        path = self._audit.folder / f"challenge-{self._key.address.hex()}"
        replace_file(path, encode(filed))
        self._commit(filed)
        return path

    def resume(self, worker: Asks, threads: int) -> DisputeRecord | None:
        """Go on with what was announced before, to its end; None when nothing was, or it came to nothing."""
        path = self._audit.folder / f"challenge-{self._key.address.hex()}"
        if not path.exists():
            return None
        filed: Filed = decode(Filed, path.read_bytes())
        if self._dispute(filed) is None:
            if not self._pending(filed):
                self._commit(filed)
            if not self._show(filed):
                path.unlink()
                return None
        ruling = self._play(filed, worker, threads)
        path.unlink()
        return ruling

    def _commit(self, filed: Filed) -> None:
        commitment = challenge_commitment(self._key.address, self._task_id, filed.challenge, filed.salt)
        transactions.send(self._client, self._key, OpenChallengeCommit(self._task_id, filed.instalment, commitment))
        self._tell("announced; it is shown once the verdicts are in, so that nobody can take the find")
        self._audit.reader.forget()

    def _pending(self, filed: Filed) -> bool:
        self._audit.reader.forget()
        key = keys.challenge(self._task_id, filed.instalment, self._key.address)
        return State(self._audit.reader).find(key, PendingChallenge) is not None

    def _show(self, filed: Filed) -> bool:
        """Wait until it may be shown, then reveal; whether a dispute came of it.

        None comes when the instalment fell meanwhile, or was shown with a forced error: the finder's bond is free then.
        """
        waiting = ""
        while self._pending(filed):
            instalment = State(self._audit.reader).instalment(self._task_id, filed.instalment)
            if instalment.state in (INSTALMENT_WINDOW, INSTALMENT_CLOSING) and not instalment.secret_pending:
                transactions.send(
                    self._client, self._key, OpenChallengeReveal(self._task_id, filed.challenge, filed.salt)
                )
                self._audit.reader.forget()
                self._tell("shown")
                break
            if instalment.state != waiting:
                waiting = instalment.state
                self._tell(f"waiting: the instalment is {waiting} until block {instalment.due_height} at most")
            time.sleep(POLL_S)
        self._audit.reader.forget()
        instalment = State(self._audit.reader).instalment(self._task_id, filed.instalment)
        found = filed.challenge.segment if isinstance(filed.challenge, SegmentChallenge) else None
        self.forced_error = instalment.outcome == OUTCOME_FORCED and found == instalment.forced_segment
        return self._dispute(filed) is not None

    # --- the game

    def _dispute(self, filed: Filed) -> DisputeRecord | None:
        """The dispute that this challenge opened or joined."""
        self._audit.reader.forget()
        number, attempt = filed.instalment, filed.challenge.attempt
        task = queries.task(self._audit.reader, self._task_id)
        for dispute_id in task.disputes if task else ():
            found = queries.dispute(self._audit.reader, dispute_id)
            if found is not None and (found.instalment, found.attempt) == (number, attempt):
                mine = any(one.address == self._key.address for one in found.challengers)
                if mine and found.challenger_root == _claimed(filed.challenge):
                    return found
        return None

    def _play(self, filed: Filed, worker: Asks, threads: int) -> DisputeRecord | None:
        """Make every move that is ours until there is a ruling."""
        from ml.worker.messages import Respond, Responded, state_path

        job, states = self._audit.job(threads), self._audit.folder / "dispute"
        states.mkdir(exist_ok=True)
        while (dispute := self._dispute(filed)) is not None and dispute.state == DISPUTE_OPEN:
            game = queries.game(self._audit.reader, dispute.dispute_id)
            if game is None or in_turn(dispute) != self._key.address:
                time.sleep(POLL_S)
                continue
            instalment = State(self._audit.reader).instalment(self._task_id, filed.instalment)
            work = segment_work(State(self._audit.reader), self._audit.spec, instalment, dispute.segment)
            if work.first_step and not state_path(states, work.first_step).exists():
                blobs.download(self._client, work.start_blob, state_path(states, work.first_step))
            answer = worker.ask(Respond(job, str(states), encode(game)))
            if not isinstance(answer, Responded):
                raise Rejection(reasons.NODE_ERROR, f"the worker could not answer: {answer}")
            try:
                transactions.send(self._client, self._key, DisputeMove(dispute.dispute_id, answer.move))
            except Rejection:
                now = self._dispute(filed)
                if now is not None and len(now.moves) == len(dispute.moves) and now.state == DISPUTE_OPEN:
                    raise
                continue  # The node of this account made the move first, or another ruling ended the game.
            self._tell(f"moved: {dispute.phase}")
        return self._dispute(filed)


def _claimed(challenge: Challenge) -> bytes:
    match challenge:
        case InitialChallenge():
            return challenge.initial_root
        case EvidenceChallenge():
            return challenge.evidence_root
        case SegmentChallenge():
            return challenge.end_root
