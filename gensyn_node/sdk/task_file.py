"""The task file: what to train, on what, how it is verified, for how much. Strict, and checked without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gensyn_node.config.strict_toml import complaint, load_toml
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import parse_amount
from gensyn_node.sdk import reasons
from proofs.classes import NATIVE

Positive = Annotated[int, Meta(ge=1, le=1 << 20)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Pattern = Annotated[str, Meta(min_length=1, max_length=200)]
Share = Annotated[float, Meta(ge=0, lt=1)]

STEPS_MAX = 10_000_000
FORCED_ERRORS = 0.2
"""Chance of a forced error where a task file just says true."""
SEGMENT_STEPS = 50
_DURATION = re.compile(r"\s*([0-9]{1,7})\s*(s|m|h|d|blocks?)\s*\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's tables."""


class LoraTable(Table, frozen=True):
    """`[model.lora]`: low-rank adapters; everything else stays as it is."""

    rank: Annotated[int, Meta(ge=1, le=4096)]
    alpha: Annotated[float, Meta(gt=0, le=1e6)]
    """Adapters count alpha / rank times."""
    targets: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(min_length=1, max_length=64)
    ]
    """Patterns of the paths of linear layers, such as "blocks.*.attention.query"."""


class ModelTable(Table, frozen=True):
    """`[model]`: a preset and its sizes, or a file of one's own."""

    preset: Literal["mlp", "cnn", "resnet", "vit", "lstm", "gpt"] | UnsetType = UNSET
    file: Annotated[str, Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    """`model.py:make`: a Python file, relative to the task file, and a function in it; it runs on this machine only."""
    initial: Literal["module", "seed"] | UnsetType = UNSET
    """file: the weights that the module has, or weights from the task's seed where a rule is known."""
    checkpoint: Annotated[str, Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    """Weights to start from, a .safetensors file relative to the task file."""
    lora: LoraTable | UnsetType = UNSET
    widths: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=32)] | UnsetType = UNSET
    """mlp: widths of the hidden layers; cnn, resnet: channels of each stage."""
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] | UnsetType = UNSET
    """mlp."""
    classes: Annotated[int, Meta(ge=2, le=1 << 16)] | UnsetType = UNSET
    """mlp, cnn, resnet, vit: number of classes; what the labels show when left out."""
    blocks: Annotated[int, Meta(ge=1, le=64)] | UnsetType = UNSET
    """resnet: residual blocks of a stage."""
    patch: Annotated[int, Meta(ge=1, le=1024)] | UnsetType = UNSET
    """vit: pixels a side of the squares that are its tokens; 4 when left out."""
    layers: Annotated[int, Meta(ge=1, le=128)] | UnsetType = UNSET
    """gpt, lstm, vit."""
    width: Positive | UnsetType = UNSET
    """gpt, lstm, vit: numbers that stand for a token."""
    heads: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET
    """gpt, vit."""
    context: Annotated[int, Meta(ge=2, le=1 << 16)] | UnsetType = UNSET
    """gpt, lstm: characters that it sees at once."""


class DataTable(Table, frozen=True):
    """`[data]`: files, relative to the task file."""

    train: Annotated[str, Meta(min_length=1, max_length=1000)]
    """.npz, .safetensors, .csv, .parquet, a folder with a folder of images for each class, or text."""
    validation: Share = 0.0
    """Share of the records that is held out."""
    label: Annotated[str, Meta(max_length=1000)] = ""
    """Tables: the column of classes."""
    target: Annotated[tuple[Annotated[str, Meta(max_length=1000)], ...], Meta(max_length=1000)] = ()
    """Tables: columns of numbers to predict."""
    tokens: Literal["characters", "bytes"] = "characters"
    """Text."""
    tokenizer: Annotated[str, Meta(max_length=1000)] = ""
    """Text: a tokenizer.json."""
    size: Annotated[int, Meta(ge=0, le=4096)] = 0
    """Images: pixels a side; 0 leaves them as they are."""
    gray: bool = False
    """Images: one channel instead of three."""


