"""Reasons for refusing consensus messages and blocks (E110x to E112x)."""

from gensyn_node.primitives.errors import reason

UNKNOWN_VALIDATOR = reason(
    "E1101", "unknown_validator", "The signer is not in the validator set of this height.", "Check height and set."
)
BAD_VOTE = reason("E1102", "bad_vote", "The vote's fields are out of range.", "Check the sender's version.")
BAD_VOTE_SIGNATURE = reason(
    "E1103", "bad_vote_signature", "The vote's signature does not verify.", "Score the sender; check the chain id."
)
BAD_PROPOSAL = reason(
    "E1104", "bad_proposal", "The proposal's fields do not fit each other or its block.", "Check the sender's version."
)
WRONG_PROPOSER = reason(
    "E1105", "wrong_proposer", "The proposal is not from the proposer of its round.", "Score the sender."
)
BAD_PROPOSAL_SIGNATURE = reason(
    "E1106", "bad_proposal_signature", "The proposal's signature does not verify.", "Score the sender."
)
BAD_CERTIFICATE = reason(
    "E1107", "bad_vote_certificate", "The certificate is malformed or has no quorum.", "Score the sender."
)
BAD_COMMIT = reason(
    "E1108", "bad_commit", "The commit is malformed, forged or without more than two thirds.", "Sync from another peer."
)
BAD_HEADER = reason("E1109", "bad_header", "The header does not follow from the chain.", "Score the sender.")
BAD_BLOCK = reason("E1110", "bad_block", "The block does not match its header's roots.", "Score the sender.")
BAD_EVIDENCE = reason("E1111", "bad_evidence", "The evidence proves nothing or is too old.", "Drop the evidence.")
EVIDENCE_OUT_OF_REACH = reason(
    "E1114",
    "evidence_out_of_reach",
    "The evidence is too old, of a height this node does not have, or about a validator that is punished already.",
    "Nothing to do; a node that is ahead or keeps more history may judge it.",
)
BAD_VALIDATOR_UPDATE = reason(
    "E1112", "bad_validator_update", "The change of the validator set is not allowed.", "Check the list of updates."
)
BAD_BEACON = reason("E1113", "bad_beacon", "The beacon proof or its key does not verify.", "Score the sender.")
