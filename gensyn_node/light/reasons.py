"""Reasons for refusing what a light client is asked or told (E114x)."""

from gensyn_node.primitives.errors import reason

NO_PEER = reason(
    "E1140",
    "light_no_peer",
    "No peer could be reached, or none had a header that can be verified.",
    "Check the seeds ([p2p] seeds in config.toml, or --seeds) and the genesis file.",
)
NO_WITNESS = reason(
    "E1141",
    "light_no_witness",
    "Too few other peers confirmed the header: one peer alone could hide a fork.",
    "Add seeds run by others, or accept fewer witnesses with --witnesses.",
)
BAD_PROOF = reason(
    "E1142",
    "light_bad_proof",
    "What a peer answered is not what the verified header commits to.",
    "Ask another peer; this one is wrong or lies.",
)
BAD_TRUST_FILE = reason(
    "E1143",
    "light_bad_trust_file",
    "The file with the trusted header is damaged or of another chain.",
    "Remove it and begin again from the genesis, or pass --trusted HEIGHT:HASH.",
)
BAD_ANCHOR = reason(
    "E1144",
    "light_bad_anchor",
    "The trusted header is given as HEIGHT:HASH, a number and 64 hexadecimal digits.",
    "Copy both from somebody you trust, such as `gensyn chain block --json` of your own node.",
)
NOT_PROVABLE = reason(
    "E1145",
    "light_not_provable",
    "The state of that height is not kept here, or no header commits to it yet.",
    "Ask for a newer height, or another peer.",
)
REFUSED = reason(
    "E1146",
    "light_transaction_refused",
    "The transaction was refused, for a reason that this version does not know.",
    "Look the code up with a newer version: gensyn explain CODE.",
)
NOT_SEEN = reason(
    "E1147",
    "light_transaction_not_seen",
    "No block is proven to have the transaction yet.",
    "It may still be included: look at the account's nonce with gensyn wallet balance --light before sending again.",
)
