"""Checked configurations of presets and optimizers, from plain dicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.step import AdamW, Optimizer, Sgd
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


PRESETS: dict[str, type[MlpConfig] | type[GptConfig]] = {"mlp": MlpConfig, "gpt": GptConfig}
OPTIMIZERS: dict[str, type[Sgd] | type[AdamW]] = {"sgd": Sgd, "adamw": AdamW}


def bad(message: str) -> Rejection:
    """A configuration that is not usable."""
    return Rejection(reasons.BAD_PRESET, message)


def parse_preset(config: Mapping[str, Any]) -> MlpConfig | GptConfig:
    """`{"name": "mlp", …}` or `{"name": "gpt", …}`. Raises Rejection BAD_PRESET."""
    name = config.get("name")
    if name not in PRESETS:
        raise bad(f"preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    parsed = _parse(PRESETS[name], config, f"preset {name}")
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
    if parsed.width % parsed.heads:
        raise bad(f"gpt.width {parsed.width} is not a multiple of gpt.heads {parsed.heads}")
    if parsed.tokens not in ("u8", "i64") or (parsed.tokens == "u8" and parsed.vocabulary > 256):
        raise bad(f"gpt.tokens {parsed.tokens!r} with a vocabulary of {parsed.vocabulary}; u8 (up to 256) or i64")
    return parsed


def parse_optimizer(config: Mapping[str, Any]) -> Optimizer:
    """`{"name": "sgd", "lr": 0.1, …}` or `{"name": "adamw", …}`. Raises Rejection BAD_PRESET."""
    name = config.get("name")
    if name not in OPTIMIZERS:
        raise bad(f"optimizer {name!r}; there are {', '.join(sorted(OPTIMIZERS))}")
    parsed = _parse(OPTIMIZERS[name], config, f"optimizer {name}")
    for field in fields(parsed):
        value = getattr(parsed, field.name)
        low, high = (0.0, 1.0) if field.name in ("momentum", "beta1", "beta2") else (0.0, math.inf)
        if not (low <= value < high) or (field.name == "lr" and value == 0):
            raise bad(f"{name}.{field.name} is {value}; it lies in [{low}, {high}) and lr above 0")
    return parsed


def _sizes(name: str, **sizes: int) -> None:
    for field, size in sizes.items():
        if not 1 <= size <= SIZE_MAX:
            raise bad(f"{name}.{field} is {size}; it is between 1 and {SIZE_MAX}")


def _parse(kind: type[T], config: Mapping[str, Any], what: str) -> T:
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
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
        case "float" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "str" if isinstance(value, str):
            return value
        case "tuple[int, ...]" if isinstance(value, list | tuple):
            return tuple(_typed(f"{what}[{place}]", "int", item) for place, item in enumerate(value))
    raise bad(f"{what} is {value!r}, not {kind}")
