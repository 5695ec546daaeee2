"""The arithmetic class `native`: the same step program by the vendor's fast operators.

`settings` makes torch repeat itself on one machine, `operators` is the table from the opset to torch, `interpreter`
runs a step by it, `distance` measures how far two results are apart, `audit` holds every value of a step against its
bound. Two machines agree only to rounding: what may be claimed of a native result is in `proofs.native`.
"""
