"""Reasons for refusing a configuration or a home (E180x)."""

from gensyn_node.primitives.errors import reason

BAD_CONFIG = reason(
    "E1801", "bad_config", "The configuration file is not valid.", "Correct the named line of config.toml."
)
UNKNOWN_CONFIG_KEY = reason(
    "E1802", "unknown_config_key", "The configuration file has a key that does not exist.", "Remove or rename the key."
)
NO_HOME = reason("E1803", "no_home", "The home has no node in it.", "Run gensyn node init first, or give --home.")
HOME_EXISTS = reason(
    "E1804", "home_exists", "There is a node in this home already.", "Use another --home, or keep the one you have."
)
CHEAT_REFUSED = reason(
    "E1805", "cheat_refused", "A cheat is allowed on a devnet only.", "Remove [devnet] cheat from config.toml."
)
HOME_IN_USE = reason(
    "E1806", "home_in_use", "Another process runs on this home.", "Stop the other process, or use another --home."
)
BAD_GENESIS_FILE = reason(
    "E1807", "bad_genesis_file", "The genesis file is missing or damaged.", "Get it again from those who run the chain."
)
