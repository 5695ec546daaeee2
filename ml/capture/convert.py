"""From torch.optim and torch.optim.lr_scheduler to the optimizers and schedules of this package, or a refusal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn, optim
from torch.optim import lr_scheduler

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.optimizers import Adam, AdamW, Group, Optimizer, Sgd
from ml.capture.schedules import Cosine, Formula, Linear, Milestones, Piecewise, Product, Schedule, StepDecay

_KINDS: dict[type, type[Sgd] | type[Adam]] = {optim.SGD: Sgd, optim.Adam: Adam, optim.AdamW: AdamW}
_REFUSED = ("maximize", "amsgrad")
"""Settings that change the formula."""
_COMMON = ("lr", "weight_decay")
"""Settings that a parameter group may have of its own."""


def bad(message: str) -> Rejection:
    """An optimizer or schedule that has no formula here."""
    return Rejection(reasons.BAD_OPTIMIZER, message)


def from_torch(optimizer: optim.Optimizer, module: nn.Module, schedule: Any = None) -> Optimizer:
    """The formulas of a fresh torch optimizer over `module`'s parameters.

    Each parameter group keeps its learning rate and weight decay; everything else must agree between groups. A schedule
    is a torch scheduler that has not stepped yet, or a schedule of this package. Raises Rejection BAD_OPTIMIZER.
    """
    kind = _KINDS.get(type(optimizer))
    if kind is None:
        raise bad(f"torch.optim.{type(optimizer).__name__}; give SGD, Adam or AdamW")
    if optimizer.state:
        raise bad("the optimizer has done steps already; give a fresh one")
    groups = optimizer.param_groups
    first = groups[0]
    for group in groups:
        for name in _REFUSED:
            if group.get(name):
                raise bad(f"{type(optimizer).__name__} with {name}=True; leave it False")
        for name, value in group.items():
            if name not in ("params", "initial_lr", "param_names", *_COMMON) and value != first[name]:
                raise bad(f"parameter groups with different {name}; only lr and weight_decay may differ")
    fields: dict[str, Any] = {
        "lr": _rate(first),
        "weight_decay": float(first["weight_decay"]),
        "schedule": schedule_of(schedule),
    }
    if kind is Sgd:
        names = ("momentum", "dampening")
        fields |= {name: float(first[name]) for name in names} | {"nesterov": bool(first["nesterov"])}
    else:
        fields |= {"beta1": float(first["betas"][0]), "beta2": float(first["betas"][1]), "epsilon": float(first["eps"])}
    if kind is Adam and first.get("decoupled_weight_decay"):
        kind = AdamW
    return kind(**fields, groups=_groups(groups, module))


def _rate(group: Mapping[str, Any]) -> float:
    """The rate that schedules multiply."""
    return float(group.get("initial_lr", group["lr"]))


def _groups(groups: Sequence[Mapping[str, Any]], module: nn.Module) -> tuple[Group, ...]:
    names = {id(value): name for name, value in module.named_parameters()}
    held = [parameter for group in groups for parameter in group["params"]]
    strange = sum(id(parameter) not in names for parameter in held)
    if strange:
        raise bad(f"{strange} of the optimizer's parameters are not the module's")
    have = {id(parameter) for parameter in held}
    left = [name for name, value in module.named_parameters() if value.requires_grad and id(value) not in have]
    if left:
        raise bad(
            f"the optimizer does not have {', '.join(left[:3])}; set requires_grad_(False) on what is not trained"
        )
    if len(groups) == 1:
        return ()
    return tuple(
        Group(frozenset(names[id(item)] for item in group["params"]), _rate(group), float(group["weight_decay"]))
        for group in groups
    )


def schedule_of(schedule: Any) -> Schedule | None:
    """A schedule of this package out of one, a function of the step, a fresh torch scheduler or None."""
    if schedule is None or isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, lr_scheduler.LRScheduler):
        return _scheduler(schedule)
    if callable(schedule):
        return Formula(schedule)
    raise bad(f"the schedule is a {type(schedule).__name__}; give a torch scheduler or a function of the step")


def _scheduler(given: Any) -> Schedule:
    if getattr(given, "last_epoch", 0) > 0:
        raise bad("the schedule has done steps already; give a fresh one")
    name = type(given).__name__
    match name:
        case "LinearLR":
            return Linear(given.total_iters, given.start_factor, given.end_factor)
        case "ConstantLR":
            # The factor applies until total_iters, then it is gone.
            part = Linear(1, given.factor, given.factor)
            return Piecewise((part, Linear(1, 1.0, 1.0)), (given.total_iters,))
        case "StepLR":
            return StepDecay(given.step_size, given.gamma)
        case "MultiStepLR":
            return Milestones(tuple(sorted(given.milestones.elements())), given.gamma)
        case "ExponentialLR":
            return StepDecay(1, given.gamma)
        case "CosineAnnealingLR":
            return Cosine(given.T_max, _share(given.eta_min, given), repeats=True)
        case "SequentialLR":
            return Piecewise(tuple(_scheduler(part) for part in given._schedulers), tuple(given._milestones))
        case "ChainedScheduler":
            return Product(tuple(_scheduler(part) for part in given._schedulers))
    raise bad(
        f"{name} is no formula of the step here; give StepLR, MultiStepLR, ExponentialLR, ConstantLR, LinearLR, "
        "CosineAnnealingLR, SequentialLR of these, or a function: i64 step tensor -> f32 factor"
    )


def _share(least: float, given: Any) -> float:
    shares = [float(least / base) for base in given.base_lrs]
    if len(shares) > 1 and not math.isclose(min(shares), max(shares)):
        raise bad("eta_min with groups of different rates; use eta_min=0")
    return max(shares)