class ScheduleTable(Table, frozen=True):
    """`schedule = { … }`: how the learning rate changes."""

    name: Literal["constant", "cosine", "linear", "step"]
    warmup: Annotated[int, Meta(ge=0, le=STEPS_MAX)] | UnsetType = UNSET
    """Steps in which the rate rises from 0."""
    steps: Annotated[int, Meta(ge=1, le=STEPS_MAX)] | UnsetType = UNSET
    """cosine, linear: steps from there to the end; the rest of the training when left out."""
    end: Share | UnsetType = UNSET
    """cosine, linear: the last rate as a share of lr."""
    every: Annotated[int, Meta(ge=1, le=STEPS_MAX)] | UnsetType = UNSET
    """step: after how many steps the rate falls."""
    decay: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    """step: to which share."""


class OptimizerTable(Table, frozen=True):
    """`optimizer = { … }`."""

    name: Literal["adamw", "adam", "sgd"]
    lr: Rate
    momentum: Share | UnsetType = UNSET
    """sgd."""
    dampening: Share | UnsetType = UNSET
    nesterov: bool | UnsetType = UNSET
    weight_decay: Annotated[float, Meta(ge=0, le=10)] | UnsetType = UNSET
    decay_vectors: bool | UnsetType = UNSET
    """Whether biases and scales of norms decay too."""
    beta1: Share | UnsetType = UNSET
    beta2: Share | UnsetType = UNSET
    epsilon: Rate | UnsetType = UNSET
    clip_norm: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    """Largest norm of all gradients together."""
    clip_value: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    schedule: ScheduleTable | UnsetType = UNSET


class TrainTable(Table, frozen=True):
    """`[train]`: how long and with what."""

    steps: Annotated[int, Meta(ge=1, le=STEPS_MAX)]
    batch_size: Annotated[int, Meta(ge=1, le=65_536)]
    optimizer: OptimizerTable | UnsetType = UNSET
    """Left out when the model's file gives one."""
    precision: Literal["f32", "bf16"] = "f32"
    """bf16: operands and results of products are rounded to bfloat16, as torch.autocast does; weights stay f32."""
    loss: Literal["cross_entropy", "mse", "bce", "l1"] = "cross_entropy"
    """Other than cross_entropy: for a model of one's own."""
    arithmetic: Literal["rep-v1", "native"] = "rep-v1"
    """rep-v1: the same bits everywhere; native: vendor kernels, judged by distance and by proven bounds."""


class VerifyTable(Table, frozen=True):
    """`[verify]`: who checks how much."""

    mode: Literal["reproducible"] | UnsetType = UNSET
    verifiers: Annotated[int, Meta(ge=1, le=limits.VERIFIERS_PER_TASK_MAX)] = 2
    segment: Annotated[int, Meta(ge=1, le=limits.SEGMENT_STEPS_MAX)] | UnsetType = UNSET
    """Steps between two committed states; 50, in native tasks 10, when left out."""
    samples: Annotated[int, Meta(ge=1, le=limits.SEGMENTS_PER_INSTALMENT_MAX)] | Literal["all"] = 2
    """Segments that each verifier repeats; "all": every one."""
    instalments: Annotated[int, Meta(ge=1, le=limits.INSTALMENTS_MAX)] = 1
    stake: Annotated[float, Meta(gt=0, le=100)] | UnsetType = UNSET
    """Solver's bond in multiples of its price; what the chain asks for when left out."""
    forced_errors: bool | Share = False
    """Chance that an instalment is shown with a deliberate error, which keeps verifiers looking; true: one in five."""

    @property
    def forced_error_bps(self) -> int:
        """The chance in basis points; 0: never."""
        chance = FORCED_ERRORS if self.forced_errors is True else float(self.forced_errors)
        return round(chance * 10_000)

    @property
    def samples_each(self) -> int:
        """The number; more than an instalment has are all of them."""
        return limits.SEGMENTS_PER_INSTALMENT_MAX if isinstance(self.samples, str) else self.samples

    @property
    def solver_bond_bps(self) -> int:
        """The stake in basis points; 0: the chain's."""
        return 0 if isinstance(self.stake, UnsetType) else round(self.stake * 10_000)


