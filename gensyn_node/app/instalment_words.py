"""Where an instalment is, in one sentence: every state of the ledger in plain words."""

from __future__ import annotations

from consensus.ledger import life
from consensus.ledger.block import Reader
from consensus.ledger.records import (
    INSTALMENT_CLOSING,
    INSTALMENT_DRAWING,
    INSTALMENT_FORCED,
    INSTALMENT_INVALID,
    INSTALMENT_OPENING,
    INSTALMENT_READY,
    INSTALMENT_REVEALING,
    INSTALMENT_SEALED,
    INSTALMENT_SETTLED,
    INSTALMENT_UNSEALING,
    INSTALMENT_UNSERVED,
    INSTALMENT_UNVERIFIABLE,
    INSTALMENT_VERIFYING,
    INSTALMENT_WATCHING,
    INSTALMENT_WINDOW,
    INSTALMENT_WITHHELD,
    OUTCOME_FORCED,
    Instalment,
    Task,
)
from consensus.ledger.view import State
from gensyn_node.rpc.backend import InstalmentText

_WORDS = {
    INSTALMENT_SEALED: "committed under seal: it is opened after the next beacon and the secret of the one before",
    INSTALMENT_OPENING: "its solver has to show its roots by block {due}, one of them wrong if the secret draw says so",
    INSTALMENT_DRAWING: "verifiers are drawn in block {due}",
    INSTALMENT_VERIFYING: "verifiers re-execute; their verdicts are due by block {due}",
    INSTALMENT_REVEALING: "verdicts are shown until block {due}",
    INSTALMENT_WINDOW: "anybody bonded may announce a challenge until block {due}",
    INSTALMENT_UNSEALING: "verdicts and challenges are in; its solver has to show the secret by block {due}, "
    "which tells whether an error was shown on purpose",
    INSTALMENT_WATCHING: "verdicts are bound; a watch, if one is drawn, looks again at a segment by block {due}",
    INSTALMENT_CLOSING: "challenges that were announced may be shown until block {due}",
    INSTALMENT_READY: "nothing is left to be checked: it settles after its disputes and the instalments before it",
    INSTALMENT_FORCED: "it was shown with an error on purpose; the right roots are verified next",
    INSTALMENT_WITHHELD: "its solver did not show its secret: it loses its bond, and another one goes on",
    INSTALMENT_UNSERVED: "its states could not be had: its solver is punished, another one goes on",
    INSTALMENT_UNVERIFIABLE: "nobody can verify it: the task ends with what is settled",
    INSTALMENT_SETTLED: "verified and paid",
    INSTALMENT_INVALID: "it fell: proven wrong, not served, or built on one that was",
}
"""By state; `{due}` is the last block of it."""


def instalment_text(one: Instalment) -> InstalmentText:
    """An instalment's state, and what that means."""
    text = _WORDS.get(one.state, one.state).format(due=one.due_height)
    if one.refusers and one.state in (INSTALMENT_DRAWING, INSTALMENT_VERIFYING):
        text += f"; verifiers who could not fetch its states: {len(one.refusers)}"
    if one.outcome == OUTCOME_FORCED and one.second_round:
        found = f"found by {len(one.claimants)}" if one.claimants else "found by nobody"
        text += f"; it had been shown with an error on purpose, {found}"
    if one.open_disputes:
        text += f"; open disputes: {len(one.open_disputes)}"
    return InstalmentText(number=one.number, state=one.state, due_height=one.due_height, explanation=text)


def instalment_texts(reader: Reader, task: Task) -> tuple[InstalmentText, ...]:
    """Those of a task that are committed and not settled."""
    state = State(reader)
    return tuple(instalment_text(state.instalment(task.task_id, number)) for number in life.unsettled(task))
