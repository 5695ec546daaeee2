"""To a header *before* the trusted one: each header names its predecessor's hash, so no signature is needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.light import reasons
from consensus.light.skipping import HEADERS_MAX, Effect, Failed, Fetch, NotAvailable, Verified
from consensus.light.types import LightBlock, trusted_of
from consensus.light.verify import check_shape
from gensyn_node.primitives.errors import Rejection


@dataclass(slots=True)
class Backwards:
    """One verification of one height below a block that is trusted already. The trace goes downwards."""

    chain_id: str
    trusted: LightBlock
    target: int
    _trace: list[LightBlock] = field(init=False, default_factory=list)

    def start(self) -> Effect:
        """The first effect."""
        if not 1 <= self.target < self.trusted.height:
            return Failed(Rejection(reasons.DOES_NOT_FOLLOW, f"{self.target} is not below {self.trusted.height}"))
        if self.trusted.height - self.target > HEADERS_MAX:
            return Failed(
                Rejection(
                    reasons.NOT_AVAILABLE,
                    f"header {self.target} is {self.trusted.height - self.target} blocks back, "
                    f"the hash chain is followed for {HEADERS_MAX}",
                )
            )
        return Fetch(self.trusted.height - 1)

    def step(self, answer: LightBlock | NotAvailable) -> Effect:
        """Take the answer to the last `Fetch`."""
        above = self._trace[-1] if self._trace else self.trusted
        if isinstance(answer, NotAvailable):
            return Failed(Rejection(reasons.NOT_AVAILABLE, f"header {above.height - 1}"))
        try:
            self._check(above, answer)
        except Rejection as rejection:
            return Failed(rejection)
        self._trace.append(answer)
        if answer.height == self.target:
            return Verified(trusted_of(answer), tuple(self._trace))
        return Fetch(answer.height - 1)

    def _check(self, above: LightBlock, below: LightBlock) -> None:
        check_shape(self.chain_id, below)
        if below.height != above.height - 1 or below.id != above.header.previous_block_id:
            raise Rejection(reasons.DOES_NOT_FOLLOW, f"header {above.height} names another block before it")
        if below.header.time_ms >= above.header.time_ms:
            raise Rejection(reasons.DOES_NOT_FOLLOW, f"the time of header {below.height} is not before the next one's")
