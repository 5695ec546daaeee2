"""Reasons for refusing a key file, a passphrase or recovery words (E205x)."""

from gensyn_node.primitives.errors import reason

BAD_KEY_FILE = reason(
    "E2051", "bad_key_file", "The key file is damaged or no key file.", "Restore it from a copy or the recovery words."
)
WRONG_PASSPHRASE = reason(
    "E2052",
    "wrong_passphrase",
    "The passphrase is wrong, or the key file was changed.",
    "Try again; the recovery words restore the key if the passphrase is lost.",
)
NO_SUCH_KEY = reason("E2053", "no_such_key", "There is no key of that name.", "See gensyn wallet list.")
KEY_EXISTS = reason("E2054", "key_exists", "There is a key of that name already.", "Choose another name.")
BAD_KEY_NAME = reason(
    "E2055", "bad_key_name", "The name of the key is not valid.", "Use 1 to 40 letters, digits, dashes or underscores."
)
BAD_WORDS = reason(
    "E2056", "bad_words", "The recovery words are not valid.", "Check spelling and order: the last word is a checksum."
)
NO_PASSPHRASE = reason(
    "E2057",
    "no_passphrase",
    "A passphrase is needed and none was given.",
    "Set GENSYN_PASSPHRASE_FILE or GENSYN_PASSPHRASE, or run it in a terminal.",
)
