"""From a task file to what is submitted: data set, step program, specification. All on this machine, offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from consensus.ledger.messages import TaskSpec
from gensyn_node.config.home import Home
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
from gensyn_node.sdk.datasets import make_dataset
from gensyn_node.sdk.task_file import ModelTable, TaskFile
from proofs.program.types import F32, I64, U8, Program, TensorType, program_id
from proofs.program.validate import gas_of_step

if TYPE_CHECKING:
    from ml.data.manifest import Manifest
    from ml.data.sources import DataOptions
    from ml.presets import Built
    from ml.presets.tuning import Tuning

MEMORY_MARGIN_PERCENT = 15
"""Asked for beyond what was measured here: other systems, other numbers of threads."""
CHECKPOINTS = "checkpoints"
"""Folder of the home with the weights that tasks start from."""
BLOCK_MS_MIN = 100
"""A node that has just started knows no block interval; deadlines are computed with at least this."""


@dataclass(frozen=True, slots=True)
class BuiltTask:
    """A task, ready to be submitted."""

    spec: TaskSpec
    program: Program
    gas_per_step: int
    parameter_count: int
    """Elements of all parameters."""
    folder: Path
    """The data set on this machine."""
    manifest: Manifest
    held_out: Path | None
    """The records held out of it, a data set on this machine that nobody gets; None without any."""
    checkpoint: Path | None
    """The initial weights that no seed gives; None when all come from the seed."""
    memory_reason: str = ""
    """Why the memory was only predicted; empty when it was measured."""


def build_task(home: Home, task: TaskFile, base: Path, block_interval_ms: int) -> BuiltTask:
    """Read the data (relative to `base`), capture the program, compare it with PyTorch on one real batch, measure it.

    `Rejection`: BAD_DATA_FILE, TASK_TOO_LARGE, or what capture says (E15).
    """
    from ml.worker.dry_run import memory_need
    from ml.worker.kernels import kernel_store

    made = make_dataset(home, base / task.data.train, data_options(task, base))
    folder, manifest = made.folder, made.manifest
    built = capture_program(task, folder, manifest, base)
    _check_first_batch(built, folder, task.train.batch_size)
    encoded = encode(built.program)
    if len(encoded) > limits.PROGRAM_BYTES_MAX:
        raise Rejection(
            reasons.TASK_TOO_LARGE, f"the program has {len(encoded)} bytes, at most {limits.PROGRAM_BYTES_MAX}"
        )
    need = memory_need(built.program, kernel_store(home.kernels), arithmetic=task.train.arithmetic)
    tensors = {tensor.name: tensor for tensor in manifest.dataset}
    checkpoint = make_checkpoint(home, built)
    spec = TaskSpec(
        name=task.name,
        program_id=program_id(built.program),
        dataset=tuple(tensors[item.name] for item in built.program.batch),
        dataset_manifest=_manifest_blob(folder),
        checkpoint_root=checkpoint.root if checkpoint else b"",
        checkpoint_blob=checkpoint.blob_id if checkpoint else b"",
        steps=task.train.steps,
        segment_steps=task.segment_steps,
        instalments=task.verify.instalments,
        arithmetic=task.train.arithmetic,
        verifiers=task.verify.verifiers,
        samples=task.verify.samples_each,
        max_price_nano=task.max_price_nano,
        deadline_blocks=task.deadline_blocks(max(BLOCK_MS_MIN, block_interval_ms)),
        memory_bytes=need.process_bytes + need.process_bytes * MEMORY_MARGIN_PERCENT // 100,
        endpoints=(),
        solver_bond_bps=task.verify.solver_bond_bps,
        forced_error_bps=task.verify.forced_error_bps,
    )
    parameters = sum(entry.type.elements for entry in built.program.state if entry.name.startswith("parameter."))
    gas, file = gas_of_step(built.program), checkpoint.file if checkpoint else None
    return BuiltTask(
        spec, built.program, gas, parameters, folder, manifest, made.held_out, file, memory_reason=need.reason
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A task's initial checkpoint on this machine."""

    file: Path
    root: bytes
    blob_id: bytes


