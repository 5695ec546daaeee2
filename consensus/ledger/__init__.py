"""The ledger: accounts, stake, providers, tasks, disputes and money, as one pure function of a view and a block.

Flows in: a `LedgerView` (what is stored) and a block's transactions with its context. Flows out: a `BlockDelta` with
writes, events, results, validator updates and the next app hash. Integers only; nothing unordered is iterated.

Reading order: `fields`, `messages` (what can be asked), `parameters`, `records` (what is stored), `keys` (where),
`reasons` (why something is refused), `tree` (the authenticated map), `view` (reading and writing), `money` (the one way
money moves), `execute` (a block), then a task's life: `schedule`, `providers`, `assignment`, `tasks`, `verification`,
`settlement`, and what goes wrong: `challenges`, `disputes`; last `queries` and `duties` (what roles and RPC ask).
Never imports trio, a clock, randomness, a disk or the network.
"""
