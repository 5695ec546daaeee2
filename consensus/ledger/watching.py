"""The drawn watch: with a chance, one more slot, over one of the segments that a verifier says it re-executed.

It is drawn by the beacon of the block after all verdicts are bound: nobody can know, while there is still a choice
between working and making evidence up, which segment is looked at again. And it binds itself before any verdict is
shown, so that nothing can be copied. It is paid and answers like a verifier, and counts for no majority.
"""

from __future__ import annotations

from consensus.ledger.assignment import watch_sortition
from consensus.ledger.block import BlockContext
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.phases import enter
from consensus.ledger.records import (
    INSTALMENT_WATCHING,
    VERIFICATION_COMMITTED,
    VERIFICATION_DRAWN,
    Instalment,
    Verification,
)
from consensus.ledger.schedule import watch_blocks
from consensus.ledger.slots import fill_slot
from consensus.ledger.view import State
from gensyn_node.primitives.hashing import tagged_hash


def verifiers_of(instalment: Instalment) -> list[Verification]:
    """The slots that count."""
    return [slot for slot in instalment.verifications if not slot.watch]


def may_be_drawn(state: State, instalment: Instalment) -> bool:
    """Whether the instalment may still get a watch: one at most."""
    drawn = any(slot.watch for slot in instalment.verifications)
    return state.task(instalment.task_id).watch_bps > 0 and not drawn


def drawn_segment(beacon: bytes, task_id: bytes, place: int, watch_bps: int, claimed: tuple[int, ...]) -> int | None:
    """Which of the claimed segments is watched, each alike; None: none. `place`: attempt · 64 + instalment."""
    number = tagged_hash("gensyn/watch/1", beacon, task_id, place.to_bytes(8, "little"))
    if int.from_bytes(number[:8], "little") * BASIS_POINTS >> 64 >= watch_bps:
        return None
    return claimed[int.from_bytes(number[8:24], "little") % len(claimed)]


def draw_watch(state: State, context: BlockContext, instalment: Instalment) -> bool:
    """Draw the watch, if chance has one and somebody can take it; whether there is one."""
    task_id, number, height = instalment.task_id, instalment.number, context.height
    task, spec = state.task(task_id), state.spec(task_id)
    place = instalment.attempt * 64 + number
    shown = {finding.segment for slot in instalment.verifications for finding in slot.findings}
    bound = (slot for slot in verifiers_of(instalment) if slot.state == VERIFICATION_COMMITTED)
    claimed = tuple(segment for slot in bound for segment in slot.segments if segment not in shown)
    segment = drawn_segment(context.beacon, task_id, place, task.watch_bps, claimed) if claimed else None
    if segment is None:
        return False
    purpose = (b"watch", task_id, place.to_bytes(8, "little"))
    drawn = watch_sortition(state, task, instalment).draw(context.beacon, *purpose)
    if not drawn:
        return False
    changed = fill_slot(state, height, instalment, drawn[0], (segment,), watch=True)
    state.emit("watch_drawn", task_id, instalment=number, verifier=drawn[0].address, segment=segment)
    due = height + watch_blocks(spec, task.gas_per_step, state.parameters) + task.fetch_blocks
    enter(state, changed, INSTALMENT_WATCHING, due)
    return True


def at_work(instalment: Instalment) -> Verification | None:
    """The watch that has not committed yet."""
    drawn = (slot for slot in instalment.verifications if slot.watch and slot.state == VERIFICATION_DRAWN)
    return next(drawn, None)
