"""Takes secrets out of text that leaves the machine: those that are known here, and whatever looks like one."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from mnemonic import Mnemonic

REDACTED = "[redacted]"
SECRET_BYTES_MIN = 8
"""Shorter ones are no secrets, and replacing them would garble everything."""
WORDS_MIN = 12
"""Recovery words: as many in a row are a key."""
_NAMED = re.compile(
    r"(?i)(\b(?:bearer|authorization|token|pass(?:phrase|word)?|mnemonic|recovery[ _]words|secret|seed|private)\w*"
    r"[\"']?\s*[:= ]\s*[\"']?)([^\s\"',}\]]{6,})"
)
_WORD = re.compile(r"[A-Za-z]+")


class Redactor:
    """Replaces secrets in text."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        """`secrets` as bytes: a key's seed, a token's text. Their hexadecimal and base64 forms are replaced as well."""
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) < SECRET_BYTES_MIN:
                continue
            forms |= {secret.hex(), secret.hex().upper(), repr(secret)[2:-1]}
            forms |= {
                base64.b64encode(secret).decode().rstrip("="),
                base64.urlsafe_b64encode(secret).decode().rstrip("="),
            }
            text = secret.decode("utf-8", "ignore")
            if text.encode() == secret:
                forms.add(text)
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self._words = frozenset(Mnemonic("english").wordlist)

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        # Rows of words first: "secret" and "private" are words too, and what is taken out after them would cut a row.
        return _NAMED.sub(rf"\1{REDACTED}", self._without_words(text))

    def _without_words(self, text: str) -> str:
        """Rows of recovery words, whatever stands between them."""
        rows: list[tuple[int, int]] = []
        start, end, count = 0, 0, 0
        for match in _WORD.finditer(text):
            if match[0].lower() in self._words and (count == 0 or match.start() - end <= 4):
                start = match.start() if count == 0 else start
                end, count = match.end(), count + 1
                continue
            if count >= WORDS_MIN:
                rows.append((start, end))
            known = match[0].lower() in self._words
            start, end, count = match.start(), match.end(), int(known)
        if count >= WORDS_MIN:
            rows.append((start, end))
        for first, last in reversed(rows):
            text = text[:first] + REDACTED + text[last:]
        return text
