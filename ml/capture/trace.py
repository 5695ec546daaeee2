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
from torch.utils._python_dispatch import TorchDispatchMode

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture import convolution, movement, normalisation, pooling  # noqa: F401  (they register their rules)
from ml.capture.builder import Builder
from ml.capture.lowering import RULES
from ml.capture.normalisation import MUTATES
from ml.capture.operations import Operations, Value
from ml.capture.optimizers import Optimizer, Tensors
from ml.capture.step import LossFunction, Step, make_step
from proofs.program.types import BOOL, F32, I64, U8, BatchInput, Fill, Given, Program, StateEntry, TensorType, Uniform

DTYPES = {torch.float32: F32, torch.int64: I64, torch.bool: BOOL, torch.uint8: U8}
"""The opset's name of each torch dtype that it has."""

Initial = Mapping[str, Fill | Uniform | Given]


def capture(
    module: nn.Module, loss: LossFunction, optimizer: Optimizer, batch: Tensors, initial: Initial | None = None
) -> Program:
    """The program of one training step of `module`.

    `batch` holds one example batch by data set tensor name, all with the same leading dimension. `initial` says how
    each state entry starts; moments start at zero, what is not named is `Given` by the task's initial checkpoint.
    Raises Rejection (E1530, E1531, or E15 of the program's own rules).
    """
    step = make_step(module, loss, optimizer)
    state = tuple(StateEntry(name, type_of(value), _initial(name, initial or {})) for name, value in step.state.items())
    sizes = {value.shape[0] for value in batch.values()}
    if len(sizes) != 1:
        raise Rejection(reasons.NOT_TRACEABLE, f"the batch's tensors have leading dimensions {sorted(sizes)}")
    inputs = tuple(BatchInput(name, type_of(value[0])) for name, value in batch.items())
    builder = Builder(state, sizes.pop(), inputs)
    graph = _trace(step, batch)
    outputs = _lower(graph, builder, lambda target: _users_of(target, module, loss, batch))
    return builder.finish(tuple(outputs[:-1]), outputs[-1])


def type_of(value: torch.Tensor) -> TensorType:
    """The opset's type of a tensor; Rejection when it has no such dtype."""
    if value.dtype not in DTYPES:
        raise Rejection(reasons.NOT_LOWERABLE, f"dtype {value.dtype}; the opset has float32, int64, bool and uint8")
    return TensorType(DTYPES[value.dtype], tuple(value.shape))


def _initial(name: str, initial: Initial) -> Fill | Uniform | Given:
    if name in initial:
        return initial[name]
    if name.startswith("optimizer."):
        return Fill(0x3F800000 if name.endswith("_power") else 0)
    return Given()


def _decompositions() -> dict[Any, Any]:
    aten = torch.ops.aten
    table = dict(core_aten_decompositions())
    for own in (
        *("native_layer_norm_backward", "embedding_dense_backward", "_softmax_backward_data"),
        *("native_batch_norm_backward", "native_group_norm_backward"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    ):
        table.pop(getattr(aten, own).default, None)
    table.pop(aten._log_softmax_backward_data.default, None)
    table.update(get_decompositions([aten.gelu, aten.gelu_backward, aten.elu, aten.hardtanh, aten.t, aten.std]))
    return table


def _trace(step: Step, batch: Tensors) -> fx.Graph:
    count = len(step.names)

    def flat(*arguments: torch.Tensor) -> list[torch.Tensor]:
        state = dict(zip(step.names, arguments[:count], strict=True))
        moved, loss = step.run(state, dict(zip(batch, arguments[count:-1], strict=True)), arguments[-1])
        return [*moved.values(), loss]

    functional = torch.func.functionalize(flat, remove="mutations")
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            traced = make_fx(functional, decomposition_table=_decompositions(), tracing_mode="fake")(
                *step.state.values(), *batch.values(), torch.zeros((), dtype=torch.int64)
            )
    except Rejection:
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, AssertionError) as error:
        raise Rejection(reasons.NOT_TRACEABLE, f"{type(error).__name__}: {str(error)[:500]}") from error
    traced.graph.eliminate_dead_code()
    graph: fx.Graph = traced.graph
    return graph


def _lower(graph: fx.Graph, builder: Builder, users: Any) -> list[int]:
    """Lower every node; the value numbers of the outputs."""
    ops = Operations(builder)
    known: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            known[node] = ops.value(len(known))
        elif node.op == "output":
            return [known[item].number for item in node.args[0]]
        elif node.target is operator.getitem:
            known[node] = known[node.args[0]][node.args[1]]
        else:
            lowered = _lower_node(ops, node, known, users)
            for place, written in enumerate(MUTATES.get(str(node.target), ())):
                # The operation writes into an argument: whoever reads that one later sees the new value.
                argument = node.args[written]
                if argument is not None and lowered[3:]:
                    known[argument] = lowered[3 + place]
            known[node] = lowered
    raise Rejection(reasons.NOT_TRACEABLE, "the graph has no output")


def _lower_node(ops: Operations, node: fx.Node, known: dict[fx.Node, Any], users: Any) -> Any:
    name = str(node.target)
    rule = RULES.get(name)
    if rule is None or node.op != "call_function":
        raise Rejection(reasons.NOT_LOWERABLE, f"{name} in {users(name)}; write it with operations of the opset")
    result = node.meta.get("val")
    out = type_of(result) if isinstance(result, torch.Tensor) else None
    arguments = fx.map_arg(node.args, lambda item: known[item])
    keywords = {key: fx.map_arg(value, lambda item: known[item]) for key, value in node.kwargs.items()}
    keywords = {key: value for key, value in keywords.items() if key not in _LAYOUT_KEYWORDS}
    try:
        lowered = rule(ops, out, *arguments, **keywords)
    except Rejection as refusal:
        raise Rejection(refusal.reason, f"{name} in {users(name)}: {refusal.message}") from None
    except TypeError as error:
        raise Rejection(reasons.NOT_LOWERABLE, f"{name} in {users(name)}: form not known ({error})") from None
    if out is not None and isinstance(lowered, Value) and lowered.type != out:
        raise Rejection(reasons.NOT_LOWERABLE, f"{name} in {users(name)}: lowered to {lowered.type}, traced {out}")
    return lowered


_LAYOUT_KEYWORDS = frozenset({"layout", "device", "pin_memory", "memory_format", "dtype", "non_blocking"})


class _Users(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in which module each ATen operation is first used by the forward pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first: dict[str, str] = {}
        self.path: list[str] = []
        self.hooks: list[Any] = []
        for name, part in module.named_modules():
            label = f"{name or 'the module'} ({type(part).__name__})"
            self.hooks.append(part.register_forward_pre_hook(lambda *_, label=label: self.path.append(label)))
            self.hooks.append(part.register_forward_hook(lambda *_: (self.path.pop(), None)[1]))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.first.setdefault(str(func), self.path[-1] if self.path else "the loss")
        return func(*args, **(kwargs or {}))


def _users_of(target: str, module: nn.Module, loss: LossFunction, batch: Tensors) -> str:
    """Where an operation comes from, for people: a module's name, or the loss, backward pass or optimizer."""
    mode = _Users(module)
    try:
        with torch.no_grad(), mode:
            loss(module, batch)
    finally:
        for hook in mode.hooks:
            hook.remove()
    return mode.first.get(target, "the backward pass or the optimizer")
