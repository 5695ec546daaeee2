"""What a native solver says that it computed in a suspected segment: asked for by a drawn verifier, binding afterwards.

Two honest machines differ in every value, so a verifier that finds a segment too far off has to look at the solver's
own values. It demands them; the solver answers with the roots of every step's state and values, and the blobs in which
they are served. A dispute over the segment is held to these roots: who showed one thing and committed to another would
else be accused where it did nothing wrong. Who does not answer has withheld its states.
"""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.call import Call
from consensus.ledger.messages import ARITHMETIC_NATIVE, DemandValues, DiscloseValues
from consensus.ledger.reasons import BAD_DISCLOSURE, NOT_VERIFIER, NOTHING_DEMANDED, UNKNOWN_INSTALMENT, VALUES_DEMANDED
from consensus.ledger.records import INSTALMENT_VERIFYING, VERIFICATION_DRAWN, Disclosure, Instalment
from consensus.ledger.schedule import segment_span
from consensus.ledger.settlement import slot_of
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES


def demand_values(state: State, call: Call, message: DemandValues) -> None:
    """A verifier, before its verdict, wants to see the values of a segment that was drawn for it."""
    instalment = _instalment(state, message)
    slot = slot_of(instalment, call.sender)
    drawn = slot is not None and slot.state == VERIFICATION_DRAWN and message.segment in slot.segments
    if not drawn or state.spec(message.task_id).arithmetic != ARITHMETIC_NATIVE:
        raise Rejection(NOT_VERIFIER, f"segment {message.segment} of a native task was not drawn for the account")
    if message.segment in instalment.demanded:
        raise Rejection(VALUES_DEMANDED, f"segment {message.segment} of instalment {message.instalment}")
    asked = Disclosure(message.segment, instalment.attempt, call.height, b"", b"", ())
    state.put(keys.disclosure(message.task_id, message.attempt, message.segment), asked)
    demanded = (*instalment.demanded, message.segment)
    state.change_instalment(message.task_id, message.instalment, demanded=demanded)
    state.emit("values_demanded", message.task_id, segment=message.segment, verifier=call.sender)


def disclose_values(state: State, call: Call, message: DiscloseValues) -> None:
    """The solver answers: roots that lead from the segment's agreed start to the end it committed to."""
    instalment = _instalment(state, message)
    given = find(state, instalment, message.segment)
    if instalment.solver != call.sender or given is None or given.states:
        raise Rejection(NOTHING_DEMANDED, f"segment {message.segment} of instalment {message.instalment}")
    steps = segment_span(state.spec(message.task_id), message.segment)[1]
    position = message.segment - instalment.first_segment
    start = instalment.segment_roots[position - 1] if position else instalment.start_root
    ends = (message.states[:HASH_BYTES], message.states[-HASH_BYTES:])
    counts = (len(message.states), len(message.values), HASH_BYTES * len(message.blobs))
    if counts != (HASH_BYTES * (steps + 1), HASH_BYTES * steps, HASH_BYTES * steps):
        raise Rejection(BAD_DISCLOSURE, f"the segment has {steps} steps")
    if ends != (start, instalment.segment_roots[position]):
        raise Rejection(BAD_DISCLOSURE, "the states do not lead from the agreed start to the committed end")
    answer = Disclosure(
        message.segment, instalment.attempt, given.demanded_height, message.states, message.values, message.blobs
    )
    state.put(keys.disclosure(message.task_id, message.attempt, message.segment), answer)
    state.emit("values_disclosed", message.task_id, segment=message.segment, solver=call.sender)


def find(state: State, instalment: Instalment, segment: int) -> Disclosure | None:
    """What was demanded about a segment of this instalment's present attempt, answered or not; None: nothing was."""
    if segment not in instalment.demanded:
        return None
    return state.need(keys.disclosure(instalment.task_id, instalment.attempt, segment), Disclosure)


def _instalment(state: State, message: DemandValues | DiscloseValues) -> Instalment:
    """The instalment, being verified."""
    instalment = state.instalment(message.task_id, message.instalment)
    if instalment.attempt != message.attempt or instalment.state != INSTALMENT_VERIFYING:
        raise Rejection(UNKNOWN_INSTALMENT, f"no attempt {message.attempt} of it is being verified")
    return instalment
