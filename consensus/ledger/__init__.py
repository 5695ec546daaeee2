"""The ledger: accounts, stake, providers, tasks, disputes and money, as one pure function of a view and a block.

Flows in: a `LedgerView` (what is stored) and a block's transactions with its context. Flows out: a `BlockDelta` with
writes, events, results, validator updates and the next app hash. Integers only; nothing unordered is iterated.

Reading order: `fields`, `messages` (what can be asked), `parameters`, `records` (what is stored), `keys` (where),
`reasons` (why something is refused), `events` (what is told), `block` (what goes in and comes out), `tree` (the
authenticated map), `view` (reading and writing), `money` (the one way money moves), `fees`, `execute` (a block) with
`call` (what a handler is told), `genesis`; stakes: `shares` (arithmetic), `stake_records`, `staking` (power and the
set), `delegation`, `unbonding`, `rewards`, `slashing`, `downtime`, `operators`; then `providers`, `programs`; a task's
life: `schedule` (its arithmetic), `assignment`, `life`, `tasks`, `verification`, `settlement`, `certificate`; what goes
wrong: `challenges`, `disputes`; last what others ask: `queries`, `stake_queries`, `duties`, and for tests and
simulators `memory`, `invariants`, `stake_invariants`.
Never imports trio, a clock, randomness, a disk or the network.
"""
