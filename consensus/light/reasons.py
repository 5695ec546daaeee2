"""Reasons for which a light client does not trust a header (E113x)."""

from gensyn_node.primitives.errors import reason

TRUST_EXPIRED = reason(
    "E1130",
    "light_trust_expired",
    "The trusted header is older than the trust period: its signers may have left with their stake.",
    "Get a recent height and block id from somebody you trust, and pass them as --trusted HEIGHT:HASH.",
)
NOT_ENOUGH_TRUST = reason(
    "E1131",
    "light_not_enough_trust",
    "Too little of the trusted validator set signed this header to skip to it.",
    "Verify a header in between first; the light client does so by itself.",
)
BAD_LIGHT_BLOCK = reason(
    "E1132",
    "bad_light_block",
    "The header, its commit and the validator sets beside it do not fit each other.",
    "Ask another peer.",
)
DOES_NOT_FOLLOW = reason(
    "E1133",
    "light_does_not_follow",
    "The header contradicts the one that is trusted: height, time, chain or validators.",
    "Ask another peer; if all peers agree, check the trusted height and hash.",
)
FROM_THE_FUTURE = reason(
    "E1134",
    "light_header_from_the_future",
    "The header's time lies ahead of this machine's clock by more than the drift allowed.",
    "Check this machine's clock.",
)
BAD_LIGHT_OPTIONS = reason(
    "E1135",
    "bad_light_options",
    "The trust level, trust period or clock drift is out of range.",
    "The trust level is between 1/3 and 1, the trust period is positive.",
)
NOT_AVAILABLE = reason(
    "E1136",
    "light_block_not_available",
    "The peer does not have a header that the verification needs.",
    "Ask another peer, or one that keeps older blocks.",
)
DIVERGENCE = reason(
    "E1137",
    "light_divergence",
    "Two peers show different headers of one height, both signed well enough to be believed: somebody attacks.",
    "Trust nothing newer than the common height; the proof has been sent to the peers that can punish the signers.",
)
WRONG_ANCHOR = reason(
    "E1138",
    "light_wrong_anchor",
    "The header at the trusted height is not the one that was named.",
    "Check the height and hash with whoever gave them, or ask other peers.",
)
