"""Reasons that a client gives: task file, node, certificate (E181x to E186x)."""

from gensyn_node.primitives.errors import reason

BAD_TASK_FILE = reason(
    "E1811", "bad_task_file", "The task file is not valid.", "Correct the named line; gensyn task validate checks it."
)
UNKNOWN_TASK_FIELD = reason(
    "E1812", "unknown_task_field", "The task file has a field that does not exist.", "Remove or rename the field."
)
BAD_DATA_FILE = reason(
    "E1813", "bad_data_file", "The data file cannot be used.", "Give x and y in .npz or .safetensors, or a text."
)
TASK_TOO_LARGE = reason(
    "E1814", "task_too_large", "The task does not fit the network's bounds.", "Make it smaller as the numbers say."
)
PRICE_ABOVE_MAXIMUM = reason(
    "E1815", "price_above_maximum", "The work costs more than the task's maximum price.", "Raise [price] max."
)
NOBODY_ELIGIBLE = reason(
    "E1816", "nobody_eligible", "Nobody on the network can do this task now.", "See gensyn task quote for why."
)
NOTHING_HELD_OUT = reason(
    "E1817",
    "nothing_held_out",
    "There are no records to evaluate the model on.",
    "Write validation = 0.1 under [data] before training, or give a file with --data.",
)
NODE_UNREACHABLE = reason(
    "E1821", "node_unreachable", "No node answers.", "Start one with gensyn node run, or name one with --node."
)
NODE_ERROR = reason("E1822", "node_error", "The node's answer is not what it should be.", "Check the node's version.")
NO_TOKEN = reason(
    "E1823", "no_token", "The node's token cannot be read.", "Use the home of the node, or give --token-file."
)
NOT_INCLUDED = reason(
    "E1824", "not_included", "The transaction is in no block yet.", "It may still come; look at the account's nonce."
)
TRANSACTION_FAILED = reason(
    "E1825", "transaction_failed", "The transaction is in a block and was refused there.", "Read the reason in it."
)
UPLOAD_FAILED = reason("E1826", "upload_failed", "The node did not accept the upload.", "Repeat it: it resumes.")
BAD_IDENTIFIER = reason(
    "E1827", "bad_identifier", "The id is not one of a blob, task or dispute.", "Copy all 64 digits of it."
)
NO_MODEL = reason("E1831", "no_model", "The task has no model.", "See its state with gensyn task show.")
TASK_NOT_FINISHED = reason(
    "E1832",
    "task_not_finished",
    "The task ended without being finished.",
    "See why with gensyn task show.",
)
STILL_RUNNING = reason("E1833", "still_running", "The task goes on.", "Wait longer, or watch it.")
NOTHING_TO_AUDIT = reason(
    "E1834",
    "nothing_to_audit",
    "The task has nothing that could be re-executed now.",
    "Wait until an instalment is committed: gensyn task watch.",
)
NOT_EXACT = reason(
    "E1835",
    "not_exact",
    "The task's results are not the same bits on every machine.",
    "Audit tasks whose arithmetic is rep-v1.",
)
AUDIT_TOO_LARGE = reason(
    "E1836",
    "audit_too_large",
    "This machine has too little memory for a segment of the task.",
    "Close other programs, or audit on a larger machine.",
)
NOT_BONDED = reason(
    "E1837",
    "not_bonded",
    "Whoever challenges puts up a bond, and this account has none that is free.",
    "Repeat the command with --bond, which puts it up; it comes back unless the challenge is lost.",
)
BAD_CERTIFICATE = reason(
    "E1841", "bad_certificate", "The certificate proves nothing.", "Get it again from another node; do not trust it."
)
NO_SUCH_FILE = reason(
    "E1882", "no_such_file", "A file that was named cannot be read.", "Check its path and its permissions."
)
BAD_INCLUSION = reason(
    "E1845",
    "bad_inclusion",
    "The proof does not show that the block has the transaction.",
    "Ask another node; do not trust this one.",
)
OTHER_GENESIS = reason(
    "E1842", "other_genesis", "The certificate is of another chain than the one you trust.", "Use that chain's genesis."
)
OTHER_MODEL = reason(
    "E1843",
    "other_model",
    "The model is not the one that was certified.",
    "Download it again.",
)
