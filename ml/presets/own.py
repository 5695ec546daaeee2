"""A user's own model: a function in a Python file, run on the submitter's machine; only the program travels.

The function returns a module, `(module, loss)`, `(module, loss, optimizer)`, `(module, loss, optimizer, schedule)`, or
a dict with these names and `clip_norm`, `clip_value`, `initial`. It may take one argument: a `Data`.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.nn import functional

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.convert import from_torch, schedule_of
from ml.capture.optimizers import Adam, Optimizer, Sgd, Tensors
from ml.capture.precision import FULL
from ml.capture.step import LossFunction, make_step
from ml.capture.trace import DTYPES, Initial, capture
from ml.presets.build import Built, Logits, initial_rules
from ml.presets.configuration import parse_optimizer
from ml.presets.tuning import Tuning, module_values
from proofs.program.types import Given, TensorType

FIELDS = ("module", "loss", "optimizer", "schedule", "clip_norm", "clip_value", "initial")
"""What a function may return, by name; a tuple has the first four in this order."""
CRITERIA: dict[str, nn.Module] = {
    "cross_entropy": nn.CrossEntropyLoss(),
    "mse": nn.MSELoss(),
    "bce": nn.BCEWithLogitsLoss(),
    "l1": nn.L1Loss(),
}
"""Losses of (output, target) by name."""
TORCH_SEED = 0
"""What torch's generator starts from before the user's function is called, so that it makes the same weights again."""


@dataclass(frozen=True)
class Data:
    """What a model may need to know of the data."""

    records: int
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of one record of each tensor, such as {"x": (64,), "y": ()}."""
    dtypes: Mapping[str, torch.dtype]
    vocabulary: tuple[str, ...]
    """The character of each token, or the class of each label; may be empty."""


def bad(message: str) -> Rejection:
    """The user's file or what its function returned is not usable."""
    return Rejection(reasons.BAD_MODEL_FILE, message)


def build_own(
    reference: str,
    base: Path,
    records: Mapping[str, TensorType],
    data: Data,
    batch_size: int,
    *,
    optimizer: Mapping[str, Any] | None = None,
    loss: str = "cross_entropy",
    steps: int = 0,
    initial: str | None = None,
    tuning: Tuning | None = None,
    precision: str = FULL,
) -> Built:
    """Capture the training step that `reference` (`file.py:function`, relative to `base`) describes.

    `optimizer`, `loss` and `initial` apply where the function returns none; `tuning` to the module that it returns.
    Raises Rejection BAD_MODEL_FILE, BAD_WEIGHTS, BAD_ADAPTERS, or what capture says.
    """
    made = _fields(call(reference, base, data))
    module = made["module"]
    if not isinstance(module, nn.Module):
        raise bad(f"{reference} returned a {type(module).__name__} for the module; it is to be a torch.nn.Module")
    module.train()
    start = initial_values(module, str(made.get("initial") or initial or "module"))
    if tuning is not None:
        if tuning.lora is not None and isinstance(made.get("optimizer"), optim.Optimizer):
            raise bad("the file's optimizer has the weights that adapters freeze; write optimizer under [train]")
        start = tuning.prepare(module, start)
    rule = optimizer_of(made, module, optimizer, steps)
    given = loss if made.get("loss") is None else made["loss"]
    tensors = {
        name: torch.zeros((batch_size, *type_.shape), dtype=_TORCH[type_.dtype]) for name, type_ in records.items()
    }
    objective, logits = loss_of(given, module, tuple(tensors))
    program = capture(module, objective, rule, tensors, start, precision)
    return Built(program, module, objective, rule, tensors, logits, precision)


_TORCH = {name: dtype for dtype, name in DTYPES.items()}


