"""Tendermint as in *The latest gossip on BFT consensus* (arXiv 1807.04938): the paper's rules, weighted by power.

Flow: bytes → (driver decodes) → `verify` checks signatures → `ConsensusCore.step(input) → effects` → driver acts.
Reading order: `types`, `inputs`, `effects`; `round` (the paper's rules, one `match`), `votes` (counting), `height`
(which rule fires when), `core` (blocks, signing, heights), `commits`, `early`, `catchup` (what a peer lacks); then
`validators`, `proposer`, `parameters`, `verify`, `block`, `evidence`. Nothing here knows a clock, a disk, a socket or
what a transaction means.
"""
