"""Step programs: one whole training step as a graph of named operators with fixed meaning (opset 1).

Reading order: `types` (the structs that travel), `operators` (the table of the opset: inputs, attributes, meaning,
gas) over `shapes` (type rules), `validate` (what a received program must satisfy), `initial` (the state
that a seed gives).
"""
