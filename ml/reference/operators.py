"""Every operator of opset 1 in torch, and one step of a program by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ml.kernels.elementwise import TORCH_DTYPES
from ml.reference import elementary
from ml.reference.elementary import Tensor, bits, canonical
from proofs.arithmetic import constants
from proofs.program.operators import infer
from proofs.program.shapes import DTYPES
from proofs.program.types import Node, Program
from proofs.program.validate import input_types

LANES = 32
_MASK = 0xFFFFFFFF


def _with_nan(x: Tensor, y: Tensor, chosen: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return chosen
    return torch.where(torch.isnan(x) | torch.isnan(y), bits(constants.NAN, x), chosen)


def _sign(x: Tensor) -> Tensor:
    one, zero = torch.ones((), dtype=x.dtype, device=x.device), torch.zeros((), dtype=x.dtype, device=x.device)
    signed = torch.where(x > 0, one, torch.where(x < 0, -one, zero))
    return torch.where(torch.isnan(x), x, signed) if x.dtype == torch.float32 else signed


def _floor_divide(x: Tensor, y: Tensor) -> Tensor:
    plain = torch.div(x, torch.where((y == 0) | (y == -1), 1, y), rounding_mode="floor")
    return torch.where(y == 0, 0, torch.where(y == -1, -x, plain))


def _remainder(x: Tensor, y: Tensor) -> Tensor:
    trivial = (y == 0) | (y == -1)
    return torch.where(trivial, 0, torch.remainder(x, torch.where(trivial, 1, y)))


def _round_bf16(x: Tensor) -> Tensor:
    raw = x.view(torch.int32)
    last = (raw >> 16) & 1
    # Sums wrap, as words do; only NaNs are so large, and they are not taken.
    rounded = ((raw + 0x7FFF + last) & -0x10000).view(torch.float32)
    return torch.where(torch.isnan(x), x, rounded)


ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": _sign,
    "floor": torch.floor,
    "sqrt": elementary.sqrt,
    "round_bf16": _round_bf16,
    "reciprocal": lambda x: torch.div(elementary.number(1.0, x), x),
    "exp": elementary.exp,
    "log": elementary.log,
    "tanh": elementary.tanh,
    "erf": elementary.erf,
    "sin": elementary.sin,
    "cos": elementary.cos,
    "logical_not": torch.logical_not,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": lambda x, y: _with_nan(x, y, torch.where(x > y, x, y)),
    "minimum": lambda x, y: _with_nan(x, y, torch.where(x < y, x, y)),
    "remainder": _remainder,
    "floor_divide": _floor_divide,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}


def cast(x: Tensor, dtype: str) -> Tensor:
    """To bool: x != 0; to f32: nearest even; f32 to integer: towards zero, saturating, NaN 0; i64 to u8 saturates."""
    target = TORCH_DTYPES[dtype]
    if x.dtype == target or dtype == "f32":
        return x.to(target)
    if dtype == "bool":
        return x != 0
    if x.dtype == torch.float32:
        lowest, highest = (-(1 << 63), (1 << 63) - 1) if dtype == "i64" else (0, 255)
        above, below = x >= float(highest), x <= float(lowest)
        inside = torch.where(above | below | torch.isnan(x), elementary.number(0.0, x), x).to(torch.int64)
        return torch.where(above, highest, torch.where(below, lowest, inside)).to(target)
    return torch.clamp(x.to(torch.int64), 0, 255).to(target) if dtype == "u8" else x.to(target)


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """C starts at +0 and for k ascending becomes C + A[:, k] * B[k, :]; A may repeat."""
    lead = right.shape[:-2] or left.shape[:-2]
    out = torch.zeros((*lead, left.shape[-2], right.shape[-1]), dtype=torch.float32, device=left.device)
    for k in range(left.shape[-1]):
        out = torch.add(out, torch.mul(left[..., :, k : k + 1], right[..., k : k + 1, :]))
    return out


def sum_rows(x: Tensor) -> Tensor:
    """(n, D) → (1, D): 32 lanes from +0, row i into lane i mod 32; then halves."""
    lanes = torch.zeros((LANES, x.shape[1]), dtype=x.dtype, device=x.device)
    for start in range(0, x.shape[0], LANES):
        block = x[start : start + LANES]
        lanes[: block.shape[0]] += block
    for half in (16, 8, 4, 2, 1):
        lanes = lanes[:half] + lanes[half : 2 * half]
    return lanes


def _argmax(x: Tensor) -> Tensor:
    order = torch.arange(x.shape[-1], device=x.device)
    odd = torch.isnan(x) if x.dtype == torch.float32 else torch.zeros_like(x, dtype=torch.bool)
    greatest = torch.where(odd.any(-1, keepdim=True), odd, x == x.amax(-1, keepdim=True))
    return torch.where(greatest, order, x.shape[-1]).amin(-1, keepdim=True)


def _embedding(table: Tensor, ids: Tensor) -> Tensor:
    inside = (ids >= 0) & (ids < table.shape[0])
    zero = torch.zeros((), dtype=table.dtype, device=table.device)
    return torch.where(inside.unsqueeze(-1), table[torch.where(inside, ids, 0)], zero)


def _embedding_grad(gradient: Tensor, ids: Tensor, rows: int) -> Tensor:
    out = torch.zeros((rows, gradient.shape[-1]), dtype=torch.float32, device=gradient.device)
    for row, chosen in zip(gradient.reshape(-1, gradient.shape[-1]), ids.reshape(-1).tolist(), strict=True):
        if 0 <= chosen < rows:
            out[chosen] += row
    return out


def _take(x: Tensor, ids: Tensor) -> Tensor:
    inside = (ids >= 0) & (ids < x.shape[-1])
    return torch.where(
        inside, x.gather(-1, torch.where(inside, ids, 0)), torch.zeros((), dtype=x.dtype, device=x.device)
    )


def _scatter(values: Tensor, ids: Tensor, columns: int) -> Tensor:
    zero = torch.zeros((), dtype=values.dtype, device=values.device)
    return torch.where(ids == torch.arange(columns, device=values.device), values, zero)


def _full(dtype: str, pattern: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    if dtype == "f32":
        return bits(pattern, torch.empty(0, device=device)).expand(shape).contiguous()
    value = pattern - (1 << 64) if pattern >> 63 else pattern
    return torch.full(shape, value, dtype=TORCH_DTYPES[dtype], device=device)


def _uniform(key: Tensor, counter: Tensor, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Philox4x32-10 in 64-bit integers: upper 24 bits of word e mod 4 of block e div 4, times 2**-24."""
    count = 1
    for size in shape:
        count *= size
    c0 = torch.arange((count + 3) // 4, dtype=torch.int64, device=key.device)
    c1, c2 = torch.full_like(c0, int(counter) & _MASK), torch.full_like(c0, stream)
    c3 = torch.full_like(c0, (int(counter) >> 32) & _MASK)
    k0, k1 = int(key[0]) & _MASK, int(key[1]) & _MASK
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK
        c2, c3 = ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    words = torch.stack([c0, c1, c2, c3], 1).reshape(-1)[:count]
    return ((words >> 8).to(torch.float32) * elementary.number(2.0**-24, key)).reshape(shape)


@dataclass(frozen=True, slots=True)
class Call:
    """One node to compute."""

    node: Node
    inputs: Sequence[Tensor]
    shape: tuple[int, ...]
    """Of the output."""
    device: torch.device

    @property
    def attribute(self) -> int:
        """The first attribute."""
        return self.node.attributes[0]


def _triples(call: Call) -> list[tuple[int, ...]]:
    attributes = call.node.attributes
    return [attributes[start : start + 3] for start in range(0, len(attributes), 3)]


def _slice(call: Call) -> Tensor:
    return call.inputs[0][tuple(slice(*triple) for triple in _triples(call))]


def _pad(call: Call) -> Tensor:
    x = call.inputs[0]
    out = torch.zeros(call.shape, dtype=x.dtype, device=x.device)
    places = zip(_triples(call), x.shape, strict=True)
    out[tuple(slice(low, low + (size - 1) * (gap + 1) + 1, gap + 1) for (low, _, gap), size in places)] = x
    return out


def _windows(call: Call) -> Tensor:
    x, attributes = call.inputs[0], call.node.attributes
    axes = len(attributes) // 6
    lead = x.ndim - axes
    dtype = next(name for name, kind in TORCH_DTYPES.items() if kind == x.dtype)
    outside = _full(dtype, attributes[0], (), x.device)
    for axis in range(axes):
        size, count, start, step, dilation, interior = attributes[1 + 6 * axis : 7 + 6 * axis]
        k, o = torch.arange(size, device=x.device), torch.arange(count, device=x.device)
        place = start + step * o + dilation * k[:, None]
        position = torch.div(place, interior, rounding_mode="floor")
        # Axes done before have become two: the place within the window, and the window.
        at = lead + 2 * axis
        inside = (position * interior == place) & (position >= 0) & (position < x.shape[at])
        flat = torch.where(inside, position, 0).reshape(-1)
        taken = x.index_select(at, flat).reshape(*x.shape[:at], size, count, *x.shape[at + 1 :])
        x = torch.where(inside.reshape(size, count, *[1] * (axes - axis - 1)), taken, outside)
    return x.permute(*range(lead), *range(lead, x.ndim, 2), *range(lead + 1, x.ndim, 2))


def _rows(x: Tensor) -> Tensor:
    """The 2-D view."""
    return x.reshape(-1, x.shape[-1] if x.ndim else 1)


def _iota(call: Call) -> Tensor:
    axis, rank = call.node.attributes[0], len(call.shape)
    line = torch.arange(call.shape[axis], device=call.device)
    return line.reshape([-1 if i == axis else 1 for i in range(rank)]).expand(call.shape)


REFERENCE: dict[str, Callable[[Call], Tensor]] = {
    **{name: lambda call: canonical(ELEMENTWISE[call.node.operator](*call.inputs)) for name in ELEMENTWISE},
    "where": lambda call: torch.where(call.inputs[0], call.inputs[1], call.inputs[2]),
    "cast": lambda call: cast(call.inputs[0], DTYPES[call.attribute]),
    "reshape": lambda call: call.inputs[0].reshape(call.shape),
    "permute": lambda call: call.inputs[0].permute(call.node.attributes),
    "broadcast_to": lambda call: call.inputs[0].expand(call.shape),
    "slice": _slice,
    "concatenate": lambda call: torch.cat(list(call.inputs), call.attribute),
    "pad": _pad,
    "windows": _windows,
    "matmul": lambda call: canonical(matmul(*call.inputs)),
    "sum_last": lambda call: canonical(sum_rows(_rows(call.inputs[0]).T.contiguous())),
    "sum_first": lambda call: canonical(sum_rows(_rows(call.inputs[0]))),
    "argmax_last": lambda call: _argmax(call.inputs[0]),
    "max_last": lambda call: canonical(call.inputs[0].gather(-1, _argmax(call.inputs[0]))),
    "embedding": lambda call: _embedding(*call.inputs),
    "embedding_grad": lambda call: canonical(_embedding_grad(call.inputs[0], call.inputs[1], call.attribute)),
    "take_last": lambda call: _take(*call.inputs),
    "scatter_last": lambda call: _scatter(call.inputs[0], call.inputs[1], call.attribute),
    "full": lambda call: _full(DTYPES[call.attribute], call.node.attributes[1], call.shape, call.device),
    "iota": _iota,
    "uniform": lambda call: _uniform(call.inputs[0], call.inputs[1], call.attribute, call.shape),
}
"""Operator -> its formula in torch, NaNs of arithmetic canonical; the result has the output's elements in order."""


def compute(node: Node, inputs: Sequence[Tensor], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The output of a node, contiguous."""
    return REFERENCE[node.operator](Call(node, inputs, shape, device)).reshape(shape).contiguous()


def run(
    program: Program, state: Sequence[Tensor], batch: Sequence[Tensor], step_index: int
) -> tuple[list[Tensor], Tensor]:
    """One step of a program by the reference, on the device of its state: (state', loss)."""
    device = state[0].device
    values = [*state, *batch, torch.tensor(step_index, dtype=torch.int64, device=device)]
    types = input_types(program)
    for node in program.nodes:
        types.append(infer(node.operator, tuple(types[number] for number in node.inputs), node.attributes))
        values.append(compute(node, [values[number] for number in node.inputs], types[-1].shape, device))
    return [values[number] for number in program.state_outputs], values[program.loss]
