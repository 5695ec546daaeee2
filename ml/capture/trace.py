"""Recording a step as an ATen graph and lowering it to a program.

`make_fx` on fake tensors gives one graph of forward, loss, backward and optimizer; it depends on the module only, not
on threads, hash seeds or the processor. Every node is lowered by its rule or refused with its name and its module.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture import (  # noqa: F401  (they register their rules)
    convolution,
    functions,
    indexing,
    movement,
    normalisation,
    pooling,
    scans,
)
from ml.capture.builder import Builder
from ml.capture.formulas import formulas
from ml.capture.indexing import written_out
from ml.capture.lowering import RULES
from ml.capture.normalisation import MUTATES
from ml.capture.operations import Operations, Value
from ml.capture.optimizers import Optimizer, Tensors
from ml.capture.precision import FULL, is_product, rounded_values
from ml.capture.randomness import KEY, Drawn
from ml.capture.refusals import Places, advice_for, first_use, foreign_dtype, place_of, untraceable
from ml.capture.step import LossFunction, Step, make_step
from proofs.program.types import (
    BOOL,
    F32,
    I64,
    U8,
    BatchInput,
    Fill,
    Given,
    Program,
    Seed,
    StateEntry,
    TensorType,
    Uniform,
)

DTYPES = {torch.float32: F32, torch.int64: I64, torch.bool: BOOL, torch.uint8: U8}
"""The opset's name of each torch dtype that it has."""

Initial = Mapping[str, Fill | Uniform | Given | Seed]


def capture(
    module: nn.Module,
    loss: LossFunction,
    optimizer: Optimizer,
    batch: Tensors,
    initial: Initial | None = None,
    precision: str = FULL,
) -> Program:
    """The program of one training step of `module`.

    `batch` holds one example batch by data set tensor name, all with the same leading dimension. `initial` says how
    each state entry starts; moments start at zero, what is not named is `Given` by the task's initial checkpoint.
    `precision` is one of `PRECISIONS`.
    Raises Rejection (E1530, E1531, or E15 of the program's own rules).
    """
    step = make_step(module, loss, optimizer)
    if not any(name.startswith("parameter.") for name in step.names):
        raise Rejection(reasons.NOT_TRACEABLE, "the module has no parameter that takes a gradient")
    types = {name: type_of(value, f"the state's {name}") for name, value in step.state.items()}
    sizes = {value.shape[0] for value in batch.values()}
    if len(sizes) != 1:
        raise Rejection(reasons.NOT_TRACEABLE, f"the batch's tensors have leading dimensions {sorted(sizes)}")
    inputs = tuple(BatchInput(name, type_of(value[0], f"the batch's {name}")) for name, value in batch.items())
    graph = _trace(step, module, batch)
    places = list(graph.find_nodes(op="placeholder"))
    # The key of random numbers is an entry only where some are drawn.
    names = [name for name, node in zip(step.names, places, strict=False) if name != KEY or len(node.users) > 1]
    state = tuple(StateEntry(name, types[name], _initial(name, initial or {})) for name in names)
    builder = Builder(state, sizes.pop(), inputs)

    def where(target: str) -> str:
        with Drawn(torch.zeros(2, dtype=torch.int64), torch.tensor(0)):
            return first_use(target, module, lambda: loss(module, batch))

    drops = {node for name, node in zip(step.names, places, strict=False) if name not in names}
    outputs = _lower(graph, builder, drops, where, precision)
    return builder.finish(tuple(outputs[:-1]), outputs[-1])


def type_of(value: torch.Tensor, what: str = "a tensor") -> TensorType:
    """The opset's type of a tensor; Rejection when it has no such dtype."""
    if value.dtype not in DTYPES:
        raise foreign_dtype(value.dtype, what)
    return TensorType(DTYPES[value.dtype], tuple(value.shape))


def _initial(name: str, initial: Initial) -> Fill | Uniform | Given | Seed:
    if name in initial:
        return initial[name]
    if name == KEY:
        return Seed()
    if name.startswith("optimizer."):
        return Fill(0x3F800000 if name.endswith("_power") else 0)
    return Given()


