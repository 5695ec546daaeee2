"""Reasons for refusing to open a home, to believe its files, or to sign (E2002 to E2029)."""

from gensyn_node.primitives.errors import reason

STORE_MISSING = reason(
    "E2002",
    "store_missing",
    "The home has no chain database.",
    "Run init first, or restore the home from a backup.",
)
STORE_CORRUPT = reason(
    "E2003",
    "store_corrupt",
    "The chain database fails its own checks.",
    "Nothing: gensyn node run sets it aside and synchronises again; the sign state stays.",
)
STORE_EXISTS = reason(
    "E2004",
    "store_exists",
    "The home is already initialised.",
    "Use another home, or remove this one if its keys and its history are no longer needed.",
)
LOG_CORRUPT = reason(
    "E2005",
    "log_corrupt",
    "The input log of the running height is damaged in its middle.",
    "Nothing: it was set aside, and this validator sits out until the chain has passed the height it last signed.",
)
SIGN_STATE_MISSING = reason(
    "E2006",
    "sign_state_missing",
    "The record of what this key signed last is missing.",
    "Restore it, or create a new one only if this key has certainly not signed elsewhere.",
)
SIGN_STATE_CORRUPT = reason(
    "E2007",
    "sign_state_corrupt",
    "The record of what this key signed last is damaged.",
    "Restore it from a backup that is newer than the last signature.",
)
SIGN_REGRESSION = reason(
    "E2008",
    "sign_regression",
    "The key has already signed a later height, round or step.",
    "Nothing: refusing is what protects the stake.",
)
SIGN_CONFLICT = reason(
    "E2009",
    "sign_conflict",
    "The key has already signed something else at this height, round and step.",
    "Nothing: refusing is what protects the stake.",
)
WRONG_KEY = reason(
    "E2010",
    "sign_state_of_other_key",
    "The record of the last signature belongs to another key.",
    "Put the key and its sign state back together.",
)
HEADS_DISAGREE = reason(
    "E2011",
    "heads_disagree",
    "Chain head, ledger state, input log and sign state do not fit together.",
    "Restore the whole home from one backup, or begin again: gensyn node reset.",
)
TWIN_FOUND = reason(
    "E2013",
    "twin_found",
    "Somebody else signs with this node's key.",
    "Find and stop the other machine; never start this one while it could run. Two signatures cost the whole stake.",
)
SIGN_STATE_BEHIND = reason(
    "E2014",
    "sign_state_behind",
    "The chain has signatures of this key that the record of the last signature does not know.",
    "Make sure that no other machine has the key, then import the newest history: gensyn node sign-state import.",
)
BAD_SIGNING_HISTORY = reason(
    "E2015",
    "bad_signing_history",
    "The file is no signing history.",
    "Write one with gensyn node sign-state export on the machine that had the key.",
)
WRONG_CHAIN = reason(
    "E2012",
    "store_of_other_chain",
    "The database belongs to another genesis.",
    "Use the home that was made with this genesis file.",
)
CANNOT_ROLL_BACK = reason(
    "E2021",
    "cannot_roll_back",
    "The chain cannot go back to that height on this disk.",
    "Name a height whose state is kept (see [storage] keep_states), or synchronise again: gensyn node reset.",
)
SNAPSHOT_CORRUPT = reason(
    "E2022",
    "snapshot_corrupt",
    "A snapshot on this disk is damaged.",
    "Nothing: it is removed, and the next one is made on time.",
)
NO_ROOM = reason(
    "E2023",
    "no_room_on_disk",
    "The disk is too full to run on.",
    "Free some room, or lower [storage] low_water_mib, then start again.",
)
STORE_UNREADABLE = reason(
    "E2024",
    "store_unreadable",
    "The chain database cannot be opened now; it is not known to be damaged.",
    "Check the owner and the mode of the files, free descriptors and the mount; nothing was changed.",
)
