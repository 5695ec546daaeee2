"""The node, composed: cores that decide, drivers that give them a clock, a disk and a network.

Reading order: `settings` (what a node is started with), `wire` (what nodes say to each other), `genesis_state` and
`chain` (the chain at its head, on disk), `executor` (builds, checks and executes blocks), `driver` (owns the consensus
core), `outbox` and `event_bus` (small tools), `pool` (pending transactions), `intake` (from gossip to the driver),
`broadcaster` (from the driver to gossip), `catch_up` and `block_sync` (what gossip lost), `chain_api` (what roles see),
`backend` (what the RPC server sees), `node` (all of it as one process).

Flows in: messages of peers, transactions, time. Flows out: signed messages, committed blocks, events.
Nothing imports this package but `gensyn_node.devnet`, `cli` and `gensyn_node.__main__`.
"""
