"""A training again, offline: a plain loop, by the pure-torch reference or by the kernels, in a process of its own.

`python plain_training.py CERTIFICATE DATA THREADS reference|kernels` prints the final state root, and which processor
torch saw. It needs what anybody has who reads a certificate: the certificate, and the data as arrays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from gensyn_node.sdk.certificate import read_certificate
from ml.interpreter import Interpreter
from ml.kernels.threads import set_threads
from ml.reference import operators as reference
from proofs import tensors
from proofs.program.initial import initial_tensor
from proofs.program.types import Program, program_id
from proofs.sampling import batch_indices
from proofs.state import state_root


def main(certificate_path: str, data: str, threads: str, how: str) -> None:
    """Train from the seed in the certificate; print what came out."""
    set_threads(int(threads))
    certificate = read_certificate(Path(certificate_path))
    program: Program = decode(Program, certificate.program, max_bytes=PROGRAM_BYTES_MAX)
    record = certificate.record
    with np.load(data) as file:
        arrays = {item.name: file[item.name] for item in program.batch}
    records = len(next(iter(arrays.values())))
    state = [torch.from_numpy(initial_tensor(e, n, record.seed).copy()) for n, e in enumerate(program.state)]
    interpreter = Interpreter(program)
    loss = torch.tensor(0.0)
    for step in range(certificate.spec.steps):
        chosen = batch_indices(record.seed, step, program.batch_size, records)
        batch = [torch.from_numpy(arrays[item.name][chosen]) for item in program.batch]
        if how == "reference":
            state, loss = reference.run(program, state, batch, step)
        else:
            state, loss = interpreter.step(state, batch, step)
    roots = [tensors.root_of(value.contiguous().numpy()) for value in state]
    names = [entry.name for entry in program.state]
    root = state_root(program_id(program), certificate.spec.steps, names, roots)
    capability = torch.backends.cpu.get_cpu_capability()
    print(json.dumps({"root": root.hex(), "loss": float(loss), "processor": capability, "threads": threads}))


if __name__ == "__main__":
    main(*sys.argv[1:])
