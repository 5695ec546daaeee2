"""Recovery words: BIP-39, English. 24 words are a key's 32-byte seed itself.

The entropy is the ed25519 seed: the words restore exactly this one key, without a derivation path.
"""

from __future__ import annotations

from mnemonic import Mnemonic

from gensyn_node.keys import reasons
from gensyn_node.primitives.crypto import SEED_BYTES, SecretKey
from gensyn_node.primitives.errors import Rejection

_ENGLISH = Mnemonic("english")


def words_of(key: SecretKey) -> str:
    """The 24 recovery words of a key."""
    return str(_ENGLISH.to_mnemonic(key.seed))


def key_of(words: str) -> SecretKey:
    """The key that 24 recovery words stand for; BAD_WORDS names the first wrong word."""
    entropy = entropy_of(words)
    if len(entropy) != SEED_BYTES:
        raise Rejection(reasons.BAD_WORDS, f"24 words are needed, not {len(words.split())}")
    return SecretKey(entropy)


def entropy_of(words: str) -> bytes:
    """The entropy behind 12 to 24 words, checksum verified."""
    listed = words.lower().split()
    if len(listed) not in (12, 15, 18, 21, 24):
        raise Rejection(reasons.BAD_WORDS, f"24 words are needed, not {len(listed)}")
    for position, word in enumerate(listed, 1):
        if word not in _ENGLISH.wordlist:
            raise Rejection(reasons.BAD_WORDS, f"word {position} is not in the list of recovery words")
    try:
        return bytes(_ENGLISH.to_entropy(listed))
    except (ValueError, LookupError):
        raise Rejection(reasons.BAD_WORDS, "the words are known, but their checksum is wrong") from None
