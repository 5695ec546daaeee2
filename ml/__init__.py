"""Machine learning: capture a training step as a program, run it bit for bit, prove segments of it.

In: an `nn.Module`, a data set, a task's seed. Out: programs, trained states, segment roots, moves of a dispute.
Reading order: `presets` (ordinary modules), `capture` (module → program), `reference` and `kernels` (what the operators
compute), `interpreter` (program → values), `devices` (the same on CUDA and MPS), `trainer`, `segment`, `oracle` (train,
verify, answer a dispute), `data`, `checkpoint`, `memory`, `worker` (all of it in a process of its own, in frames).
Imports `proofs` and the primitives only; never the consensus, the network or the node.
"""