class PriceTable(Table, frozen=True):
    """`[price]`: the most it may cost, and until when."""

    max: Annotated[str, Meta(max_length=60)]
    deadline: Annotated[str, Meta(max_length=20)] = "1h"


class TaskFile(Table, frozen=True):
    """A whole task file."""

    model: ModelTable
    data: DataTable
    train: TrainTable
    price: PriceTable
    verify: VerifyTable = VerifyTable()
    name: Annotated[str, Meta(max_length=100)] = ""

    @property
    def max_price_nano(self) -> int:
        """The maximum price."""
        return parse_amount(self.price.max)

    @property
    def segment_steps(self) -> int:
        """Steps of a segment."""
        usual = limits.NATIVE_SEGMENT_STEPS_MAX if self.train.arithmetic == NATIVE else SEGMENT_STEPS
        return usual if isinstance(self.verify.segment, UnsetType) else self.verify.segment

    @property
    def segments(self) -> int:
        """Segments in all."""
        return -(-self.train.steps // self.segment_steps)

    def deadline_blocks(self, block_interval_ms: int) -> int:
        """The deadline in blocks of that length."""
        match = _DURATION.match(self.price.deadline)
        if match is None:
            raise Rejection(reasons.BAD_TASK_FILE, f"{self.price.deadline!r} is no duration")
        count = int(match[1])
        return count if match[2].startswith("block") else max(1, count * _SECONDS[match[2]] * 1000 // block_interval_ms)


REMEDIES: dict[str, str] = {
    "model": 'add a table [model] with preset = "mlp"',
    "model.preset": 'write "mlp", "cnn", "resnet", "vit", "lstm" or "gpt", or file = "model.py:make"',
    "model.file": 'write the file and the function that returns your module, such as "model.py:make"',
    "model.initial": 'write "module" or "seed"',
    "model.checkpoint": "write the path of a .safetensors file with the model's tensors",
    "model.lora": 'write rank = 8, alpha = 16 and targets = ["*.query", "*.value"]',
    "model.lora.rank": "write a number from 1 to 4096",
    "model.lora.alpha": "write a number above 0, such as twice the rank",
    "model.lora.targets": 'write patterns of linear layers, such as ["*.query", "*.value"]',
    "model.widths": "write the widths of the hidden layers, such as [64, 64], or the channels of each stage",
    "model.blocks": "write a number from 1 to 64",
    "model.activation": 'write "relu", "gelu", "tanh" or "sigmoid"',
    "model.classes": "write the number of classes, at least 2, or leave it out",
    "model.patch": "write how many pixels a patch has a side, a divisor of the images' height and width",
    "model.layers": "write a number from 1 to 128",
    "model.heads": "write a number that divides width",
    "model.context": "write how many characters the model sees at once, at least 2",
    "model.width": "write a multiple of heads, such as 64",
    "data": 'add a table [data] with train = "digits.npz"',
    "data.train": "write the path of a .npz, .safetensors, .csv, .parquet or text file, or of a folder of images",
    "data.validation": "write a share from 0 to below 1, such as 0.1",
    "data.label": "write the name of the table's column of classes",
    "data.target": 'write the names of the table\'s columns to predict, such as ["price"]',
    "data.tokens": 'write "characters" or "bytes"',
    "data.tokenizer": "write the path of a tokenizer.json",
    "data.size": "write how many pixels a side the images are to have",
    "data.gray": "write true or false",
    "train": "add a table [train] with steps, batch_size and optimizer",
    "train.steps": f"write a whole number from 1 to {STEPS_MAX}",
    "train.batch_size": "write a whole number from 1 to 65536",
    "train.optimizer": 'write { name = "adamw", lr = 1e-3 }',
    "train.optimizer.name": 'write "adamw", "adam" or "sgd"',
    "train.optimizer.clip_norm": "write a number above 0, such as 1.0",
    "train.optimizer.clip_value": "write a number above 0, such as 0.5",
    "train.optimizer.schedule": 'write { name = "cosine", warmup = 100, end = 0.1 }',
    "train.optimizer.schedule.name": 'write "constant", "cosine", "linear" or "step"',
    "train.optimizer.lr": "write a number above 0 and at most 10, such as 1e-3",
    "train.optimizer.momentum": "write a number from 0 to below 1, such as 0.9",
    "train.arithmetic": 'write "rep-v1" or "native"',
    "train.precision": 'write "f32" or "bf16"',
    "train.loss": 'write "cross_entropy", "mse", "bce" or "l1"',
    "verify.mode": 'write "reproducible", or leave it out in a native task',
    "verify.verifiers": f"write a number from 1 to {limits.VERIFIERS_PER_TASK_MAX}",
    "verify.segment": f"write a number of steps from 1 to {limits.SEGMENT_STEPS_MAX}, in native tasks to 10",
    "verify.samples": 'write how many segments each verifier repeats, at least 1, or "all"',
    "verify.stake": "write a multiple of the price, such as 12, or leave it out",
    "verify.forced_errors": "write true, or a chance from 0 to below 1 such as 0.2",
    "verify.instalments": f"write a number from 1 to {limits.INSTALMENTS_MAX}, at most one a segment",
    "price": 'add a table [price] with max = "10 GSN"',
    "price.max": 'write an amount with its unit, such as "12.5 GSN"',
    "price.deadline": 'write a duration such as "30m", "2h" or "400 blocks"',
}
_FIELDS_OF_PRESET = {
    "mlp": {"widths", "activation", "classes"},
    "cnn": {"widths", "classes"},
    "resnet": {"widths", "classes", "blocks"},
    "vit": {"patch", "layers", "width", "heads", "classes"},
    "lstm": {"layers", "width", "context"},
    "gpt": {"layers", "width", "heads", "context"},
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "mlp": ("widths",),
    "vit": ("layers", "width", "heads"),
    "lstm": ("layers", "width", "context"),
    "gpt": ("layers", "width", "heads", "context"),
}
_ADAM = {"beta1", "beta2", "epsilon"}
_FIELDS_OF_OPTIMIZER = {"adamw": _ADAM, "adam": _ADAM, "sgd": {"momentum", "dampening", "nesterov"}}


def parse_task_file(text: str, source: str = "task.toml") -> TaskFile:
    """The task in `text`; `Rejection` BAD_TASK_FILE or UNKNOWN_TASK_FIELD with line, field and remedy otherwise."""
    task = load_toml(
        text,
        TaskFile,
        source=source,
        bad=reasons.BAD_TASK_FILE,
        unknown=reasons.UNKNOWN_TASK_FIELD,
        remedies=REMEDIES,
    )
    for field, message in _contradictions(task):
        raise complaint(text, field, message, source=source, why=reasons.BAD_TASK_FILE, remedies=REMEDIES)
    return task


def read_task_file(path: Path) -> TaskFile:
    """The task in a file."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Rejection(reasons.BAD_TASK_FILE, f"{path} is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise Rejection(reasons.BAD_TASK_FILE, f"{path} cannot be read: {error.strerror}") from None
    return parse_task_file(text, str(path))


def _contradictions(task: TaskFile) -> list[tuple[str, str]]:
    """(field, message) of everything that does not fit together, in the order of the file."""
    verify = task.verify
    found = _bad_model(task)
    optimizer = task.train.optimizer
    if isinstance(optimizer, OptimizerTable):
        for field in sorted(set().union(*_FIELDS_OF_OPTIMIZER.values()) - _FIELDS_OF_OPTIMIZER[optimizer.name]):
            if getattr(optimizer, field) is not UNSET:
                found.append((f"train.optimizer.{field}", f"{optimizer.name} has no {field}"))
    if task.train.arithmetic == NATIVE and task.segment_steps > limits.NATIVE_SEGMENT_STEPS_MAX:
        found.append(("verify.segment", f"{task.segment_steps} steps; along so many, noise comes near to a cheat's"))
    if task.train.arithmetic == NATIVE and verify.mode is not UNSET:
        found.append(("verify.mode", "a native task is not reproducible"))
    if task.train.arithmetic == NATIVE and verify.forced_error_bps:
        found.append(("verify.forced_errors", "what is right has to be the same on every machine: not in native tasks"))
    if verify.instalments > task.segments:
        found.append(("verify.instalments", f"{verify.instalments} instalments of {task.segments} segments"))
    elif -(-task.segments // verify.instalments) > limits.SEGMENTS_PER_INSTALMENT_MAX:
        most = limits.SEGMENTS_PER_INSTALMENT_MAX
        message = f"{task.segments} segments in {verify.instalments} instalments; an instalment has at most {most}"
        found.append(("verify.instalments", message))
    return found + _bad_price(task)


def _bad_model(task: TaskFile) -> list[tuple[str, str]]:
    """What does not fit together in the model, and between it and the training."""
    model, found = task.model, list[tuple[str, str]]()
    if isinstance(model.checkpoint, str) and model.initial == "seed":
        found.append(("model.initial", "weights from the seed and from a checkpoint"))
    if isinstance(model.file, str) and isinstance(model.preset, str):
        found.append(("model.file", "a preset and a file"))
    if isinstance(model.file, str):
        for field in sorted(set().union(*_FIELDS_OF_PRESET.values()) - {"context"}):
            if getattr(model, field) is not UNSET:
                found.append((f"model.{field}", f"a model of one's own has no {field}; its file decides"))
        return found
    if not isinstance(model.preset, str):
        return [("model.preset", "there is neither a preset nor a file")]
    if model.lora is not UNSET and model.checkpoint is UNSET:
        found.append(("model.lora", "adapters of a preset need a checkpoint whose weights stay"))
    if model.initial is not UNSET:
        found.append(("model.initial", "a preset starts from the task's seed"))
    for field in sorted(set().union(*_FIELDS_OF_PRESET.values()) - _FIELDS_OF_PRESET[model.preset]):
        if getattr(model, field) is not UNSET:
            found.append((f"model.{field}", f"the preset {model.preset} has no {field}"))
    for field in _NEEDED.get(model.preset, ()):
        if getattr(model, field) is UNSET:
            found.append((f"model.{field}", f"the preset {model.preset} needs {field}"))
    if isinstance(model.width, int) and isinstance(model.heads, int) and model.width % model.heads:
        found.append(("model.width", f"{model.width} is not a multiple of heads = {model.heads}"))
    if task.train.optimizer is UNSET:
        found.append(("train.optimizer", "a preset needs an optimizer"))
    if task.train.loss != "cross_entropy":
        found.append(("train.loss", f"the preset {model.preset} learns by cross entropy"))
    return found


def _bad_price(task: TaskFile) -> list[tuple[str, str]]:
    found = []
    try:
        if task.max_price_nano == 0:
            found.append(("price.max", "nobody works for nothing"))
    except Rejection as error:
        found.append(("price.max", error.message))
    match = _DURATION.match(task.price.deadline)
    if match is None or int(match[1]) == 0:
        found.append(("price.deadline", f"{task.price.deadline!r} is no duration"))
    return found


def given(value: Any, default: Any) -> Any:
    """`value`, or `default` where the file says nothing."""
    return default if value is UNSET else value
