"""Reasons of local networks (E187x)."""

from gensyn_node.primitives.errors import reason

BAD_DEVNET = reason("E1871", "bad_devnet", "There is no devnet in this folder.", "Start one with gensyn devnet up.")
DEVNET_EXISTS = reason(
    "E1872", "devnet_exists", "There is a devnet in this folder already.", "Use gensyn devnet down, or another --home."
)
DEVNET_RUNS = reason("E1873", "devnet_runs", "The devnet of this folder runs already.", "Use gensyn devnet down first.")
NODE_DIED = reason("E1874", "node_died", "A node of the devnet ended.", "Read its log: gensyn devnet logs.")
NOT_READY = reason("E1875", "not_ready", "The devnet made no block in time.", "Read its logs: gensyn devnet logs.")
BAD_SCENARIO = reason("E1876", "bad_scenario", "The scenario file is not valid.", "Correct the named line.")
STORY_FAILED = reason("E1877", "story_failed", "The story did not end as it should.", "Read the logs of its nodes.")
NO_DEMO_DATA = reason(
    "E1878", "no_demo_data", "The demonstration needs scikit-learn for its data.", "Install gensyn with [demo]."
)