_OWN = frozenset(
    {
        *("native_layer_norm_backward", "embedding_dense_backward", "_softmax_backward_data"),
        *("_log_softmax_backward_data", "native_batch_norm_backward", "native_group_norm_backward"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("roll", "flip", "cumsum", "diagonal", "diagonal_scatter", "unfold", "unfold_backward", "index_put"),
        *("bernoulli", "rand_like", "randn_like", "uniform", "exponential", "normal_functional"),
    }
)
"""Operators that have a rule although the framework knows a decomposition."""
_EXTRA = (
    *("gelu", "gelu_backward", "elu", "hardtanh", "t", "std", "softshrink", "softshrink_backward", "hardshrink"),
    *("hardshrink_backward", "nan_to_num", "glu", "glu_backward", "logit", "logit_backward", "index_add", "xlogy"),
    *("diagonal_backward", "rrelu_with_noise", "huber_loss_backward", "smooth_l1_loss_backward"),
)
"""Operators whose decompositions are used beyond the core ones."""


def _decompositions() -> dict[Any, Any]:
    core: dict[Any, Any] = dict(core_aten_decompositions())
    table = {target: rule for target, rule in core.items() if _packet(target) not in _OWN}
    return table | get_decompositions([getattr(torch.ops.aten, name) for name in _EXTRA])


def _packet(target: Any) -> str:
    return str(target).split(".")[1] if "." in str(target) else str(target)


def _trace(step: Step, module: nn.Module, batch: Tensors) -> fx.Graph:
    count = len(step.names)

    def flat(*arguments: torch.Tensor) -> list[torch.Tensor]:
        state = dict(zip(step.names, arguments[:count], strict=True))
        moved, loss = step.formula(state, dict(zip(batch, arguments[count:-1], strict=True)), arguments[-1])
        return [*moved.values(), loss]

    functional = torch.func.functionalize(flat, remove="mutations")

    def drawn(*arguments: torch.Tensor) -> list[torch.Tensor]:
        with Drawn(arguments[step.names.index(KEY)], arguments[-1]):
            return functional(*arguments)  # type: ignore[no-any-return]

    places = Places(module)
    try:
        with torch.backends.mkldnn.flags(enabled=False), places.followed(), formulas():
            traced = make_fx(drawn, decomposition_table=_decompositions(), tracing_mode="fake")(
                *step.state.values(), *batch.values(), torch.zeros((), dtype=torch.int64)
            )
    except Rejection as refusal:
        raise Rejection(refusal.reason, f"{place_of(refusal, places)}: {refusal.message}") from None
    except Exception as error:
        raise untraceable(error, places) from error
    traced.graph.eliminate_dead_code()
    graph: fx.Graph = traced.graph
    return graph


def _lower(graph: fx.Graph, builder: Builder, drops: set[fx.Node], users: Any, precision: str) -> list[int]:
    """Lower every node; the value numbers of the outputs. `drops`: inputs that the program does not have."""
    ops = Operations(builder)
    known: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node in drops:
            continue
        if node.op == "placeholder":
            known[node] = ops.value(len(known))
        elif node.op == "output":
            return [known[item].number for item in node.args[0] if item not in drops]
        elif node.op == "get_attr":
            known[node] = written_out(ops, getattr(graph.owning_module, str(node.target)))
        elif node.target is operator.getitem:
            known[node] = known[node.args[0]][node.args[1]]
        else:
            lowered = _lower_node(ops, node, known, users, precision)
            for place, written in enumerate(MUTATES.get(str(node.target), ())):
                # The operation writes into an argument: whoever reads that one later sees the new value.
                argument = node.args[written]
                if argument is not None and lowered[3:]:
                    known[argument] = lowered[3 + place]
            known[node] = lowered
    raise Rejection(reasons.NOT_TRACEABLE, "the graph has no output")


def _lower_node(ops: Operations, node: fx.Node, known: dict[fx.Node, Any], users: Any, precision: str) -> Any:
    name = str(node.target)
    rule = RULES.get(name)
    if rule is None or node.op != "call_function":
        raise Rejection(reasons.NOT_LOWERABLE, f"{name} in {users(name)}; {advice_for(name)}")
    result = node.meta.get("val")
    try:
        out = type_of(result, f"the result of {name}") if isinstance(result, torch.Tensor) else None
    except Rejection as refusal:
        raise Rejection(refusal.reason, f"{users(name)}: {refusal.message}") from None
    arguments = fx.map_arg(node.args, lambda item: known[item])
    keywords = {key: fx.map_arg(value, lambda item: known[item]) for key, value in node.kwargs.items()}
    keywords = {key: value for key, value in keywords.items() if key not in _LAYOUT_KEYWORDS}
    rounds = is_product(name, precision)
    if rounds:
        arguments, keywords = rounded_values(ops, arguments), rounded_values(ops, keywords)
    try:
        lowered = rule(ops, out, *arguments, **keywords)
    except Rejection as refusal:
        raise Rejection(refusal.reason, f"{name} in {users(name)}: {refusal.message}") from None
    except TypeError as error:
        raise Rejection(reasons.NOT_LOWERABLE, f"{name} in {users(name)}: form not known ({error})") from None
    if out is not None and isinstance(lowered, Value) and lowered.type != out:
        raise Rejection(reasons.NOT_LOWERABLE, f"{name} in {users(name)}: lowered to {lowered.type}, traced {out}")
    return rounded_values(ops, lowered) if rounds else lowered


_LAYOUT_KEYWORDS = frozenset({"layout", "device", "pin_memory", "memory_format", "dtype", "non_blocking"})
