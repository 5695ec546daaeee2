"""State sync: the ledger after one block as a list of chunks, and how a newcomer proves it instead of believing it.

Flow out: sorted entries → `stream` (frames, cut into chunks) → `manifest` (chunk hashes). Flow in: manifests that peers
offer → `fetch` (which chunk from whom, whom to blame) → `stream` → `restore` (the tree's root must be the app hash of a
header that the light client verified; every other field must follow from that header or from the ledger itself).
Reading order: `reasons`, `manifest`, `stream`, `restore`, `fetch`. Nothing is compressed: nothing can expand.
"""
