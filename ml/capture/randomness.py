"""Random numbers of a module, drawn inside the program: dropout, noise, sampling by torch's own calls.

The library's generators differ between processors. While a step runs, every random operation is replaced by a formula
over `uniform(key, step, stream)`: the Philox numbers of the opset, keyed by the task's seed, counted by the step index;
the stream is the number of the call within the step. The same replacement is in force while the step is recorded and
while it runs by PyTorch, so a check sees the same masks on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.lowering import lowers
from ml.capture.operations import Operations, Value
from proofs.arithmetic.generators import uniform
from proofs.program.types import TensorType

KEY = "constant.random_key"
"""The state entry of the key; a program without random numbers has none."""
_SMALLEST = 2.0**-25
"""Below the least positive number that a draw gives: an exponential is never zero."""


@torch.library.custom_op("gensyn::uniform", mutates_args=())
def uniform_numbers(key: torch.Tensor, step: torch.Tensor, stream: int, shape: Sequence[int]) -> torch.Tensor:
    """f32 in [0, 1) as the opset's operator `uniform` gives them."""
    drawn = uniform(key.numpy(), int(step), stream, np.arange(math.prod(shape)))
    return torch.from_numpy(drawn.copy()).reshape(tuple(shape))


@uniform_numbers.register_fake
def _shape_of_uniform(key: torch.Tensor, step: torch.Tensor, stream: int, shape: Sequence[int]) -> torch.Tensor:
    return key.new_empty(tuple(shape), dtype=torch.float32)


@lowers("gensyn.uniform.default")
def _uniform(ops: Operations, out: TensorType, key: Value, step: Value, stream: int, shape: Sequence[int]) -> Value:
    return ops.apply("uniform", key, step, attributes=(stream, *shape))


class Drawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, random operations draw from the key at a step."""

    def __init__(self, key: torch.Tensor, step: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._key = key
        self._step = step
        self._streams = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = str(func).split(".")[1]
        rule = _RULES.get(packet.rstrip("_"))
        if rule is None:
            if packet in REFUSED:
                raise Rejection(reasons.RANDOM, f"torch.{packet}; {REFUSED[packet]}")
            return func(*args, **(kwargs or {}))
        drawn = rule(self._next, func, args, kwargs or {})
        return args[0].copy_(drawn) if packet.endswith("_") else drawn

    def _next(self, shape: Sequence[int]) -> torch.Tensor:
        drawn: torch.Tensor = uniform_numbers(self._key, self._step, self._streams, list(shape))
        self._streams += 1
        return drawn


Draw = Callable[[Sequence[int]], torch.Tensor]


def _float32(kwargs: Any) -> None:
    dtype = kwargs.get("dtype")
    if dtype not in (None, torch.float32):
        raise Rejection(reasons.FOREIGN_DTYPE, f"random numbers of {dtype}; only float32 exists")


def _shape(func: Any, args: Any) -> Sequence[int]:
    """The shape to draw: that of the first argument, or the first argument."""
    return tuple(args[0].shape) if isinstance(args[0], torch.Tensor) else tuple(args[0])


def _normal(draw: Draw, shape: Sequence[int]) -> torch.Tensor:
    # G. Box and M. Muller, 1958: 1 - u lies in (0, 1].
    radius = torch.sqrt(torch.log(1.0 - draw(shape)) * -2.0)
    return radius * torch.cos(draw(shape) * (2.0 * math.pi))


def _rand(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    _float32(kwargs)
    return draw(_shape(func, args))


def _randn(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    _float32(kwargs)
    return _normal(draw, _shape(func, args))


def _bernoulli(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    chance = args[1] if len(args) > 1 else kwargs.get("p", None)
    chance = args[0] if chance is None else chance
    drawn: torch.Tensor = (draw(args[0].shape) < chance).to(args[0].dtype)
    return drawn


def _two(args: Any, first: float, second: float) -> tuple[float, float]:
    """The two settings after the tensor, or their defaults."""
    return (args[1] if len(args) > 1 else first), (args[2] if len(args) > 2 else second)


def _spread(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    low, high = _two(args, 0.0, 1.0)
    return draw(args[0].shape) * (high - low) + low


def _gaussian(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    if str(func) not in ("aten.normal_.default", "aten.normal_functional.default"):
        raise Rejection(reasons.RANDOM, f"{func}; write mean + std * torch.randn_like(mean)")
    mean, deviation = _two(args, 0.0, 1.0)
    return _normal(draw, args[0].shape) * deviation + mean


def _exponential(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    rate = args[1] if len(args) > 1 else 1.0
    return torch.clamp(-torch.log(1.0 - draw(args[0].shape)), min=_SMALLEST) / rate


def _integers(draw: Draw, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    low, high, shape = (args[0], args[1], args[2]) if not isinstance(args[1], list | tuple) else (0, args[0], args[1])
    if high - low > 1 << 24:
        raise Rejection(reasons.RANDOM, f"torch.randint over {high - low} numbers; at most {1 << 24}")
    return torch.floor(draw(shape) * float(high - low)).to(torch.int64) + low


_RULES: dict[str, Callable[[Draw, Any, Any, Any], torch.Tensor]] = {
    "rand": _rand,
    "rand_like": _rand,
    "randn": _randn,
    "randn_like": _randn,
    "bernoulli": _bernoulli,
    "uniform": _spread,
    "normal": _gaussian,
    "normal_functional": _gaussian,
    "exponential": _exponential,
    "randint": _integers,
}
REFUSED = {
    "randperm": "order the records beforehand: batches are drawn by a keyed permutation already",
    "multinomial": "add Gumbel noise, -log(-log(torch.rand_like(x))), to the logits and take argmax",
    "poisson": "draw it beforehand and give it with the data",
    "binomial": "sum comparisons of torch.rand with the probability",
    "geometric_": "use torch.rand and its formula",
    "log_normal_": "use torch.exp of torch.randn",
    "cauchy_": "use torch.rand and its formula",
    "randint_like": "use torch.randint",
    "random_": "use torch.randint",
}
"""Random operations without a formula, and what to write instead."""
