"""What the chain did in a story, block by block, in sentences with the nodes' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from gensyn_node.devnet import reasons
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import format_amount
from gensyn_node.sdk.client import NodeClient

Fields = dict[str, Any]
Named = Callable[[str], str]


class Chronicle:
    """Reads every block once, in order."""

    def __init__(self, client: NodeClient, names: dict[str, str], from_height: int) -> None:
        """`names` by address, of accounts and of validators; it begins with the block after `from_height`."""
        self._client = client
        self._names = names
        self._height = from_height
        self.lines: list[str] = []
        """All that was told."""
        self.finders: Counter[str] = Counter()
        """By address: nano for proofs of double votes."""

    def read_on(self) -> list[tuple[int, str]]:
        """(height, sentence) of the blocks since the last time. STORY_FAILED when the node lacks one."""
        head = int(self._client.call("block", height=None)["height"])
        told = []
        for height in range(self._height + 1, head + 1):
            found = self._client.call("block_results", height=height)
            if found is None:
                raise Rejection(reasons.STORY_FAILED, f"the node has no results of block {height}")
            for event in found["events"]:
                if event["kind"] == "finder_paid":
                    self.finders[event["subject"]] += dict(event["fields"])["amount_nano"]
            sentences = (sentence_of(event, self._named) for event in found["events"])
            told += [(height, sentence) for sentence in sentences if sentence]
        self._height = max(head, self._height)
        self.lines += [f"block {height}: {sentence}" for height, sentence in told]
        return told

    def _named(self, address: str) -> str:
        return self._names.get(address, address[:12])


def sentence_of(event: dict[str, Any], named: Named) -> str:
    """An event in words; empty for what a story need not tell."""
    fields: Fields = dict(event["fields"])
    tell = _SENTENCES.get(event["kind"])
    return tell(event["subject"], fields, named) if tell else ""


def _slashed(subject: str, fields: Fields, named: Named) -> str:
    won = f"; {named(fields['winner'])} wins its share" if fields.get("winner") else ""
    return f"{named(subject)} is slashed {format_amount(fields['amount_nano'])} ({fields['why']}){won}"


def _secret(_: str, fields: Fields, named: Named) -> str:
    if fields["outcome"] == "forced":
        shown = f"segment {fields['segment']} was shown with an error on purpose"
    else:
        shown = "nothing was shown wrong"
    return f"the secret of instalment {fields['instalment']} is shown: {shown}"


def _opened(subject: str, fields: Fields, named: Named) -> str:
    who = f"{named(fields['challenger'])} against {named(fields['defender'])}"
    about = "the initial state" if fields["kind"] == "initial" else f"{fields['kind']} {fields['segment']}"
    if fields["kind"] == "evidence":
        about = f"its evidence of segment {fields['segment']}"
    return f"dispute {subject[:12]} opens: {who}, about {about}"


def _verdict(_: str, fields: Fields, named: Named) -> str:
    what = f"approves {fields['approved']} of {fields['of']} segments"
    return f"{named(fields['verifier'])} {what} of instalment {fields['instalment']}"


def _part(text: str) -> Callable[[str, Fields, Named], str]:
    """A sentence with the event's fields in it; whatever is an account comes by its name."""

    def told(subject: str, fields: Fields, named: Named) -> str:
        values = {
            name: format_amount(value)
            if name.endswith("_nano")
            else named(value)
            if isinstance(value, str) and value.startswith("gsn1")
            else value
            for name, value in fields.items()
        }
        return text.format(subject=named(subject) if subject.startswith("gsn1") else subject[:12], **values)

    return told


_SENTENCES: dict[str, Callable[[str, Fields, Named], str]] = {
    "task_assigned": _part("{solver} is drawn to solve, attempt {attempt}"),
    "solver_timed_out": _part("{solver} missed its time"),
    "solver_failed": _part("{solver} failed: {why}"),
    "instalment_committed": _part("{solver} commits instalment {instalment}"),
    "instalment_opened": _part("{solver} opens instalment {instalment}"),
    "instalment_settled": _part(
        "instalment {instalment} is settled: {solver_nano} to its solver, {verifiers_nano} to its verifiers"
    ),
    "instalment_invalid": _part("instalment {instalment} of attempt {attempt} falls"),
    "states_unavailable": _part("{verifiers} verifiers of instalment {instalment} could not fetch its states"),
    "verifier_drawn": _part("{verifier} is drawn to verify instalment {instalment}"),
    "watch_drawn": _part("{verifier} is drawn to look again at segment {segment} of instalment {instalment}"),
    "verifier_missed": _part("{verifier} missed its verdict on instalment {instalment}"),
    "verdict_revealed": _verdict,
    "challenge_committed": _part("{challenger} announces a challenge of instalment {instalment}"),
    "challenge_moot": _part("the challenge of {challenger} has nothing left to prove"),
    "secret_shown": _secret,
    "secret_withheld": _part("{solver} does not show the secret of instalment {instalment}"),
    "jackpot_paid": _part("{claimant} found the error of instalment {instalment} and takes {amount_nano}"),
    "dispute_opened": _opened,
    "dispute_joined": _part("{challenger} joins dispute {subject}"),
    "dispute_timed_out": _part("in dispute {subject} the clock of the {turn} ran out"),
    "dispute_taken_over": _part("the next challenger takes over dispute {subject}: {why}"),
    "dispute_resolved": _part("dispute {subject} ends: {outcome} ({why})"),
    "slashed": _slashed,
    "stake_slashed": _part("the validator {subject} loses {amount_nano} of stake ({why})"),
    "finder_paid": _part("{subject} had the proof of it in its block and takes {amount_nano}"),
    "validator_tombstoned": _part("the validator {subject} is out for good"),
    "provider_paused": _part("{subject} gets no more work ({why})"),
    "task_ended": _part("the task is {state}; {refunded_nano} come back"),
}
