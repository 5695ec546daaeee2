"""What may be claimed of a native result: bounds that every honest kernel meets, the game about them, the threshold.

`bounds` (how far from the exact definition a vendor operator may be), `reference` (one tile of the definition, piece by
piece, with the sums of magnitudes that the bound needs), `types`, `game` and `strategy` (the dispute over one operator
of one step, from values that the defender committed to), `profile` (the threshold out of profilers' measurements).
"""
