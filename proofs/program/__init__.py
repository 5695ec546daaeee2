"""Step programs: one whole training step as a graph of named operators with fixed meaning (opset 1).

Reading order: `types` (the structs that travel), `operators` (the table of the opset: shapes, dtypes, gas),
`validate` (what a received program must satisfy), `initial` (the state that a seed gives).
"""
