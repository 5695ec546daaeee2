"""Which devices this machine has, and which of them may be used: those that give every bit of rep-v1."""

from __future__ import annotations

from functools import lru_cache

import torch

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.devices.backend import Backend, CudaBackend, MetalBackend
from ml.devices.interpreter import DeviceInterpreter
from ml.devices.self_test import differing_operators, differing_operators_of_cpu
from ml.worker.messages import DEVICES, DeviceFinding
from proofs.program.types import Program

CPU = "cpu"


def backend_of(device: str) -> Backend | None:
    """The backend of `cuda` or `mps`; None when this machine, or this build of torch, has none."""
    if device == "cuda" and torch.cuda.is_available():
        return CudaBackend()
    if device == "mps" and torch.backends.mps.is_available():
        return MetalBackend()
    return None


@lru_cache(maxsize=8)
def examine_device(device: str) -> DeviceFinding:
    """Whether a device is there and exact; asked once a process."""
    backend = None
    if device != CPU:
        backend = backend_of(device)
        if backend is None:
            detail = f"none that torch {torch.__version__} can use"
            return DeviceFinding(device, there=False, exact=False, detail=detail)
    try:
        wrong = differing_operators_of_cpu() if backend is None else differing_operators(backend)
    except RuntimeError as error:
        # A driver or a compiler that fails is one of the things that this test is for.
        return DeviceFinding(device, there=True, exact=False, detail=f"it failed: {str(error)[:200]}")
    if wrong:
        return DeviceFinding(device, there=True, exact=False, detail=f"other bits in {', '.join(wrong)}"[:300])
    return DeviceFinding(device, there=True, exact=True, detail="every operator gives the bits of rep-v1")


def examine_devices() -> tuple[DeviceFinding, ...]:
    """All kinds of devices that there could be."""
    return tuple(map(examine_device, DEVICES))


def interpreter_on(program: Program, device: str) -> DeviceInterpreter:
    """The program on a device. Raises Rejection DEVICE_NOT_EXACT when it is not there or gives other bits."""
    finding = examine_device(device) if device in DEVICES else None
    backend = backend_of(device)
    if finding is None or not finding.exact or backend is None:
        raise Rejection(reasons.DEVICE_NOT_EXACT, f"{device[:20]}: {finding.detail if finding else 'no such device'}")
    return DeviceInterpreter(program, backend)
