"""Kernels of the arithmetic class rep-v1 on a CPU: fast, and the same bits as the definitions in `proofs.arithmetic`.

`table` maps operator names to kernels (what the interpreter takes); `matmul` is a register-blocked chain of multiply and
add; `elementary` the fixed polynomials; `sums` lanes and halving; `rows` embeddings; `exact` everything that torch does
with one IEEE-754 operation or none; `threads` cuts work into independent parts. No kernel's bits depend on the number of
threads or on the instruction set: vectors run over independent elements, never along a chain.
"""
