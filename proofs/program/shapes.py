"""Shape and dtype rules of opset 1: pure functions (input types, attributes) -> output type.

All raise `Rejection` (E1502 to E1507). `operators` names which operator has which rule.
"""

from __future__ import annotations

from collections.abc import Callable

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Reason, Rejection
from proofs.program import reasons
from proofs.program.types import BOOL, F32, I64, ITEM_BYTES, U8, TensorType

DTYPES = (F32, I64, BOOL, U8)
"""A dtype inside attributes is its index here."""
NAN_BITS = 0x7FC00000
"""The only NaN that a value of a program has."""

Types = tuple[TensorType, ...]
Attributes = tuple[int, ...]
Rule = Callable[[Types, Attributes], TensorType]


def require(condition: bool, why: Reason, message: str) -> None:
    """Raise a Rejection unless the condition holds."""
    if not condition:
        raise Rejection(why, message)


def checked(type_: TensorType) -> TensorType:
    """The type itself, after its bounds: known dtype, rank, every dimension at least 1, number of elements."""
    # Bare ifs and ascii(): validators run this for every node, and commit to the message whatever their Python prints.
    if type_.dtype not in ITEM_BYTES:
        raise Rejection(reasons.BAD_DTYPE, f"unknown dtype {type_.dtype[:16]!a}")
    if len(type_.shape) > limits.TENSOR_RANK_MAX:
        raise Rejection(reasons.PROGRAM_TOO_BIG, f"rank {len(type_.shape)}")
    elements = 1
    for size in type_.shape:
        if size < 1:
            raise Rejection(reasons.BAD_SHAPE, f"dimension {size}, every dimension is at least 1")
        elements *= size
    if elements > limits.TENSOR_ELEMENTS_MAX:
        raise Rejection(reasons.PROGRAM_TOO_BIG, "too many elements in one tensor")
    return type_


def broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that numpy-style broadcasting gives."""
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    result = shapes[0]
    for shape in shapes[1:]:
        if shape == result:
            continue
        missing = len(shape) - len(result)
        pairs = zip((1,) * missing + result, (1,) * -missing + shape, strict=True)
        # 0 marks what does not fit: every dimension is at least 1.
        result = tuple([a if a == b or b == 1 else b if a == 1 else 0 for a, b in pairs])
        if 0 in result:
            raise Rejection(reasons.BAD_SHAPE, f"shapes {shapes} do not broadcast")
    return result


def elementwise(allowed: tuple[str, ...], output: str | None = None) -> Rule:
    """Broadcasting operator on inputs of one dtype out of `allowed`; the output has that dtype or `output`."""

    def rule(inputs: Types, attributes: Attributes) -> TensorType:
        no_attributes(attributes)
        dtype = inputs[0].dtype
        if dtype not in allowed:
            raise Rejection(reasons.BAD_DTYPE, f"not defined on {dtype}, only on {allowed}")
        if any(type_.dtype != dtype for type_ in inputs):
            raise Rejection(reasons.BAD_DTYPE, "inputs of different dtypes")
        return TensorType(output or dtype, broadcast([type_.shape for type_ in inputs]))

    return rule


def no_attributes(attributes: Attributes) -> None:
    """The operator has no attributes."""
    require(not attributes, reasons.BAD_ATTRIBUTES, "the operator has no attributes")


def where(inputs: Types, attributes: Attributes) -> TensorType:
    """bool condition and two branches of one dtype, broadcast together."""
    no_attributes(attributes)
    condition, first, second = inputs
    require(condition.dtype == BOOL, reasons.BAD_DTYPE, "the condition is not bool")
    require(first.dtype == second.dtype, reasons.BAD_DTYPE, "branches of different dtypes")
    return TensorType(first.dtype, broadcast([condition.shape, first.shape, second.shape]))


def cast(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: (dtype,)."""
    require(len(attributes) == 1, reasons.BAD_ATTRIBUTES, "cast has one attribute, the dtype")
    return TensorType(dtype_of(attributes[0]), inputs[0].shape)