def make_checkpoint(home: Home, built: Built) -> Checkpoint | None:
    """Keep the weights that a model of one's own starts from; None when the seed gives all."""
    from gensyn_node.sdk.blobs import blob_id_of_file
    from ml.checkpoint import save_state
    from ml.presets.own import given_state
    from proofs import tensors
    from proofs.program.types import Given
    from proofs.state import checkpoint_root

    entries = [entry for entry in built.program.state if isinstance(entry.initial, Given)]
    if not entries:
        return None
    values = given_state(built)
    state = [values[entry.name] for entry in entries]
    roots = [tensors.root_of(value.contiguous().numpy()) for value in state]
    root = checkpoint_root([entry.name for entry in entries], roots)
    file = home.path / CHECKPOINTS / f"{root.hex()}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_state(file, entries, state, float("nan"))
    return Checkpoint(file, root, blob_id_of_file(file)[0])


def capture_program(task: TaskFile, folder: Path, manifest: Manifest, base: Path) -> Built:
    """The step program of the task's model on this data; a model's file is relative to `base`."""
    from ml.presets import build

    if isinstance(task.model.file, str):
        return _own(task, task.model.file, manifest, base)
    optimizer = _optimizer(task)
    if optimizer is None:
        raise Rejection(reasons.BAD_TASK_FILE, "a preset needs an optimizer")
    preset = _preset(task.model, folder, manifest)
    train, tuning = task.train, _tuning(task, manifest, base)
    return build(preset, optimizer, train.batch_size, train.steps, tuning, train.precision)


def _tuning(task: TaskFile, manifest: Manifest, base: Path) -> Tuning | None:
    """Weights to start from and adapters, as the file has them."""
    from ml.presets.lora import LoraConfig
    from ml.presets.tuning import Tuning

    model, lora = task.model, task.model.lora
    if model.checkpoint is UNSET and lora is UNSET:
        return None
    if isinstance(model.checkpoint, str) and _numbered_characters(task, manifest):
        raise Rejection(
            reasons.BAD_TASK_FILE,
            "data.tokens: characters are numbered as this text has them, not as the checkpoint's; "
            'write tokens = "bytes" or a tokenizer, as the checkpoint was trained with',
        )
    weights = base / model.checkpoint if isinstance(model.checkpoint, str) else None
    return Tuning(weights, None if isinstance(lora, UnsetType) else LoraConfig(lora.rank, lora.alpha, lora.targets))


def _numbered_characters(task: TaskFile, manifest: Manifest) -> bool:
    is_text = any(tensor.name == "tokens" for tensor in manifest.dataset)
    return is_text and task.data.tokens == "characters" and not task.data.tokenizer


def _own(task: TaskFile, reference: str, manifest: Manifest, base: Path) -> Built:
    """A model of one's own on this data."""
    from ml.capture.trace import DTYPES
    from ml.presets.own import Data, build_own

    records = {tensor.name: tensor.record for tensor in manifest.dataset}
    torch_dtypes = {name: dtype for dtype, name in DTYPES.items()}
    data = Data(
        manifest.records,
        {name: type_.shape for name, type_ in records.items()},
        {name: torch_dtypes[type_.dtype] for name, type_ in records.items()},
        manifest.vocabulary,
    )
    return build_own(
        reference,
        base,
        records,
        data,
        task.train.batch_size,
        optimizer=_optimizer(task),
        loss=task.train.loss,
        steps=task.train.steps,
        initial=task.model.initial if isinstance(task.model.initial, str) else None,
        tuning=_tuning(task, manifest, base),
        precision=task.train.precision,
    )


