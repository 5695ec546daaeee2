"""What a message handler is told besides the state and the message."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.ledger.block import BlockContext


@dataclass(frozen=True, slots=True)
class Call:
    """One transaction at work."""

    context: BlockContext
    sender: bytes
    """Account address."""
    transaction_id: bytes
    size: int
    """Bytes of the transaction."""

    @property
    def height(self) -> int:
        """Height of the block."""
        return self.context.height