def dtype_of(code: int) -> str:
    """The dtype that an attribute names."""
    require(0 <= code < len(DTYPES), reasons.BAD_ATTRIBUTES, f"unknown dtype code {code}")
    return DTYPES[code]


def bits_fit(dtype: str, bits: int) -> bool:
    """Whether unsigned bits are those of one element; a NaN has its canonical bits, so that no program holds others."""
    if dtype == F32 and bits & 0x7FFFFFFF > 0x7F800000:
        return bits == NAN_BITS
    return 0 <= bits < (2 if dtype == BOOL else 1 << (8 * ITEM_BYTES[dtype]))


def full(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: (dtype, bits, *shape)."""
    require(len(attributes) >= 2, reasons.BAD_ATTRIBUTES, "full has dtype, bits and shape")
    dtype = dtype_of(attributes[0])
    require(bits_fit(dtype, attributes[1]), reasons.BAD_ATTRIBUTES, f"bits {attributes[1]} do not fit {dtype}")
    return TensorType(dtype, attributes[2:])


def iota(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: (axis, *shape)."""
    require(len(attributes) >= 2, reasons.BAD_ATTRIBUTES, "iota has an axis and a shape of rank 1 or more")
    axis_of(attributes[0], len(attributes) - 1)
    return TensorType(I64, attributes[1:])


def axis_of(axis: int, rank: int) -> int:
    """A valid axis, counted from the front."""
    require(0 <= axis < rank, reasons.BAD_ATTRIBUTES, f"axis {axis} of rank {rank}")
    return axis


def uniform(inputs: Types, attributes: Attributes) -> TensorType:
    """Inputs: key i64 (2,), counter i64 scalar. Attributes: (stream, *shape)."""
    key, counter = inputs
    require(key == TensorType(I64, (2,)), reasons.BAD_SHAPE, "the key is i64 of shape (2,)")
    require(counter == TensorType(I64, ()), reasons.BAD_SHAPE, "the counter is an i64 scalar")
    require(len(attributes) >= 1, reasons.BAD_ATTRIBUTES, "uniform has a stream and a shape")
    require(0 <= attributes[0] < 1 << 32, reasons.BAD_ATTRIBUTES, "the stream is a 32-bit number")
    return TensorType(F32, attributes[1:])


def reshape(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: the shape."""
    output = checked(TensorType(inputs[0].dtype, attributes))
    require(output.elements == inputs[0].elements, reasons.BAD_SHAPE, f"{inputs[0].shape} to {attributes}")
    return output


def permute(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: for each output axis the input axis."""
    shape = inputs[0].shape
    require(sorted(attributes) == list(range(len(shape))), reasons.BAD_ATTRIBUTES, "not a permutation of the axes")
    return TensorType(inputs[0].dtype, tuple(shape[axis] for axis in attributes))


def broadcast_to(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: the shape."""
    checked(TensorType(inputs[0].dtype, attributes))
    require(
        broadcast([inputs[0].shape, attributes]) == attributes, reasons.BAD_SHAPE, "does not broadcast to the shape"
    )
    return TensorType(inputs[0].dtype, attributes)


def slice_(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: (start, stop, step) of each axis; 0 ≤ start < stop ≤ size, step ≥ 1."""
    shape = inputs[0].shape
    require(len(attributes) == 3 * len(shape), reasons.BAD_ATTRIBUTES, "slice has start, stop, step for each axis")
    sizes = []
    for axis, size in enumerate(shape):
        start, stop, step = attributes[3 * axis : 3 * axis + 3]
        good = 0 <= start < stop <= size and 1 <= step <= limits.TENSOR_ELEMENTS_MAX
        require(good, reasons.BAD_ATTRIBUTES, f"slice {start}:{stop}:{step} of {size}")
        sizes.append((stop - start + step - 1) // step)
    return TensorType(inputs[0].dtype, tuple(sizes))


def concatenate(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: (axis,)."""
    require(len(attributes) == 1, reasons.BAD_ATTRIBUTES, "concatenate has one attribute, the axis")
    first = inputs[0]
    axis = axis_of(attributes[0], len(first.shape))
    rest = first.shape[:axis] + first.shape[axis + 1 :]
    for type_ in dict.fromkeys(inputs):
        require(type_.dtype == first.dtype, reasons.BAD_DTYPE, "inputs of different dtypes")
        require(len(type_.shape) == len(first.shape), reasons.BAD_SHAPE, "inputs of different ranks")
        require(
            type_.shape[:axis] + type_.shape[axis + 1 :] == rest, reasons.BAD_SHAPE, "inputs differ beside the axis"
        )
    total = sum(type_.shape[axis] for type_ in inputs)
    return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


def pad(inputs: Types, attributes: Attributes) -> TensorType:
    """Attributes: (low, high, interior) of each axis, all ≥ 0."""
    shape = inputs[0].shape
    require(len(attributes) == 3 * len(shape), reasons.BAD_ATTRIBUTES, "pad has low, high, interior for each axis")
    good = all(0 <= amount <= limits.TENSOR_ELEMENTS_MAX for amount in attributes)
    require(good, reasons.BAD_ATTRIBUTES, "negative or huge padding")
    triples = [attributes[3 * axis : 3 * axis + 3] for axis in range(len(shape))]
    sizes = (low + size + (size - 1) * gap + high for size, (low, high, gap) in zip(shape, triples, strict=True))
    return TensorType(inputs[0].dtype, tuple(sizes))


WINDOW_NUMBERS = 6
"""Attributes of `windows` for each axis."""
WINDOW_REACH_MAX = 1 << 40
"""Farthest place, from the first element, that a window may look at."""


def windows(inputs: Types, attributes: Attributes) -> TensorType:
    """(…,S1…Sn) -> (…,k1…kn,o1…on). Attributes: bits, then for each of the last n axes (size k, count o, start, step,
    dilation, interior)."""
    shape, dtype = inputs[0].shape, inputs[0].dtype
    good = len(attributes) % WINDOW_NUMBERS == 1 and len(attributes) > 1
    require(good, reasons.BAD_ATTRIBUTES, "windows has bits and six numbers for each of the last axes")
    require(bits_fit(dtype, attributes[0]), reasons.BAD_ATTRIBUTES, f"bits {attributes[0]} do not fit {dtype}")
    numbers = [attributes[at : at + WINDOW_NUMBERS] for at in range(1, len(attributes), WINDOW_NUMBERS)]
    require(len(numbers) <= len(shape), reasons.BAD_ATTRIBUTES, f"windows over {len(numbers)} axes of {len(shape)}")
    for size, count, start, step, dilation, interior in numbers:
        require(size >= 1 and count >= 1, reasons.BAD_SHAPE, f"{count} windows of {size}")
        reach = abs(start) + (count - 1) * step + (size - 1) * abs(dilation)
        good = step >= 1 and interior >= 1 and max(step, interior, abs(dilation), reach) <= WINDOW_REACH_MAX
        require(good, reasons.BAD_ATTRIBUTES, f"windows {start} + {step} o + {dilation} k, {interior} apart")
    lead = shape[: len(shape) - len(numbers)]
    return TensorType(dtype, (*lead, *(each[0] for each in numbers), *(each[1] for each in numbers)))


def matmul(inputs: Types, attributes: Attributes) -> TensorType:
    """(…,M,K) @ (…,K,N): leading dimensions equal, or the left's are the last of the right's, or the right has none."""
    no_attributes(attributes)
    left, right = inputs
    require(left.dtype == right.dtype == F32, reasons.BAD_DTYPE, "matmul is defined on f32")
    require(len(left.shape) >= 2 and len(right.shape) >= 2, reasons.BAD_SHAPE, "matmul needs rank 2 or more")
    own, other = left.shape[:-2], right.shape[:-2]
    fits = not other or (len(own) <= len(other) and other[len(other) - len(own) :] == own)
    require(fits, reasons.BAD_SHAPE, "leading dimensions differ")
    require(left.shape[-1] == right.shape[-2], reasons.BAD_SHAPE, f"{left.shape} @ {right.shape}")
    return TensorType(F32, (*(other or own), left.shape[-2], right.shape[-1]))


def reduce_last(output: str | None = None) -> Rule:
    """(…,n) -> (…,1) on f32 or i64."""

    def rule(inputs: Types, attributes: Attributes) -> TensorType:
        no_attributes(attributes)
        require(inputs[0].dtype in (F32, I64), reasons.BAD_DTYPE, "defined on f32 and i64; cast first")
        require(len(inputs[0].shape) >= 1, reasons.BAD_SHAPE, "a scalar has no last dimension")
        return TensorType(output or inputs[0].dtype, (*inputs[0].shape[:-1], 1))

    return rule


def sum_first(inputs: Types, attributes: Attributes) -> TensorType:
    """(…,D) of rank ≥ 2 -> (1,D)."""
    no_attributes(attributes)
    require(inputs[0].dtype in (F32, I64), reasons.BAD_DTYPE, "defined on f32 and i64; cast first")
    require(len(inputs[0].shape) >= 2, reasons.BAD_SHAPE, "sum_first needs rank 2 or more")
    return TensorType(inputs[0].dtype, (1, inputs[0].shape[-1]))


def embedding(inputs: Types, attributes: Attributes) -> TensorType:
    """table (V,D), ids i64 (…) -> (…,D)."""
    no_attributes(attributes)
    table, ids = inputs
    require(ids.dtype == I64, reasons.BAD_DTYPE, "ids are i64")
    require(len(table.shape) == 2, reasons.BAD_SHAPE, "the table has rank 2")
    return TensorType(table.dtype, (*ids.shape, table.shape[1]))


def embedding_grad(inputs: Types, attributes: Attributes) -> TensorType:
    """gradient f32 (…,D), ids i64 (…) -> (V,D). Attributes: (V,)."""
    gradient, ids = inputs
    require(gradient.dtype == F32 and ids.dtype == I64, reasons.BAD_DTYPE, "gradient f32 and ids i64")
    require(len(gradient.shape) >= 1 and gradient.shape[:-1] == ids.shape, reasons.BAD_SHAPE, "one gradient row per id")
    require(len(attributes) == 1, reasons.BAD_ATTRIBUTES, "embedding_grad has one attribute, the number of rows")
    return TensorType(F32, (attributes[0], gradient.shape[-1]))


def take_last(inputs: Types, attributes: Attributes) -> TensorType:
    """values (…,C), ids i64 (…,1) -> (…,1)."""
    no_attributes(attributes)
    values, ids = inputs
    require(ids.dtype == I64, reasons.BAD_DTYPE, "ids are i64")
    require(len(values.shape) >= 1 and ids.shape == (*values.shape[:-1], 1), reasons.BAD_SHAPE, "ids are (…,1)")
    return TensorType(values.dtype, ids.shape)


def scatter_last(inputs: Types, attributes: Attributes) -> TensorType:
    """values (…,1), ids i64 (…,1) -> (…,C). Attributes: (C,)."""
    values, ids = inputs
    require(ids.dtype == I64, reasons.BAD_DTYPE, "ids are i64")
    require(len(values.shape) >= 1 and values.shape[-1] == 1, reasons.BAD_SHAPE, "values are (…,1)")
    require(values.shape == ids.shape, reasons.BAD_SHAPE, "one id per value")
    require(len(attributes) == 1, reasons.BAD_ATTRIBUTES, "scatter_last has one attribute, the number of columns")
    return TensorType(values.dtype, (*values.shape[:-1], attributes[0]))
