"""What a node does for money: solver, verifier, whistleblower, as thin drivers over the ledger's list of duties.

Reading order: `api` (what a role needs of the node), `policy` (pure: which duty next), `worker_client` (one training
process), `materials` (program, data and states of a task on this disk), `account` (signs and sends this node's
transactions), then `solver`, `verifier`, `whistleblower`, `disputant`, and `runner`, which drives them.
Flows in: committed blocks. Flows out: transactions, blobs. Never imports the application, the RPC or libp2p.
"""
