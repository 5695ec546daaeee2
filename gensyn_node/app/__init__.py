"""The node, composed: cores that decide, drivers that give them a clock, a disk and a network.

Reading order: `settings` (what a node is started with), `wire` (what nodes say to each other), `chain` (the chain at
its head, on disk), `startup` (making and checking a home), `pool` (pending transactions), `executor` (builds, checks
and executes blocks), `driver` (owns the consensus core), `intake` (from gossip to the driver), `broadcaster` with
`outbox` (from the driver to gossip), `catch_up` and `block_sync` (what gossip lost), `chain_api` with `event_bus` (what
roles see), `node` (all of it as one context), then around it `history`, `views`, `certify`, `backend` (what the RPC
server sees), `role_service` and `service` (what `gensyn node run` runs).

Flows in: messages of peers, transactions, time. Flows out: signed messages, committed blocks, events.
Nothing imports this package but `gensyn_node.devnet`, `cli` and `gensyn_node.__main__`.
"""
