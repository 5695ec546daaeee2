"""Local networks: genesis, homes, processes, stories.

In: a number of nodes, cheats, a folder. Out: running `gensyn node run` processes and what they did. Reading order:
`reasons`, `genesis` (keys and the first state), `layout` (the folder), `processes` (start, watch, stop; none stays
behind), `scenario` (stories as TOML files), `digits` (real data for them), `story` (runs one and judges it).
For demonstrations and tests: keys lie unencrypted, chain ids start with `devnet`.
"""
