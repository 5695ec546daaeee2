"""A step done for a part of the batch at a time, with the same bits.

`records` finds out which values belong to single records and which operators add over them, or names the node that
mixes records in a way that has no parts; `sections` rewrites the program into what is done before, for every part, and
after; `accumulate` has the kernels that continue a sum where the part before left it; `parts` runs it all.
"""
