"""Reasons for refusing bytes, keys and addresses (E10)."""

from gensyn_node.primitives.errors import reason

TOO_LARGE = reason("E1001", "too_large", "The input is larger than its bound.", "Send less, or in several parts.")
MALFORMED = reason(
    "E1002", "malformed", "The bytes are not a valid encoding of the expected type.", "Check the sender's version."
)
NOT_CANONICAL = reason(
    "E1003", "not_canonical", "The bytes decode, but are not the one canonical encoding.", "Encode with our codec."
)
BAD_ADDRESS = reason(
    "E1004", "bad_address", "The text is not a gsn1 address.", "Copy the whole address; its checksum guards it."
)
BAD_SIGNATURE = reason(
    "E1005", "bad_signature", "The signature does not verify.", "Sign again with the right key and chain id."
)
BAD_AMOUNT = reason("E1006", "bad_amount", "The amount of money is not valid.", "Write it like 12.5 GSN or 1000 nano.")
BAD_KEY = reason("E1007", "bad_key", "The key is not a valid ed25519 key.", "Use a 32-byte ed25519 key.")
