"""The exact meaning of every operator of opset 1 in the arithmetic class `rep-v1`, numpy only.

Reading order: `constants` and `elementary` (exp, log, …), `elementwise` (one operator on equal-shaped arrays),
`movement` (which input element becomes which output element), `generators` (elements computed from their position),
`definitions` (an operator on whole tensors, for tests and tools; entry point `whole`); then tile by tile, for disputes:
`tiles` (entry point: `piece_count`, `compute_piece`, `compute_tile`), `jobs` (tiles in, blocks out), `gather`
(elementwise and movement operators, batch values), `rules_matmul`, `rules_reduce`, `rules_index`. `opset` is the table
that names definition and tile rule of every operator; `self_check` asks the machine.
Nodes, types and tiles flow in, arrays flow out.
Never imports torch or numba and never calls a BLAS: no np.matmul, np.dot, np.einsum, np.sum or np.exp on f32.
"""
