"""The light client's core: a header is trusted because enough of a trusted validator set signed it, or it is not.

Reading order: `types`, `verify` (one step), `skipping` (from a trusted header to any later one by bisection),
`backwards` (to an earlier one by the hash chain), `detector` (witnesses, and what a divergence proves). All of it is
pure: whoever has a network or a file of answers drives `Skipping` by performing `Fetch` and feeding what came.
"""
