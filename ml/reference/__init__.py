"""The operators of opset 1 in rep-v1 as short pure-torch formulas that run on any device torch has.

`elementary` (exp, log, …) and `operators` (everything else, and `run`, a step of a whole program). Slow and plain: the
tests hold the kernels to these bits and these to `proofs.arithmetic`. Only single IEEE-754 operations, each its own
torch kernel: never alpha=, addcmul, lerp, addmm, division by a Python scalar, compiled graphs.
"""
