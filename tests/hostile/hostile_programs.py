"""Programs that are too deep, too large, out of order, or lie about themselves; each as bytes of a file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_case import ACCEPTED, Case

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from proofs.program.types import (
    F32,
    I64,
    BatchInput,
    Fill,
    Node,
    Program,
    Seed,
    StateEntry,
    TensorType,
    Uniform,
)
from proofs.program.validate import validate_program

SCALAR = TensorType(F32, ())


def opened(path: Path) -> object:
    """As a worker, and a validator, opens a program."""
    return validate_program(decode(Program, path.read_bytes(), max_bytes=PROGRAM_BYTES_MAX))


def entry(
    shape: tuple[int, ...] = (), dtype: str = F32, name: str = "parameter.w", initial: Any = Fill(0)
) -> StateEntry:
    return StateEntry(name, TensorType(dtype, shape), initial)


def program(*nodes: Node, state: tuple[StateEntry, ...] = (entry(),), **fields: Any) -> Program:
    made: dict[str, Any] = {
        "opset": 1,
        "state": state,
        "batch_size": 1,
        "batch": (),
        "nodes": nodes,
        "state_outputs": tuple(range(len(state))),
        "loss": 0,
    }
    return Program(**{**made, **fields})


def one(operator: str, attributes: tuple[int, ...], *shape: int) -> Callable[[Path], None]:
    """One operator on one entry of this shape."""
    return written(program(Node(operator, (0,), attributes), state=(entry(shape),)))


def chosen(operator: str, size: int, *shape: int) -> Callable[[Path], None]:
    """An operator with ids and a size, on values of this shape."""
    return written(program(Node(operator, (0, 1), (size,)), state=(entry(shape), entry((1,), I64, "ids"))))


def large_entries(count: int, elements: int) -> Callable[[Path], None]:
    return written(program(state=tuple(entry((elements,), I64, f"p.{number}") for number in range(count))))


def raw(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def written(value: Program) -> Callable[[Path], None]:
    return raw(encode(value))


def chain(nodes: int) -> Program:
    """Each node uses the one before."""
    return program(*[Node("neg", (number and number + 1,), ()) for number in range(nodes)])


def doubling(times: int) -> Program:
    """x, xx, xxxx, …: 2**times elements out of few bytes."""
    nodes = [Node("reshape", (0,), (1,))]
    nodes += [Node("concatenate", (number, number), (0,)) for number in range(2, 2 + times)]
    return program(*nodes)


def heavy(matmuls: int, width: int) -> Program:
    """Products of width³, one after another."""
    state = (entry((width, width)), entry(name="parameter.b"))
    nodes = [Node("matmul", (0 if not number else 2 + number, 0), ()) for number in range(matmuls)]
    return program(*nodes, state=state, loss=1)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


ONE = Node("neg", (0,), ())
PLAIN = encode(program(ONE))

CASES: tuple[Case, ...] = tuple(
    Case(name, make, opened, code)
    for name, make, code in (
        ("no bytes", raw(b""), "E1002"),
        ("noise", raw(bytes(range(256)) * 16), "E1002"),
        ("beyond the size", raw(bytes(PROGRAM_BYTES_MAX + 1)), "E1001"),
        ("an array of four thousand million that never come", raw(b"\xdd" + b"\xff" * 4), "E1002"),
        ("arrays in arrays, 200,000 deep", raw(nested(200_000)), "E1002"),
        ("a map", raw(b"\x81\x01\x02"), "E1002"),
        ("cut short", raw(PLAIN[:-1]), "E1002"),
        ("more behind", raw(PLAIN + b"\xc0"), "E1002"),
        ("a number in a longer form", raw(b"\x97\xcd\x00\x01" + PLAIN[2:]), "E1003"),
        ("a float where a number is", raw(b"\x97\xcb" + struct.pack(">d", 1.0) + PLAIN[2:]), "E1002"),
        ("another opset", written(program(ONE, opset=2)), "E1510"),
        ("no state", written(program(ONE, state=(), state_outputs=())), "E1509"),
        ("4,000 state entries", written(program(state=tuple(entry(name=f"p.{n}") for n in range(4_000)))), "E1507"),
        ("two entries of one name", written(program(state=(entry(), entry()))), "E1508"),
        ("a name that leaves its folder", written(program(state=(entry(name="../../key"),))), "E1508"),
        ("a name with an end of line", written(program(state=(entry(name="a\n"),))), "E1508"),
        ("a name of 200,000 characters", written(program(state=(entry(name="a" * 200_000),))), "E1508"),
        ("no name", written(program(state=(entry(name=""),))), "E1508"),
        ("16,384 nodes", written(chain(16_384)), "E1507"),
        ("a chain of 14,000 nodes", written(chain(14_000)), ACCEPTED),
        ("an unknown operator", written(program(Node("system", (0,), ()))), "E1501"),
        ("an operator's name of 100,000 characters", written(program(Node("x" * 100_000, (0,), ()))), "E1501"),
        ("a node that uses itself", written(program(Node("neg", (2,), ()))), "E1506"),
        ("two nodes that use each other", written(program(Node("neg", (3,), ()), Node("neg", (2,), ()))), "E1506"),
        ("a value before the first", written(program(Node("neg", (-1,), ()))), "E1506"),
        ("value 2**63 - 1", written(program(Node("neg", ((1 << 63) - 1,), ()))), "E1506"),
        ("value 2**64 - 1", written(program(Node("neg", ((1 << 64) - 1,), ()))), "E1506"),
        ("no input", written(program(Node("add", (), ()))), "E1502"),
        ("200 inputs", written(program(Node("concatenate", (0,) * 200, (0,)))), "E1502"),
        ("100,000 attributes", written(program(Node("full", (), (0,) * 100_000))), "E1503"),
        ("a dtype of number 9", written(program(Node("cast", (0,), (9,)))), "E1503"),
        ("a negative dtype", written(program(Node("cast", (0,), (-1,)))), "E1503"),
        ("no attributes", written(program(Node("cast", (0,), ()))), "E1503"),
        ("bits that do not fit", written(program(Node("full", (), (0, 1 << 32)))), "E1503"),
        ("a huge shape", written(program(state=(entry((1 << 20, 1 << 20)),))), "E1507"),
        ("a size of 2**63 - 1", written(program(state=(entry(((1 << 63) - 1,)),))), "E1507"),
        ("sizes whose product is 2**64", written(program(state=(entry((1 << 32, 1 << 32)),))), "E1507"),
        ("a size of nought", written(program(state=(entry((0, 1 << 62)),))), "E1505"),
        ("a negative size", written(program(state=(entry((-1,)),))), "E1505"),
        ("rank 9", written(program(state=(entry((1,) * 9),))), "E1507"),
        ("rank 100,000", written(program(state=(entry((1,) * 100_000),))), "E1507"),
        ("a dtype that is none", written(program(state=(entry(dtype="f128"),))), "E1504"),
        ("objects", written(program(state=(entry(dtype="object"),))), "E1504"),
        ("full of 2**40", written(program(Node("full", (), (0, 0, 1 << 40)))), "E1507"),
        ("full of a negative size", written(program(Node("full", (), (0, 0, -5)))), "E1505"),
        ("one element repeated 2**40 times", written(program(Node("broadcast_to", (0,), (1 << 40,)))), "E1507"),
        ("doubled 40 times", written(doubling(40)), "E1507"),
        ("doubled to 64 GiB, which a solver refuses", written(doubling(34)), ACCEPTED),
        (
            "padded to 2**60",
            one("pad", (1 << 60, 0, 0), 1),
            "E1503",
        ),
        ("padded by less than nothing", one("pad", (-1, 0, 0), 4), "E1503"),
        ("a slice with step 0", one("slice", (0, 4, 0), 4), "E1503"),
        ("a slice that ends beyond", one("slice", (0, 5, 1), 4), "E1503"),
        (
            "a slice that begins before",
            one("slice", (-4, 4, 1), 4),
            "E1503",
        ),
        ("axes twice", one("permute", (0, 0), 4, 4), "E1503"),
        ("axis 2**62", written(program(Node("iota", (), (1 << 62, 4)))), "E1503"),
        ("a reshape that makes elements", one("reshape", (5,), 4), "E1505"),
        (
            "scatter to 2**50 columns",
            chosen("scatter_last", 1 << 50, 1),
            "E1507",
        ),
        (
            "a table of 2**50 rows",
            chosen("embedding_grad", 1 << 50, 1, 4),
            "E1507",
        ),
        ("more gas than a day", written(heavy(64, 1 << 16)), "E1507"),
        ("gas beyond 64 bits", written(heavy(1_000, 1 << 17)), "E1507"),
        (
            "a terabyte at once",
            written(
                program(
                    state=tuple(entry((1 << 33,), I64, f"p.{n}", Fill(0)) for n in range(16)),
                    state_outputs=tuple(range(16)),
                )
            ),
            "E1509",
        ),
        ("a batch of 2**40", written(program(batch_size=1 << 40, batch=(BatchInput("x", SCALAR),))), "E1507"),
        ("a batch of none", written(program(batch_size=0)), "E1507"),
        ("a record of rank 8", written(program(batch=(BatchInput("x", TensorType(F32, (1,) * 8)),))), "E1507"),
        ("a loss that is a matrix", written(program(state=(entry((2, 2)),))), "E1509"),
        ("a loss that is no value", written(program(loss=99)), "E1509"),
        ("an output of another type", written(program(Node("cast", (0,), (1,)), state_outputs=(2,))), "E1509"),
        ("more outputs than entries", written(program(state_outputs=(0,) * 50_000)), "E1509"),
        ("an initial value that does not fit", written(program(state=(entry(initial=Fill(1 << 40)),))), "E1511"),
        ("a seed of another shape", written(program(state=(entry((3,), I64, initial=Seed()),))), "E1511"),
        ("uniform up to infinity", written(program(state=(entry(initial=Uniform(0x7F800000)),))), "E1511"),
        ("uniform up to NaN", written(program(state=(entry(initial=Uniform(0x7FC00000)),))), "E1511"),
    )
)
