"""What this machine can do for the network, found by trying: the arithmetic, a training process and its sandbox.

Nothing here needs a running node, and nothing is changed but a folder that is deleted again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.worker_client import Worker, WorkerSettings
from ml.worker.kernels import kernel_store
from ml.worker.messages import DeviceFinding, DevicesExamined, ExamineDevices, ExamineNative, Measure, NativeExamined
from ml.worker.sandbox import readable_paths
from proofs.arithmetic.self_check import check_machine


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """`arithmetic`, `worker`, `sandbox` or `device`."""
    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What the owner can do; empty when all is well."""


_START_REMEDY = "Try again when the machine is less busy; if it says the same, install gensyn again."
NVIDIA_DRIVER = "/dev/nvidiactl"
_REMEDIES = {
    "files": "Boot a kernel with Landlock (Linux 5.13, lsm=landlock,…), or run the node as a user of its own.",
    "system calls": "Use Linux on x86-64 or ARM64, or run the node as a user of its own.",
    "privileges": "Run the node as an ordinary user.",
}


def examine(
    threads: int, memory_bytes: int, secret_folder: Path, device: str = "cpu", kernels: Path | None = None
) -> list[Finding]:
    """Look at everything. `secret_folder`: what the worker must not be able to read; `device`: the one to work on.

    `kernels`: the store of compiled kernels; without one they are compiled for this once.
    """
    return [_arithmetic(), *trio.run(_worker, threads, memory_bytes, device, kernels), _secrets(secret_folder)]


def _arithmetic() -> Finding:
    try:
        check_machine()
    except InvariantViolation as violation:
        remedy = "Remove the library that switches denormals off (built with -ffast-math) from this environment."
        return Finding("arithmetic", "this process", ok=False, detail=str(violation), remedy=remedy)
    return Finding("arithmetic", "this process", ok=True, detail="computes rep-v1")


async def _worker(threads: int, memory_bytes: int, device: str, kernels: Path | None) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="gensyn-doctor-") as name:
        folder = Path(name)
        # A driver that is here is looked at, also when another device is in use.
        driver = "cuda" if await trio.Path(NVIDIA_DRIVER).exists() else device
        work = folder / "work"
        await trio.Path(work).mkdir()
        store = kernels or kernel_store(folder / "kernels")
        worker = Worker(WorkerSettings(threads, memory_bytes, folder / "log", work, work, store, device=driver))
        try:
            await worker.warm_up()
            examined = await worker.final(ExamineDevices())
            native = await worker.final(ExamineNative(threads))
        except (Rejection, OSError) as error:
            return [Finding("worker", "start", ok=False, detail=str(error), remedy=_START_REMEDY)]
        finally:
            await worker.stop()
    if not isinstance(examined, DevicesExamined):
        raise InvariantViolation(f"the worker answered {type(examined).__name__} to ExamineDevices")
    if not isinstance(native, NativeExamined):
        raise InvariantViolation(f"the worker answered {type(native).__name__} to ExamineNative")
    found = [Finding("worker", "start", ok=True, detail="it starts"), *map(_of_measure, worker.sandbox)]
    return [*found, _of_native(native), *(_of_device(item, device) for item in examined.devices)]


def _of_device(found: DeviceFinding, wanted: str) -> Finding:
    """A device that is not here is no fault, unless it was chosen."""
    ok = found.exact or (not found.there and found.name != wanted)
    remedy = "" if ok else "Leave worker.device at cpu; it is never used where it is not exact."
    return Finding("device", found.name, ok, found.detail, remedy)


def _of_native(found: NativeExamined) -> Finding:
    """Whether native tasks can be taken: without, the node works on all others."""
    if not found.failing:
        detail = "vendor kernels repeat themselves and keep their bounds: native tasks are offered"
        return Finding("arithmetic", "native", ok=True, detail=detail)
    detail = f"other bits at the second time, or outside their bound: {', '.join(found.failing)}"[:300]
    remedy = (
        "Native tasks are not offered. Another version of torch may keep the bounds; all other tasks are as before."
    )
    return Finding("arithmetic", "native", ok=False, detail=detail, remedy=remedy)


def _of_measure(measure: Measure) -> Finding:
    # Processor time is bounded by the node's own watch, not by the kernel: a worker lives for many tasks.
    ok = measure.active or measure.name == "processor time"
    detail = measure.detail if measure.active or not ok else "bounded by the node: a silent worker is ended"
    return Finding("sandbox", measure.name, ok, detail, "" if ok else _REMEDIES.get(measure.name, ""))


def _secrets(folder: Path) -> Finding:
    """Whether the keys lie where the libraries do, which the worker reads."""
    place = folder.resolve()
    over = [path for path in readable_paths()[0] if place.is_relative_to(path.resolve())]
    if over:
        remedy = "Move the home elsewhere (--home, GENSYN_HOME)."
        detail = f"{place} lies in {over[0]}, which training processes can read"
        return Finding("sandbox", "keys", ok=False, detail=detail, remedy=remedy)
    return Finding("sandbox", "keys", ok=True, detail="out of reach of training processes")
