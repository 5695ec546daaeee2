"""What a WebSocket client wants to hear: it names topics, and of transactions an id or an account."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gensyn_node.primitives.bech32 import decode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import Event, TransactionView
from gensyn_node.rpc.strict_json import parse_json

SUBSCRIPTIONS_MAX = 16
"""On one connection."""

Topic = Literal[
    "new_block",
    "new_header",
    "transaction",
    "validator_set_update",
    "evidence",
    "task",
    "dispute",
    "governance",
    "heartbeat",
    "round_step",
    "vote",
]
_KINDS = {"new_block": "block", "new_header": "header"}
"""Topics whose events have another name at the source."""
CONSENSUS_KINDS = frozenset({"round_step", "vote"})
"""Those that do not come from blocks."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`{"id": 1, "subscribe": "transaction", "account": "gsn1…"}` or `{"id": 1, "unsubscribe": true}`."""

    id: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
    """Chosen by the client; every event carries it."""
    subscribe: Topic | None = None
    unsubscribe: bool = False
    transaction_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    account: Annotated[str, Meta(max_length=64)] | None = None


class Subscriptions:
    """The subscriptions of one connection."""

    def __init__(self) -> None:
        self._wanted: dict[int, tuple[str, bytes | None, bytes | None]] = {}

    def handle(self, text: str) -> dict[str, Any]:
        """Take a request; what to answer. `Rejection` (E17, BAD_ADDRESS) when it is none that can be met."""
        try:
            request = msgspec.convert(parse_json(text.encode("utf-8", "surrogatepass")), Request)
        except msgspec.ValidationError as error:
            raise Rejection(reasons.BAD_PARAMETERS, str(error)) from None
        if request.unsubscribe == (request.subscribe is not None):
            raise Rejection(reasons.BAD_PARAMETERS, "either subscribe to a topic or unsubscribe")
        if request.subscribe is None:
            return {"id": request.id, "unsubscribed": self._wanted.pop(request.id, None) is not None}
        if request.id in self._wanted:
            raise Rejection(reasons.BAD_PARAMETERS, f"the subscription {request.id} exists")
        if len(self._wanted) == SUBSCRIPTIONS_MAX:
            raise Rejection(reasons.TOO_MANY_SUBSCRIPTIONS, f"{SUBSCRIPTIONS_MAX} are open")
        narrowed = request.transaction_id is not None or request.account is not None
        if narrowed and request.subscribe != "transaction":
            raise Rejection(reasons.BAD_PARAMETERS, "only transactions are chosen by id or account")
        self._wanted[request.id] = (
            _KINDS.get(request.subscribe, request.subscribe),
            None if request.transaction_id is None else bytes.fromhex(request.transaction_id),
            None if request.account is None else decode_address(request.account),
        )
        return {"id": request.id, "subscribed": request.subscribe}

    def of(self, event: Event) -> list[int]:
        """The subscriptions that want an event."""
        return [number for number, wanted in self._wanted.items() if _wants(wanted, event)]


def _wants(wanted: tuple[str, bytes | None, bytes | None], event: Event) -> bool:
    kind, name, account = wanted
    if event.kind == "gap" and isinstance(event.data, dict):
        return bool((event.data["of"] == "consensus") == (kind in CONSENSUS_KINDS))
    if kind != event.kind:
        return False
    if name is None and account is None:
        return True
    found = event.data
    if not isinstance(found, TransactionView):
        return False
    recipient = getattr(found.message, "to", None)
    return name in (None, found.transaction_id) and account in (None, found.sender, recipient)
