"""Reasons for refusing what comes over the network (E16)."""

from gensyn_node.primitives.errors import reason

GOSSIP_TOO_LARGE = reason(
    "E1601",
    "gossip_too_large",
    "The message is larger than gossip carries.",
    "Announce its hash and let peers ask for it.",
)
REQUEST_TOO_LARGE = reason(
    "E1602", "request_too_large", "The request is larger than this method takes.", "Ask for less, or in several parts."
)
REPLY_TOO_LARGE = reason("E1603", "reply_too_large", "The peer's reply is larger than was agreed.", "Ask another peer.")
UNKNOWN_METHOD = reason(
    "E1604", "unknown_method", "The peer does not serve this method.", "Check that both run the same version."
)
TOO_MANY_REQUESTS = reason(
    "E1605", "too_many_requests", "The peer sent more than its share in this time.", "Slow down and try again later."
)
NO_HANDSHAKE = reason(
    "E1606", "no_handshake", "The peer asked before a successful handshake.", "Shake hands first, on the same chain."
)
WRONG_CHAIN = reason(
    "E1607",
    "wrong_chain",
    "The peer is on another chain.",
    "Start the node with the genesis file of the chain that you mean to join.",
)
WRONG_GENESIS = reason(
    "E1608",
    "wrong_genesis",
    "The peer's chain has the same name and another genesis.",
    "Get the genesis file again; one of the two nodes has an old or a private one.",
)
WRONG_PROTOCOL = reason(
    "E1609",
    "wrong_protocol",
    "The peer speaks another version of the network protocol.",
    "Upgrade the node with the lower version: pipx upgrade gensyn.",
)
BANNED = reason(
    "E1610", "banned", "The peer is banned here for a while.", "See the reason and the expiry in the ban list."
)
BLOB_MISMATCH = reason(
    "E1612", "blob_mismatch", "The uploaded bytes are another blob than announced.", "Upload the file again."
)
BAD_UPLOAD = reason("E1613", "bad_upload", "The part does not fit the upload.", "Send the parts in order, 1 MiB each.")
INTERNAL = reason(
    "E1614", "internal_error", "The peer failed while answering.", "Try another peer; the cause is in that peer's log."
)
BAD_ADDRESS_TEXT = reason(
    "E1615",
    "bad_peer_address",
    "The text is not a peer's address.",
    "Write it like /ip4/203.0.113.7/tcp/7400/p2p/12D3Koo…, as `gensyn node status` prints it.",
)
BY_OPERATOR = reason("E1616", "banned_by_operator", "The node's owner banned this peer.", "Ask the node's owner.")
GOSSIP_RATE = reason(
    "E1617", "gossip_rate", "The peer sends gossip faster than its share.", "Slow down; lost messages can be asked for."
)
NO_SUCH_BLOB = reason("E1618", "no_such_blob", "The peer does not hold this blob.", "Ask another peer.")
BAD_CHAIN_ID = reason(
    "E1619", "bad_chain_id", "The chain id is not a short plain name.", "Use letters, digits, - _ and . (at most 64)."
)
WRONG_FRAME = reason(
    "E1620",
    "wrong_frame",
    "The bytes on the stream do not follow our framing.",
    "Check that both run the same version.",
)
MALFORMED_GOSSIP = reason(
    "E1621", "malformed_gossip", "The gossip stream carries bytes that are no gossip.", "Run an unmodified node."
)
OUT_OF_SEASON = reason(
    "E1622",
    "out_of_season",
    "The message is of a height that does not matter here now; it cannot be checked and is not passed on.",
    "Nothing to do: blocks and votes can be asked for.",
)
