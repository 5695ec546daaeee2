"""Kernels of the arithmetic class rep-v1 on a CPU: fast, and the same bits as the definitions in `proofs.arithmetic`.

Reading order: `table` (the kernel of each operator), `matmul` (a register-blocked chain of multiply and add), `emit`
and `elementwise` (elementwise operators, fused into compiled loops), `rows` (sums, maxima, lookups), `call` (how a
kernel is called and cut into parts), `pool` (threads that share the parts). No kernel's bits depend on the number of
threads or on the instruction set: vectors run over independent elements, never along a chain.
"""
