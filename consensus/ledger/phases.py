"""Beginning an instalment's phases, and how long its verifiers may be drawn."""

from __future__ import annotations

from consensus.ledger.records import Instalment
from consensus.ledger.schedule import patience_blocks, verify_blocks
from consensus.ledger.view import State

PHASE = "phase"
"""Due item: an instalment's phase may be over."""


def enter(state: State, instalment: Instalment, phase: str, due_height: int) -> Instalment:
    """Begin a phase that lasts until `due_height`."""
    changed = state.change_instalment(instalment.task_id, instalment.number, state=phase, due_height=due_height)
    state.schedule(due_height + 1, PHASE, instalment.task_id, instalment.attempt * 64 + instalment.number)
    state.emit("instalment_" + phase, instalment.task_id, instalment=instalment.number, due_height=due_height)
    return changed


def give_up_height(state: State, height: int, task_id: bytes) -> int:
    """Last height at which draws for an instalment committed (or put right) at `height` wait for candidates."""
    task, parameters = state.task(task_id), state.parameters
    verify = verify_blocks(state.spec(task_id), task.gas_per_step, parameters) + task.fetch_blocks
    return height + patience_blocks(verify, parameters)
