"""The node's own interface: JSON-RPC 2.0, blobs chunk by chunk, events over a WebSocket, on loopback.

In: HTTP requests of local programs. Out: calls of a `NodeBackend`, which the node implements. Reading order: `backend`
(what the server needs from the node, and the shapes it answers with), `json_view` (records as JSON), `strict_json`,
`guard` (Host, Origin, token), `methods` (the table of methods), `server`. Never imports torch, libp2p or the ledger's
rules; it knows no secret but its own token.
"""
