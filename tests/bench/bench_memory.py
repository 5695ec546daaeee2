"""Peak memory of trainings: predicted, measured by a dry run, and real: `python tests/bench/bench_memory.py [NAME…]`.

Each model is tried on zeros by a worker that did nothing before, then trained for 32 steps with states every 8 by
another one; what was resident at most is asked of the kernel (Linux). Prints a table and one JSON line; it is no test.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gensyn_node.primitives.codec import encode
from ml.data.manifest import write_dataset
from ml.presets import build
from ml.worker.frames import decode_reply, frame, read_frame
from ml.worker.kernels import compile_kernels, kernel_store, own_kernels
from ml.worker.messages import Job, MemoryPredicted, PredictMemory, Progress, Request, SegmentDone, Train, Trained
from ml.worker.process import worker_command, worker_environment
from proofs.program.types import F32, U8, Program

STEPS, SEGMENT = 32, 8
ADAMW = {"name": "adamw", "lr": 1e-3}


def gpt(layers: int, width: int, context: int = 64, vocabulary: int = 96) -> dict[str, Any]:
    """A preset."""
    shape = {"context": context, "vocabulary": vocabulary, "layers": layers, "width": width, "heads": width // 32}
    return {"name": "gpt", **shape}


def mlp(*widths: int) -> dict[str, Any]:
    """A preset."""
    return {"name": "mlp", "inputs": 784, "classes": 10, "widths": list(widths)}


MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "mlp 784-256-10, batch 64": (mlp(256), 64),
    "mlp 784-2048-2048-10, batch 64": (mlp(2048, 2048), 64),
    "mlp 784-1024-1024-10, batch 8192": (mlp(1024, 1024), 8192),
    "gpt 2x64, batch 8": (gpt(2, 64), 8),
    "gpt 4x128, batch 16": (gpt(4, 128), 16),
    "gpt 6x384, batch 16": (gpt(6, 384), 16),
}


class Worker:
    """A worker process whose peak is looked at before it ends."""

    def __init__(self, folder: Path) -> None:
        store = kernel_store(folder / "store")
        compile_kernels(store)
        self.process = subprocess.Popen(
            worker_command(folders=(folder,)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=worker_environment(1, folder, own_kernels(store, folder)),
            cwd=folder,
        )

    def __enter__(self) -> Worker:
        read_frame(cast(BinaryIO, self.process.stdout))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, request: Request) -> Any:
        """The final reply."""
        requests = cast(BinaryIO, self.process.stdin)
        requests.write(frame(request))
        requests.flush()
        while (data := read_frame(cast(BinaryIO, self.process.stdout))) is not None:
            reply = decode_reply(data)
            if not isinstance(reply, Progress | SegmentDone):
                return reply
        raise RuntimeError("the worker ended")

    def peak_bytes(self) -> int:
        """What was resident at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def data_of(program: Program, folder: Path) -> None:
    """Random records of the right types, one batch of them."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for item in program.batch:
        shape = (program.batch_size, *item.record.shape)
        if item.record.dtype == F32:
            arrays[item.name] = generator.standard_normal(shape).astype(np.float32)
        else:
            arrays[item.name] = generator.integers(0, 10, shape).astype(
                np.uint8 if item.record.dtype == U8 else np.int64
            )
    write_dataset(folder, arrays)


def measure(preset: dict[str, Any], batch_size: int) -> dict[str, int]:
    """Bytes predicted, measured by a dry run, and resident in a training."""
    program = build(preset, ADAMW, batch_size).program
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "cache").mkdir()
        data_of(program, folder / "data")
        encoded = encode(program)
        trial = stack.enter_context(Worker(folder))
        predicted = trial.ask(PredictMemory(encoded, 1))
        measured = trial.ask(PredictMemory(encoded, 1, measure=True))
        if not isinstance(predicted, MemoryPredicted) or not isinstance(measured, MemoryPredicted):
            raise RuntimeError(f"{predicted} {measured}")
        stack.close()
        real = stack.enter_context(Worker(folder))
        job = Job(encoded, str(folder / "data"), bytes(32), "", 1)
        done = real.ask(Train(job, str(folder / "states"), 0, STEPS, SEGMENT, STEPS))
        if not isinstance(done, Trained):
            raise RuntimeError(str(done))
        return {
            "state_bytes": predicted.state_bytes,
            "predicted_bytes": predicted.process_bytes,
            "dry_run_bytes": measured.measured_bytes,
            "training_bytes": real.peak_bytes(),
        }


def main(names: list[str]) -> None:
    """Entry point; arguments choose the models whose names contain one of them."""
    found = {}
    print(f"{'MiB':36} {'state':>8} {'predicted':>10} {'dry run':>8} {'training':>9} {'dry run off by':>15}")
    for name, (preset, batch_size) in MODELS.items():
        if names and not any(part in name for part in names):
            continue
        row = found[name] = measure(preset, batch_size)
        off = row["dry_run_bytes"] / row["training_bytes"] - 1
        mib = [value / (1 << 20) for value in row.values()]
        print(f"{name:36} {mib[0]:8.0f} {mib[1]:10.0f} {mib[2]:8.0f} {mib[3]:9.0f} {off:15.1%}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
