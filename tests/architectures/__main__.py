"""The campaign: every architecture is captured and trained, and its bits and its loss curve are compared.

    python -m tests.architectures [--steps 200] [--only NAME …] [--json]

Final state roots must be equal for one and two threads and for every level of ATEN_CPU_CAPABILITY that the processor
has. Each is a process of its own that is given the captured program, the first state and the data; on another machine:

    python -m tests.architectures --folder kept … ; then there: … --child --folder kept --only NAME …

The loss curve must lie within noise of eager PyTorch's: same weights, batches and random numbers, torch's own
optimizer. Noise is what eager itself shows when its first weights are multiplied by factors within 2⁻²² of one (the
largest of three such runs): the exact curve may be three times as far away, or 10⁻⁴.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

VARIANTS = {
    "1 thread": ("1", ""),
    "2 threads": ("2", ""),
    "default": ("1", "default"),
    "avx2": ("1", "avx2"),
    "avx512": ("1", "avx512"),
}
"""Threads and ATEN_CPU_CAPABILITY of each process."""
LEVELS = ("default", "avx2", "avx512")
"""Levels of ATEN_CPU_CAPABILITY, each needing more of the processor."""
FACTOR, LEAST = 3.0, 1e-4
NUDGES = 3


def child(names: list[str], steps: int, folder: Path, eager: bool) -> None:
    """One process: a line of JSON for each architecture.

    The eager one captures and leaves what a submitter hands over in the folder; the others take it from there.
    """
    import torch

    from ml.kernels.threads import set_threads
    from tests.architectures.training import load, train_exactly

    threads = int(os.environ.get("ARCHITECTURE_THREADS", "1"))
    torch.set_num_threads(threads)
    set_threads(threads)
    for name in names:
        began = time.perf_counter()
        if eager:
            found = submitted(name, steps, folder)
        else:
            trained = train_exactly(load(folder / name), steps)
            found = {"root": trained.root, "losses": trained.losses}
        found |= {"name": name, "seconds": time.perf_counter() - began}
        print("FOUND " + json.dumps(found), flush=True)


def submitted(name: str, steps: int, folder: Path) -> dict[str, Any]:
    """Capture, check, hand over; the loss curves of PyTorch itself."""
    from ml.capture.check import check_against_eager
    from tests.architectures.corpus import prepare
    from tests.architectures.training import batch_of, handed, save, train_by_pytorch

    subject = prepare(name)
    built = subject.built
    checked = check_against_eager(built.program, built.module, built.loss, built.optimizer, batch_of(subject, 0))
    save(handed(subject), folder / name)
    curves = [train_by_pytorch(prepare(name) if nudge else subject, steps, nudge) for nudge in range(NUDGES + 1)]
    return {"checked": checked.worst_ratio, "nodes": len(built.program.nodes), "curves": curves}


def spawned(
    names: list[str], steps: int, folder: Path, threads: str, capability: str, eager: bool = False
) -> dict[str, dict[str, Any]]:
    """What a process of its own found, by architecture."""
    environment = {**os.environ, "ARCHITECTURE_THREADS": threads, "OMP_NUM_THREADS": threads}
    if capability:
        environment["ATEN_CPU_CAPABILITY"] = capability
    command = [sys.executable, "-m", "tests.architectures", "--child", "--folder", str(folder)]
    command += ["--steps", str(steps), "--only", *names]
    done = subprocess.run(
        command + (["--eager"] if eager else []), env=environment, capture_output=True, text=True, check=False
    )
    lines = [line.removeprefix("FOUND ") for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return {found["name"]: found for found in map(json.loads, lines)}


def variants() -> dict[str, tuple[str, str]]:
    """The variants that this processor can run: a level beyond its own is an illegal instruction."""
    import torch

    own = torch.backends.cpu.get_cpu_capability().lower()
    most = LEVELS.index(own) if own in LEVELS else 0
    return {name: given for name, given in VARIANTS.items() if given[1] not in LEVELS[most + 1 :]}


def compare(names: list[str], steps: int, folder: Path) -> list[dict[str, Any]]:
    """The table."""
    from tests.architectures.corpus import CORPUS
    from tests.architectures.training import apart

    eager = spawned(names, steps, folder, "1", "", eager=True)
    exact = {}
    for variant, (threads, capability) in variants().items():
        exact[variant] = spawned(names, steps, folder, threads, capability)
        print(f"{variant}: done", file=sys.stderr, flush=True)
    rows = []
    for name in names:
        curve, *nudged = eager[name]["curves"]
        own = exact["1 thread"][name]["losses"]
        noise = max(apart(curve, other) for other in nudged)
        distance = apart(curve, own)
        rows.append(
            {
                "architecture": name,
                "preset": CORPUS[name].preset,
                "nodes": eager[name]["nodes"],
                "root": exact["1 thread"][name]["root"],
                "equal": len({found[name]["root"] for found in exact.values()}) == 1,
                "first_loss": own[0],
                "last_loss": sum(own[-20:]) / len(own[-20:]),
                "eager_last_loss": sum(curve[-20:]) / len(curve[-20:]),
                "apart": distance,
                "noise": noise,
                "within_noise": distance <= max(FACTOR * noise, LEAST),
                "seconds": exact["1 thread"][name]["seconds"],
            }
        )
    return rows


def main() -> int:
    """Run the campaign; exit code 1 when something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.architectures", description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--folder", type=Path, help="keep what is handed over here, for `--child` on another machine")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--eager", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.only, given.steps, given.folder, given.eager)
        return 0
    from tests.architectures.corpus import CORPUS

    names = given.only or list(CORPUS)
    if unknown := set(names) - set(CORPUS):
        parser.error(f"no architecture {', '.join(sorted(unknown))}; there are {', '.join(CORPUS)}")
    with TemporaryDirectory(prefix="architectures-") as temporary:
        rows = compare(names, given.steps, given.folder or Path(temporary))
    good = all(row["equal"] and row["within_noise"] for row in rows)
    if given.json:
        print(json.dumps({"steps": given.steps, "variants": list(variants()), "good": good, "architectures": rows}))
        return 0 if good else 1
    print(f"{given.steps} steps; roots compared over: {', '.join(variants())}")
    heads = ("nodes", "root", "equal", "loss", "exact", "eager", "apart", "noise")
    print(
        f"{'architecture':<26}{heads[0]:>6} {heads[1]:<13}{heads[2]:<6}{heads[3]:>9}   {heads[4]:<9}{heads[5]:<9}",
        end="",
    )
    print(f"{heads[6]:>9}{heads[7]:>9}")
    for row in rows:
        print(
            f"{row['architecture']:<26}{row['nodes']:>6} {row['root'][:12]:<13}{'yes' if row['equal'] else 'NO':<6}"
            f"{row['first_loss']:>9.4f}{'→':^3}{row['last_loss']:<9.4f}{row['eager_last_loss']:<9.4f}"
            f"{row['apart']:>9.1e}{row['noise']:>9.1e}{'' if row['within_noise'] else '  NOT WITHIN NOISE'}"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
