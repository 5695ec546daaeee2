"""The chain without a node: a client that dials some peers, verifies the head by itself, and reads and sends by proofs.

`wire` is what it asks of nodes (which `gensyn_node.app` answers), `peers` the asking, `client` the way to a verified
head, `trust` where trust begins and how it is kept, `reads` proven records, `transactions` sending and seeing it
happen, `session` all of it over a network of its own.
"""
