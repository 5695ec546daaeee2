"""The ledger as a node tells it, record by record, for the ledger's own pure functions."""

from __future__ import annotations

from gensyn_node.sdk.client import NodeClient


class LedgerReader:
    """A `Reader` over a node's interface. Records of one look may be of neighbouring blocks; `forget` looks anew."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client
        self._seen: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The record at a key, None when there is none."""
        if key not in self._seen:
            found = self._client.call("record", key=key.hex())["value"]
            self._seen[key] = None if found is None else bytes.fromhex(found)
        return self._seen[key]

    def forget(self) -> None:
        """Ask again for everything from now on: the chain went on."""
        self._seen.clear()