def _preset(model: ModelTable, folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The preset's configuration; what the data decides is taken from the data."""
    tensors = {tensor.name: tensor.record for tensor in manifest.dataset}
    if model.preset in ("gpt", "lstm"):
        tokens = _tensor(tensors, "tokens", "a text file")
        given = _given(model, "layers", "width", "heads", "context")
        # Bytes need no vocabulary in the manifest.
        return {"name": model.preset, **given, "vocabulary": len(manifest.vocabulary) or 256, "tokens": tokens.dtype}
    x, y = _tensor(tensors, "x", "an array x"), _tensor(tensors, "y", "an array y")
    if model.preset in ("cnn", "resnet", "vit"):
        return _image_preset(model, x, y, _classes(model, folder, manifest))
    if x.dtype != F32 or len(x.shape) != 1 or y != TensorType(I64, ()):
        raise Rejection(
            reasons.BAD_DATA_FILE,
            f"x has records {x.dtype}{list(x.shape)}, y {y.dtype}{list(y.shape)}; f32[features] and i64[] are needed",
        )
    preset = {"name": "mlp", "inputs": x.shape[0], "widths": model.widths, "classes": _classes(model, folder, manifest)}
    return preset if model.activation is UNSET else {**preset, "activation": model.activation}


def _image_preset(model: ModelTable, x: TensorType, y: TensorType, classes: int) -> dict[str, Any]:
    if x.dtype not in (F32, U8) or len(x.shape) != 3 or y != TensorType(I64, ()):
        raise Rejection(
            reasons.BAD_DATA_FILE,
            f"x has records {x.dtype}{list(x.shape)}, y {y.dtype}{list(y.shape)}; u8 or f32[channels, height, width] "
            "and i64[] are needed",
        )
    sizes = dict(zip(("channels", "height", "width"), x.shape, strict=True))
    given = _given(model, "widths", "blocks", "patch", "layers", "heads")
    if isinstance(model.width, int):
        given["embedding"] = model.width
    return {"name": model.preset, **sizes, "pixels": x.dtype, "classes": classes, **given}


def _given(model: ModelTable, *names: str) -> dict[str, Any]:
    """What the file says of these fields."""
    return {name: getattr(model, name) for name in names if getattr(model, name) is not UNSET}


def _tensor(tensors: Mapping[str, TensorType], name: str, what: str) -> TensorType:
    if name not in tensors:
        raise Rejection(reasons.BAD_DATA_FILE, f"the data has {', '.join(sorted(tensors))}; {what} is needed")
    return tensors[name]


def _classes(model: ModelTable, folder: Path, manifest: Manifest) -> int:
    """The classes given, or as many as the labels show; labels outside are refused."""
    from ml.data.dataset import open_dataset

    low, high = open_dataset(folder, check=False).extent("y")
    classes = model.classes if isinstance(model.classes, int) else len(manifest.vocabulary) or max(2, high + 1)
    if low < 0 or high >= classes:
        raise Rejection(
            reasons.BAD_DATA_FILE, f"labels go from {low} to {high}; with {classes} classes: 0 to {classes - 1}"
        )
    return classes


def _optimizer(task: TaskFile) -> dict[str, Any] | None:
    if task.train.optimizer is UNSET:
        return None
    plain: dict[str, Any] = msgspec.to_builtins(task.train.optimizer)
    return plain


def data_options(task: TaskFile, base: Path) -> DataOptions:
    """How the task's data is read; paths are relative to `base`."""
    from ml.data.sources import DataOptions

    data, context = task.data, task.model.context
    return DataOptions(
        validation=data.validation,
        label=data.label,
        target=data.target,
        context=context if isinstance(context, int) else 0,
        tokens=data.tokens,
        tokenizer=base / data.tokenizer if data.tokenizer else None,
        size=data.size,
        gray=data.gray,
    )


def _manifest_blob(folder: Path) -> bytes:
    from gensyn_node.sdk.blobs import blob_id_of_file
    from ml.data.manifest import manifest_path

    return blob_id_of_file(manifest_path(folder))[0]


def _check_first_batch(built: Built, folder: Path, batch_size: int) -> None:
    """The captured program does what PyTorch does, on real records."""
    from ml.capture.check import check_against_eager
    from ml.data.dataset import open_dataset

    dataset = open_dataset(folder, check=False)
    values = dataset.batch(built.program, bytes(32), 0)
    batch = {item.name: value for item, value in zip(built.program.batch, values, strict=True)}
    check_against_eager(built.program, built.module, built.loss, built.optimizer, batch, built.precision)
