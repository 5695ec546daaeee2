"""Reasons of the node's interface (E17xx)."""

from gensyn_node.primitives.errors import reason

HOST_REFUSED = reason(
    "E1701",
    "host_refused",
    "The request's Host is not this node's address.",
    "Use the address in rpc.address, or add it to [rpc] allowed_hosts.",
)
ORIGIN_REFUSED = reason(
    "E1702", "origin_refused", "The request comes from a web page of another origin.", "Open the node's own page."
)
TOKEN_REFUSED = reason(
    "E1703",
    "token_refused",
    "The token is missing or wrong.",
    "Use the node's home, or give --token-file with the rpc.token of its home (over HTTP: a bearer token).",
)
BAD_CONTENT_TYPE = reason(
    "E1704",
    "bad_content_type",
    "The content type or encoding is not accepted.",
    "Send plain application/json.",
)
BODY_TOO_LARGE = reason("E1705", "body_too_large", "The body is larger than its bound.", "Send less at once.")
BODY_TOO_SLOW = reason("E1706", "body_too_slow", "The body did not arrive in time.", "Send it faster.")
BAD_JSON = reason("E1707", "bad_json", "The body is not strict JSON.", "Send UTF-8 JSON, no duplicate keys, no NaN.")
BAD_REQUEST = reason("E1708", "bad_request", "The request is no JSON-RPC 2.0 request.", "Read up on JSON-RPC 2.0.")
NO_SUCH_METHOD = reason("E1709", "no_such_method", "There is no such method.", "Check its name and the node's version.")
BAD_PARAMETERS = reason("E1710", "bad_parameters", "The parameters do not fit the method.", "Correct the named one.")
NOT_FOUND = reason("E1711", "not_found", "The thing asked for does not exist here.", "Check the identifier.")
CALL_TIMED_OUT = reason("E1712", "call_timed_out", "The node did not answer in time.", "Try again.")
TOO_BUSY = reason(
    "E1713",
    "too_busy",
    "The node has too many connections.",
    "Close some, or raise connections_max or sockets_max of [rpc].",
)
INTERNAL = reason("E1714", "internal", "The node failed while it answered.", "Look into the node's log.")
TOO_MANY_SUBSCRIPTIONS = reason(
    "E1715", "too_many_subscriptions", "The connection has too many subscriptions.", "Unsubscribe from some first."
)
READER_TOO_SLOW = reason(
    "E1716", "reader_too_slow", "The reader did not keep up with the events.", "Read faster, or subscribe to less."
)
