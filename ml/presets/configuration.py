"""Checked configurations of presets and optimizers, from plain dicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, TypeVar

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.optimizers import Adam, AdamW, Optimizer, Sgd
from ml.capture.schedules import Cosine, Linear, Schedule, StepDecay, warmed_up
from ml.presets.models import ACTIVATIONS

T = TypeVar("T")
SIZE_MAX = 1 << 20
"""Largest single size in a configuration; the program's own bounds are checked with the program."""


@dataclass(frozen=True)
class MlpConfig:
    """x f32 (inputs,) and y i64 () per record."""

    inputs: int
    classes: int
    widths: tuple[int, ...] = (128,)
    activation: str = "relu"


@dataclass(frozen=True)
class GptConfig:
    """tokens (context + 1,) per record, u8 or i64."""

    context: int
    vocabulary: int
    layers: int = 4
    width: int = 128
    heads: int = 4
    tokens: str = "u8"


@dataclass(frozen=True)
class CnnConfig:
    """x (channels, height, width), u8 or f32, and y i64 () per record."""

    channels: int
    height: int
    width: int
    classes: int
    widths: tuple[int, ...] = (32, 64)
    """Channels after each convolution; each is followed by a pooling that halves the image."""
    pixels: str = "f32"


@dataclass(frozen=True)
class ResnetConfig:
    """x (channels, height, width), u8 or f32, and y i64 () per record."""

    channels: int
    height: int
    width: int
    classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of each stage; from the second on a stage halves the image."""
    blocks: int = 3
    """Residual blocks of a stage."""
    pixels: str = "f32"


@dataclass(frozen=True)
class LstmConfig:
    """tokens (context + 1,) per record, u8 or i64."""

    context: int
    vocabulary: int
    layers: int = 1
    width: int = 128
    tokens: str = "u8"


@dataclass(frozen=True)
class VitConfig:
    """x (channels, height, width), u8 or f32, and y i64 () per record."""

    channels: int
    height: int
    width: int
    classes: int
    patch: int = 4
    """Pixels a side of a patch."""
    layers: int = 4
    embedding: int = 64
    """Width of a token."""
    heads: int = 4
    pixels: str = "f32"


Preset = MlpConfig | GptConfig | CnnConfig | ResnetConfig | LstmConfig | VitConfig
PRESETS: dict[str, type[Preset]] = {
    "mlp": MlpConfig,
    "cnn": CnnConfig,
    "resnet": ResnetConfig,
    "vit": VitConfig,
    "lstm": LstmConfig,
    "gpt": GptConfig,
}
OPTIMIZERS: dict[str, type[Sgd] | type[Adam]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
_BELOW_ONE = ("momentum", "beta1", "beta2", "dampening")


@dataclass(frozen=True)
class ScheduleConfig:
    """A warm-up from 0 over `warmup` steps, then one of the schedules by name."""

    kind: str
    """constant, cosine, linear or step."""
    warmup: int = 0
    steps: int = 0
    """cosine, linear: steps from the warm-up's end to `end`; 0 is the rest of the training."""
    end: float = 0.0
    """cosine, linear: the last factor."""
    every: int = 0
    """step: after how many steps."""
    decay: float = 0.1
    """step: times what."""


def bad(message: str) -> Rejection:
    """A configuration that is not usable."""
    return Rejection(reasons.BAD_PRESET, message)


