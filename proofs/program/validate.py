"""What a received program must satisfy before anything is done with it, and what it will cost.

Pure and deterministic: validators run it when a program is published, workers before they execute one. It looks at the
structure only; nothing is executed and nothing is allocated in proportion to the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from proofs.arithmetic.tiles import worst_piece_count
from proofs.program import reasons
from proofs.program.operators import gas_of, infer
from proofs.program.shapes import bits_fit, checked, require
from proofs.program.types import (
    F32,
    I64,
    ITEM_BYTES,
    OPSET,
    Fill,
    Given,
    Program,
    Seed,
    StateEntry,
    TensorType,
    Uniform,
)

GAS_PER_STEP_MAX = 1 << 50
"""Gas of one step: about a day on a fast machine."""
MEMORY_BYTES_MAX = 1 << 40
"""Peak memory of one step, by liveness."""
PIECES_PER_TILE_MAX = 1 << 16
"""Pieces of one tile: who plays the pinpoint game computes them one after another, up to three times, in a minute."""
BATCH_SIZE_MAX = 1 << 20
"""Records of one batch."""
ATTRIBUTES_MAX = 3 * limits.TENSOR_RANK_MAX + 2
"""Attributes of one node."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_F32_INFINITY = 0x7F800000


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What follows from a valid program."""

    types: tuple[TensorType, ...]
    """Type of every value: state, batch, step index, nodes."""
    gas_per_step: int
    """Gas of all nodes; one multiply-add of a matmul is 1."""
    state_bytes: int
    """Bytes of the state."""
    memory_bytes: int
    """Estimated peak of one step: the state, the batch and every node's value from its node to its last use."""


def validate_program(program: Program) -> ProgramInfo:
    """Check everything about a program; `Rejection` (E1501 to E1511) says what is wrong, no other exception."""
    require(program.opset == OPSET, reasons.UNSUPPORTED_OPSET, f"opset {program.opset}, this version knows {OPSET}")
    values = program.value_count
    require(values <= limits.PROGRAM_VALUES_MAX, reasons.PROGRAM_TOO_BIG, f"{values} values")
    require(len(program.state) > 0, reasons.BAD_OUTPUTS, "a program without state")
    require(len(program.state) <= limits.STATE_ENTRIES_MAX, reasons.PROGRAM_TOO_BIG, f"{len(program.state)} entries")
    require(1 <= program.batch_size <= BATCH_SIZE_MAX, reasons.PROGRAM_TOO_BIG, f"batch size {program.batch_size}")
    _check_names(entry.name for entry in program.state)
    _check_names(batch_input.name for batch_input in program.batch)
    for entry in program.state:
        check_entry(entry)
    types = input_types(program)
    gas = _append_node_types(program, types)
    _check_outputs(program, types)
    memory = _peak_memory(program, types)
    require(gas <= GAS_PER_STEP_MAX, reasons.PROGRAM_TOO_BIG, f"{gas} gas per step")
    require(memory <= MEMORY_BYTES_MAX, reasons.PROGRAM_TOO_BIG, f"{memory} bytes of memory")
    return ProgramInfo(tuple(types), gas, sum(_bytes(entry.type) for entry in program.state), memory)


def gas_of_step(program: Program) -> int:
    """Gas of one step of a program, which is validated on the way."""
    return validate_program(program).gas_per_step


def _check_names(names: Iterable[str]) -> None:
    seen = set[str]()
    for name in names:
        require(_NAME.fullmatch(name) is not None, reasons.BAD_NAME, f"the name {name[:40]!a}")
        require(name not in seen, reasons.BAD_NAME, f"the name {name!a} is used twice")
        seen.add(name)


def check_entry(entry: StateEntry) -> None:
    """Type and initial value of one state entry."""
    type_ = checked(entry.type)
    match entry.initial:
        case Fill(bits):
            good = bits_fit(type_.dtype, bits)
        case Uniform(bound_bits):
            good = type_.dtype == F32 and 0 < bound_bits < _F32_INFINITY
        case Seed():
            good = type_ == TensorType(I64, (2,))
        case Given():
            good = True
    require(good, reasons.BAD_INITIAL, f"{entry.name}: {entry.initial} does not fit {type_.dtype}{type_.shape}")


def input_types(program: Program) -> list[TensorType]:
    """Types of the values before the first node: state, batch, step index."""
    types = [entry.type for entry in program.state]
    for batch_input in program.batch:
        checked(batch_input.record)
        types.append(checked(TensorType(batch_input.record.dtype, (program.batch_size, *batch_input.record.shape))))
    return [*types, TensorType(I64, ())]


def _append_node_types(program: Program, types: list[TensorType]) -> int:
    """Append the type of every node to `types`; returns the gas of all nodes."""
    gas = 0
    for number, node in enumerate(program.nodes):
        known = len(types)
        if not all(0 <= value < known for value in node.inputs):
            raise Rejection(reasons.BAD_ORDER, f"node {number} ({node.operator[:40]}) uses a value not before {known}")
        if len(node.attributes) > ATTRIBUTES_MAX:
            raise Rejection(reasons.BAD_ATTRIBUTES, f"node {number} has {len(node.attributes)} attributes")
        inputs = tuple([types[value] for value in node.inputs])
        try:
            output = infer(node.operator, inputs, node.attributes)
        except Rejection as rejection:
            raise Rejection(rejection.reason, f"node {number}, {node.operator[:40]}: {rejection.message}") from None
        pieces = worst_piece_count(node.operator, inputs, output)
        if pieces > PIECES_PER_TILE_MAX:
            raise Rejection(reasons.PROGRAM_TOO_BIG, f"node {number}, {node.operator}: {pieces} pieces a tile")
        gas += gas_of(node.operator, inputs, output)
        types.append(output)
    return gas


def _check_outputs(program: Program, types: list[TensorType]) -> None:
    require(
        len(program.state_outputs) == len(program.state),
        reasons.BAD_OUTPUTS,
        f"{len(program.state_outputs)} outputs for {len(program.state)} state entries",
    )
    for entry, value in zip(program.state, program.state_outputs, strict=True):
        require(0 <= value < len(types), reasons.BAD_OUTPUTS, f"{entry.name} becomes value {value}")
        require(types[value] == entry.type, reasons.BAD_OUTPUTS, f"{entry.name} becomes a value of another type")
    require(0 <= program.loss < len(types), reasons.BAD_OUTPUTS, f"the loss is value {program.loss}")
    require(types[program.loss] == TensorType(F32, ()), reasons.BAD_OUTPUTS, "the loss is not an f32 scalar")


def _bytes(type_: TensorType) -> int:
    return type_.elements * ITEM_BYTES[type_.dtype]


def _peak_memory(program: Program, types: list[TensorType]) -> int:
    """The largest sum of live bytes: inputs stay throughout, a node's value until its last use, outputs to the end."""
    sizes = [_bytes(type_) for type_ in types]
    first = program.first_node_value
    last_use = list(range(len(types)))
    for value, node in enumerate(program.nodes, start=first):
        for used in node.inputs:
            last_use[used] = value
    for value in (*program.state_outputs, program.loss):
        last_use[value] = len(types)
    freed_after: dict[int, int] = {}
    live = sum(sizes[:first])
    peak = live
    for value in range(first, len(types)):
        live += sizes[value]
        peak = max(peak, live)
        freed_after[last_use[value]] = freed_after.get(last_use[value], 0) + sizes[value]
        live -= freed_after.get(value, 0)
    return peak
