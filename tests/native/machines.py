"""Machines that one machine can play: processes with other thread counts, instruction sets and library settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Machine:
    """One way of running torch; each has a process of its own, because torch decides when it is loaded."""

    name: str
    threads: int
    environment: dict[str, str] = field(default_factory=dict)
    onednn: bool = True


MACHINES = (
    Machine("base", 2),
    Machine("1-thread", 1),
    Machine("avx512", 2, {"ATEN_CPU_CAPABILITY": "avx512"}),
    Machine("avx2", 1, {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}),
    Machine("default", 2, {"ATEN_CPU_CAPABILITY": "default"}),
    Machine("old", 1, {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Machine("no-onednn", 2, {"MKL_CBWR": "SSE4_2"}, onednn=False),
)


def machines_here() -> tuple[Machine, ...]:
    """Those that this processor can play: forced to instructions that it lacks, torch would be killed."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return tuple(machine for machine in MACHINES if machine.name not in ("avx2", "avx512") or machine.name in flags)


def work(machine: Machine, folder: Path, timeout_s: float = 1_800.0) -> dict[str, object]:
    """Run `tests.native.solver` on a machine over the campaign's folder; what it reports."""
    environment = {**os.environ, **machine.environment, "OMP_NUM_THREADS": str(machine.threads)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.solver", str(folder), machine.name],
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    report: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def machine_named(name: str) -> Machine:
    """One of MACHINES."""
    return next(machine for machine in MACHINES if machine.name == name)