def parse_preset(config: Mapping[str, Any]) -> Preset:
    """`{"name": "mlp", …}`, with a name of `PRESETS` and its fields. Raises Rejection BAD_PRESET."""
    name = config.get("name")
    if name not in PRESETS:
        raise bad(f"preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    parsed = _parse(PRESETS[name], config, f"preset {name}")
    if isinstance(parsed, CnnConfig | ResnetConfig | VitConfig):
        return _image_preset(name, parsed)
    if isinstance(parsed, MlpConfig):
        _sizes(
            name,
            inputs=parsed.inputs,
            classes=parsed.classes,
            **{f"widths[{i}]": w for i, w in enumerate(parsed.widths)},
        )
        if parsed.activation not in ACTIVATIONS:
            raise bad(f"mlp.activation {parsed.activation!r}; there are {', '.join(sorted(ACTIVATIONS))}")
        return parsed
    sizes = {field.name: getattr(parsed, field.name) for field in fields(parsed) if field.name != "tokens"}
    _sizes(name, **sizes)
    if isinstance(parsed, GptConfig) and parsed.width % parsed.heads:
        raise bad(f"gpt.width {parsed.width} is not a multiple of gpt.heads {parsed.heads}")
    if parsed.tokens not in ("u8", "i64") or (parsed.tokens == "u8" and parsed.vocabulary > 256):
        raise bad(f"{name}.tokens {parsed.tokens!r} with a vocabulary of {parsed.vocabulary}; u8 (up to 256) or i64")
    return parsed


def _image_preset(name: str, parsed: CnnConfig | ResnetConfig | VitConfig) -> Preset:
    numbers = {field.name: getattr(parsed, field.name) for field in fields(parsed)}
    sizes = {key: value for key, value in numbers.items() if isinstance(value, int)}
    if parsed.pixels not in ("u8", "f32"):
        raise bad(f"{name}.pixels {parsed.pixels!r}; u8 or f32")
    if isinstance(parsed, VitConfig):
        _sizes(name, **sizes)
        if parsed.height % parsed.patch or parsed.width % parsed.patch:
            raise bad(f"vit.patch {parsed.patch}; images of {parsed.height} × {parsed.width} are no whole patches")
        if parsed.embedding % parsed.heads:
            raise bad(f"vit.embedding {parsed.embedding} is not a multiple of vit.heads {parsed.heads}")
        return parsed
    _sizes(name, **sizes, **{f"widths[{i}]": width for i, width in enumerate(parsed.widths)})
    halvings = len(parsed.widths) - isinstance(parsed, ResnetConfig)
    if not parsed.widths or min(parsed.height, parsed.width) >> halvings == 0:
        raise bad(
            f"{name}.widths has {len(parsed.widths)}; images of {parsed.height} × {parsed.width} are halved that often"
        )
    return parsed


def parse_optimizer(config: Mapping[str, Any], steps: int = 0) -> Optimizer:
    """`{"name": "sgd", "lr": 0.1, …}`, `{"name": "adam", …}` or `{"name": "adamw", …}`. Raises Rejection BAD_PRESET.

    `schedule` is a table as `parse_schedule` takes it; `steps` is the length of the training.
    """
    name = config.get("name")
    if name not in OPTIMIZERS:
        raise bad(f"optimizer {name!r}; there are {', '.join(sorted(OPTIMIZERS))}")
    plain = {key: value for key, value in config.items() if key != "schedule"}
    parsed = _parse(OPTIMIZERS[name], plain, f"optimizer {name}", without=("schedule", "groups", "decoupled"))
    for field in fields(parsed):
        value = getattr(parsed, field.name)
        if not isinstance(value, float):
            continue
        low, high = (0.0, 1.0) if field.name in _BELOW_ONE else (0.0, math.inf)
        positive = field.name in ("lr", "clip_norm", "clip_value")
        if not (low <= value < high) or (positive and value == 0):
            raise bad(f"{name}.{field.name} is {value}; it lies in [{low}, {high}) and lr and limits above 0")
    if isinstance(parsed, Sgd) and parsed.nesterov and (parsed.momentum == 0 or parsed.dampening != 0):
        raise bad("sgd.nesterov needs a momentum and no dampening")
    schedule = config.get("schedule")
    return parsed if schedule is None else replace(parsed, schedule=parse_schedule(schedule, steps))


def parse_schedule(config: Mapping[str, Any], steps: int) -> Schedule | None:
    """`{"name": "cosine", "warmup": 100, "end": 0.1}` and so on, for a training of `steps` steps; BAD_PRESET."""
    given = {("kind" if key == "name" else key): value for key, value in config.items()}
    parsed = _parse(ScheduleConfig, given, "schedule")
    for field in ("warmup", "steps", "every"):
        if not 0 <= getattr(parsed, field) <= SIZE_MAX << 4:
            raise bad(f"schedule.{field} is {getattr(parsed, field)}; it is between 0 and {SIZE_MAX << 4}")
    if not 0 <= parsed.end < math.inf or not 0 < parsed.decay < math.inf:
        raise bad(f"schedule.end is {parsed.end}, schedule.decay {parsed.decay}; at least 0, and above 0")
    length = parsed.steps or max(1, steps - parsed.warmup)
    then: Schedule | None
    match parsed.kind:
        case "constant":
            then = None
        case "cosine":
            then = Cosine(length, parsed.end)
        case "linear":
            then = Linear(length, 1.0, parsed.end)
        case "step" if parsed.every > 0:
            then = StepDecay(parsed.every, parsed.decay)
        case "step":
            raise bad("schedule step needs every, a number of steps")
        case _:
            raise bad(f"schedule {parsed.kind!r}; there are constant, cosine, linear, step")
    return warmed_up(parsed.warmup, then) if parsed.warmup else then


def _sizes(name: str, **sizes: int) -> None:
    for field, size in sizes.items():
        if not 1 <= size <= SIZE_MAX:
            raise bad(f"{name}.{field} is {size}; it is between 1 and {SIZE_MAX}")


def _parse(kind: type[T], config: Mapping[str, Any], what: str, without: tuple[str, ...] = ()) -> T:
    known = {field.name: field for field in fields(kind) if field.name not in without}  # type: ignore[arg-type]
    given = {key: value for key, value in config.items() if key != "name"}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise bad(f"{what} has no {', '.join(unknown)}; it has {', '.join(known)}")
    for name, field in known.items():
        if name not in given:
            if field.default is MISSING:
                raise bad(f"{what} needs {name}")
            continue
        given[name] = _typed(f"{what}.{name}", str(field.type), given[name])
    return kind(**given)


def _typed(what: str, kind: str, value: Any) -> Any:
    match kind:
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "float" | "float | None" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "str" if isinstance(value, str):
            return value
        case "tuple[int, ...]" if isinstance(value, list | tuple):
            return tuple(_typed(f"{what}[{place}]", "int", item) for place, item in enumerate(value))
    raise bad(f"{what} is {value!r}, not {kind}")
