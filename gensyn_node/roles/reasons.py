"""Reasons of the roles (E195x: work for others on this machine)."""

from gensyn_node.primitives.errors import reason

TRANSACTION_REFUSED = reason(
    "E1951",
    "own_transaction_refused",
    "The ledger refused a transaction of this node.",
    "Read the message; the duty is tried again.",
)
STATE_UNAVAILABLE = reason(
    "E1952",
    "state_unavailable",
    "A state of the task could not be fetched from any peer.",
    "Check the node's peers; the solver that withholds it is at fault.",
)
TASK_TOO_LARGE = reason(
    "E1953",
    "task_too_large_for_machine",
    "The task needs more memory than this node gives.",
    "Raise worker.memory_mib or take smaller tasks.",
)
DATA_MISMATCH = reason(
    "E1954",
    "data_mismatch",
    "Downloaded data do not have the root the task names.",
    "The submitter must serve the right data.",
)
WORKER_DIED = reason(
    "E1955",
    "training_process_died",
    "The training process ended unexpectedly.",
    "Look at log/worker.log in the node's home.",
)
WORKER_REFUSED = reason(
    "E1956", "worker_refused", "The training process refused a request.", "Read the worker's own reason in the message."
)
BAD_CHEAT = reason(
    "E1957",
    "bad_cheat",
    "The rehearsed cheat is not known.",
    "Write flip-bit@step=37, lazy-verifier or another of those named, or leave it empty.",
)
NO_LONGER_OURS = reason(
    "E1958", "no_longer_ours", "The task moved on while this node worked on it.", "Nothing to do: another node goes on."
)
VERDICT_LOST = reason(
    "E1959",
    "verdict_lost",
    "A verdict that was committed to is not on disk any more.",
    "Do not delete a node's work folder while it has duties.",
)
CHALLENGE_LOST = reason(
    "E1960",
    "challenge_lost",
    "A challenge that was announced is not on disk any more.",
    "Do not delete a node's work folder while it has duties.",
)
SECRET_LOST = reason(
    "E1964",
    "secret_lost",
    "A secret or sealed roots that this node bound itself to are not on disk any more.",
    "Do not delete a node's work folder while it has duties: the bond hangs on it.",
)
UNKNOWN_ROLE = reason(
    "E1961", "unknown_role", "There is no such role.", "Choose auto, solver, verifier, whistleblower or none."
)
BLOB_TOO_LARGE = reason(
    "E1962",
    "blob_too_large",
    "A blob that a task names is larger than what it stands for can be.",
    "Nothing to do: it is not downloaded.",
)
VALUES_AWAITED = reason(
    "E1970",
    "values_awaited",
    "A native segment is too far off, and its solver has not shown its values yet.",
    "Nothing to do: the verdict waits for them, or for the solver's time to run out.",
)
NOT_REPEATED = reason(
    "E1971",
    "native_bits_not_repeated",
    "This machine does not make the bits again that it committed to.",
    "Work on native tasks with the same torch, processor and work folder from beginning to end.",
)
DISK_FULL = reason(
    "E1963",
    "no_room_for_task",
    "The disk has too little room for the task's data.",
    "Free some space, or move the node's home to a larger disk.",
)