def call(reference: str, base: Path, data: Data) -> Any:
    """What the function that `reference` names returns. Raises Rejection BAD_MODEL_FILE with the line that failed."""
    name, separator, function_name = reference.rpartition(":")
    path = base / name
    if not separator or not function_name.isidentifier():
        raise bad(f'{reference!r} is no model; write "model.py:make", a file and a function in it')
    if not path.is_file():
        raise bad(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise bad(f"{path} is no Python file")
    loaded = importlib.util.module_from_spec(spec)
    before, folder = dict(sys.modules), str(path.absolute().parent)
    sys.path.insert(0, folder)
    sys.modules[path.stem] = loaded
    try:
        torch.manual_seed(TORCH_SEED)
        spec.loader.exec_module(loaded)
        function = getattr(loaded, function_name, None)
        if not callable(function):
            raise bad(f"{path.name} has no function {function_name}")
        return function(data) if inspect.signature(function).parameters else function()
    except Rejection:
        raise
    except Exception as error:
        lines = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
        where = f"{path.name}:{lines[-1].lineno}: {lines[-1].line}" if lines else path.name
        raise bad(f"{where}: {type(error).__name__}: {str(error)[:300]}") from error
    finally:
        sys.path.remove(folder)
        if path.stem in before:
            sys.modules[path.stem] = before[path.stem]


def _fields(made: Any) -> dict[str, Any]:
    """What was returned, by name."""
    if isinstance(made, Mapping):
        strange = sorted(set(map(str, made)) - set(FIELDS))
        if strange:
            raise bad(f"the dict has {', '.join(strange)}; it may have {', '.join(FIELDS)}")
        fields = dict(made)
    elif isinstance(made, tuple):
        if not 1 <= len(made) <= 4:
            raise bad(
                f"a tuple of {len(made)} was returned; it is (module, loss, optimizer, schedule), or its beginning"
            )
        fields = dict(zip(FIELDS, made, strict=False))
    else:
        fields = {"module": made}
    if fields.get("module") is None:
        raise bad("no module was returned")
    return fields


def optimizer_of(
    made: Mapping[str, Any], module: nn.Module, configured: Mapping[str, Any] | None, steps: int
) -> Optimizer:
    given, schedule = made.get("optimizer"), made.get("schedule")
    if given is not None and configured is not None:
        raise bad("the optimizer is in the model's file and in the task file; leave it out of one of them")
    rule: Optimizer
    if isinstance(given, optim.Optimizer):
        rule = from_torch(given, module, schedule)
    else:
        source = configured if given is None else given
        if isinstance(source, Sgd | Adam):
            rule = source
        elif isinstance(source, Mapping):
            rule = parse_optimizer(source, steps)
        elif source is None:
            raise bad(
                'there is no optimizer; return one, or write optimizer = { name = "adamw", lr = 1e-3 } under [train]'
            )
        else:
            raise bad(f"the optimizer is a {type(source).__name__}; give a torch.optim SGD, Adam or AdamW, or a dict")
        if schedule is not None:
            rule = replace(rule, schedule=schedule_of(schedule))
    norm, value = (_limit(name, made.get(name)) for name in ("clip_norm", "clip_value"))
    return replace(rule, clip_norm=norm or rule.clip_norm, clip_value=value or rule.clip_value)


def _limit(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise bad(f"{name} is {value!r}; it is a number above 0")
    return float(value)


def loss_of(given: Any, module: nn.Module, names: tuple[str, ...]) -> tuple[LossFunction, Logits | None]:
    """A loss over batches, and, where outputs are class scores, what gives (scores, classes) of a batch.

    A name of `CRITERIA`, a torch.nn loss or a function of torch.nn.functional is applied to (output, target): the
    target is the tensor `y` (or `target`), the inputs are all others, by the names that `forward` has. With `tokens`
    alone each is predicted from those before. Anything else callable is `loss(model, batch)`.
    """
    if isinstance(given, str):
        if given not in CRITERIA:
            raise bad(f"loss {given!r}; there are {', '.join(CRITERIA)}")
        given = CRITERIA[given]
    is_criterion = isinstance(given, nn.Module) or str(getattr(given, "__module__", "")).startswith("torch.nn")
    if not is_criterion:
        if not callable(given):
            raise bad(f"the loss is a {type(given).__name__}; give a torch.nn loss, or a function loss(model, batch)")
        return given, None
    split = _split(module, names)

    def loss(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        output, target = split(model, batch)
        value: torch.Tensor = given(output, _fitting(given, output, target))
        return value

    return loss, split if _of_classes(given) else None


def _of_classes(criterion: Any) -> bool:
    """Whether a criterion takes scores of classes."""
    if isinstance(criterion, nn.Module):
        return isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss)
    return criterion in (functional.cross_entropy, functional.nll_loss)


def _split(module: nn.Module, names: tuple[str, ...]) -> Logits:
    """How a batch is divided into the model's output and the target."""
    if set(names) == {"tokens"}:

        def next_token(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            tokens = batch["tokens"].to(torch.int64)
            scores = model(tokens[:, :-1])
            return scores.reshape(-1, scores.shape[-1]), tokens[:, 1:].reshape(-1)

        return next_token
    target = next((name for name in ("y", "target") if name in names), None)
    inputs = [name for name in names if name != target]
    if target is None or not inputs:
        raise bad(f"the data has {', '.join(names)}: no y; return a function loss(model, batch) beside the module")
    parameters = list(inspect.signature(module.forward).parameters)
    if len(inputs) > 1 and not set(inputs) <= set(parameters):
        raise bad(f"the data has {', '.join(inputs)}, forward takes {', '.join(parameters)}; give them the same names")

    def both(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(inputs) == 1:
            return model(batch[inputs[0]]), batch[target]
        return model(**{name: batch[name] for name in inputs}), batch[target]

    return both


def _fitting(criterion: Any, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The target as the criterion needs it: class numbers as they are, else numbers in the output's shape."""
    if _of_classes(criterion):
        return target
    if target.numel() == output.numel():
        target = target.reshape(output.shape)
    return target if target.is_floating_point() or not output.is_floating_point() else target.to(output.dtype)


def initial_values(module: nn.Module, kind: str) -> Initial:
    """How the state starts: `module`, as its tensors are now; `seed`, from the task's seed where a rule is known.

    Tensors whose elements are all the same are filled and need no checkpoint.
    """
    if kind not in ("module", "seed"):
        raise bad(f'initial is {kind!r}; write "module" (the weights that it has) or "seed" (from the task\'s seed)')
    rules = dict(module_values(module))
    if kind == "seed":
        rules |= {name: rule for name, rule in initial_rules(module).items() if name in rules}
    return rules


def given_state(built: Built) -> Tensors:
    """The tensors of the task's initial checkpoint: the module's present values of the `Given` entries."""
    state = make_step(built.module, built.loss, built.optimizer).state
    return {entry.name: state[entry.name] for entry in built.program.state if isinstance(entry.initial, Given)}
