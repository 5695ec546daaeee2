"""Reasons for refusing a snapshot (E116x)."""

from gensyn_node.primitives.errors import reason

BAD_MANIFEST = reason(
    "E1161", "bad_snapshot_manifest", "The snapshot's manifest contradicts itself or the chain.", "Ask other peers."
)
BAD_CHUNK = reason(
    "E1162", "bad_snapshot_chunk", "The chunk is not the one that the manifest names.", "Ask another peer for it."
)
BAD_ENTRIES = reason(
    "E1163",
    "bad_snapshot_entries",
    "The snapshot's entries are cut, unordered, repeated or too large.",
    "Ask other peers for another snapshot.",
)
STATE_MISMATCH = reason(
    "E1164",
    "snapshot_state_mismatch",
    "The snapshot's contents are not the state that the verified header names.",
    "Nothing: the peers that offered it are banned; the node goes on with another snapshot or block by block.",
)
NO_SNAPSHOT = reason(
    "E1165",
    "no_snapshot",
    "No snapshot of that height is here.",
    "Ask for the list of snapshots again, or make one with gensyn node snapshot create.",
)
