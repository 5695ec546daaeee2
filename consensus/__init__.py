"""Pure protocol cores: `tendermint` (agreement), `ledger` (state transition), `light` (heads verified from afar),
`statesync` (joining by a snapshot), `mempool` (pending transactions) and `beacon` (verifiable randomness). Inputs go
in, effects come out; no clock, randomness, socket, disk or scheduler here.

Imports `proofs` and `gensyn_node.primitives` only. The driver that gives these cores a clock and a disk is
`gensyn_node.app`; the simulator in `tests/simulator` drives the very same code.
"""
