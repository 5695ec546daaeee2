"""Verdicts on transactions' signatures, so that none is ever checked twice however often it comes.

The key is the transaction's id, which hashes every byte of it, the signature among them: a forgery has an id of its own
and can neither take the place of the true transaction nor make it look forged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from consensus.ledger.messages import Transaction
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.reasons import BAD_SIGNATURE


class SignatureCache:
    """The last verdicts, by transaction id."""

    def __init__(self, capacity: int = limits.SIGNATURES_REMEMBERED_MAX) -> None:
        self._capacity = capacity
        self._verdicts: OrderedDict[bytes, bool] = OrderedDict()
        self.checked = 0
        """Signatures verified since the start."""
        self.spared = 0
        """Verifications that an earlier verdict made unnecessary."""

    def check(self, name: bytes, transaction: Transaction, verify: Callable[[Transaction], None]) -> None:
        """`Rejection` BAD_SIGNATURE for a transaction of this id that does not verify."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            self.checked += 1
            verdict = self._verify(transaction, verify)
            self._verdicts[name] = verdict
            if len(self._verdicts) > self._capacity:
                self._verdicts.popitem(last=False)
        else:
            self.spared += 1
        if not verdict:
            raise Rejection(BAD_SIGNATURE, "the transaction's signature does not verify under its sender's key")

    def verified(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """Those of the transactions whose signature is known to be good."""
        return frozenset(name for name in names if self._verdicts.get(name))

    @staticmethod
    def _verify(transaction: Transaction, verify: Callable[[Transaction], None]) -> bool:
        try:
            verify(transaction)
        except Rejection:
            return False
        return True
