"""Published step programs: the chain holds them because its validators are the referee."""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.call import Call
from consensus.ledger.messages import PublishProgram
from consensus.ledger.reasons import BAD_SPEC, PROGRAM_KNOWN, UNKNOWN_PROGRAM
from consensus.ledger.records import ProgramRecord
from consensus.ledger.view import State
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import Rejection
from proofs.program.types import Given, Program, program_id
from proofs.program.validate import validate_program

MOST_BATCH_INPUTS = 64
"""Batch inputs of a program: a task names a dataset tensor for each (`TaskSpec.dataset`)."""


def publish_program(state: State, call: Call, message: PublishProgram) -> None:
    """Validate a program and keep it."""
    program = decode_program(message.program)
    if len(program.batch) > MOST_BATCH_INPUTS:
        raise Rejection(BAD_SPEC, f"batch: {len(program.batch)} inputs, a task gives at most {MOST_BATCH_INPUTS}")
    info = validate_program(program)
    identity = program_id(program)
    if state.find(keys.program(identity), ProgramRecord) is not None:
        raise Rejection(PROGRAM_KNOWN, f"program {identity.hex()}")
    record = ProgramRecord(
        program_id=identity,
        publisher=call.sender,
        height=call.height,
        gas_per_step=info.gas_per_step,
        state_bytes=info.state_bytes,
        memory_bytes=info.memory_bytes,
        batch=program.batch,
        given=any(isinstance(entry.initial, Given) for entry in program.state),
        entries=len(program.state),
        program=message.program,
    )
    state.put(keys.program(identity), record)
    state.emit("program_published", identity, publisher=call.sender, gas_per_step=info.gas_per_step)


def program_record(state: State, identity: bytes) -> ProgramRecord:
    """The program on the chain; `Rejection` UNKNOWN_PROGRAM."""
    record = state.find(keys.program(identity), ProgramRecord)
    if record is None:
        raise Rejection(UNKNOWN_PROGRAM, f"program {identity.hex()}")
    return record


def decode_program(data: bytes) -> Program:
    """A program from its encoding."""
    program: Program = decode(Program, data, max_bytes=limits.PROGRAM_BYTES_MAX)
    return program
