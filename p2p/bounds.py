"""Every bound on what a peer can make us do. Bytes and seconds unless the name says otherwise."""

from gensyn_node.primitives.limits import KIB, MIB

GOSSIP_BYTES_MAX = 1 * MIB
"""One gossip message. Every neighbour sends it on, so anything larger is announced by hash and fetched."""
GOSSIP_RPC_BYTES_MAX = 2 * MIB
"""One frame between gossip neighbours: the largest message with its signature, topic and control."""
GOSSIP_QUEUE_MESSAGES = 2048
"""Frames waiting for one neighbour; the library's 32 loses most of a burst."""
GOSSIP_QUEUE_BYTES = 32 * MIB
"""Bytes waiting for one neighbour: what a stalled one can make us hold."""
GOSSIP_READ_BYTES = 64 * KIB
"""Read ahead from one neighbour's gossip stream."""
GOSSIP_BULK_MESSAGES = 256
"""Bulk messages (transactions) of one neighbour that wait to be checked."""
GOSSIP_BULK_BYTES = 1 * MIB
"""Their bytes: some seconds of a node's work. More would be checked too late to be of use."""
GOSSIP_REMEMBERED = 32_768
"""Message ids a topic remembers so that nothing is delivered twice."""

INBOUND_STREAMS_PER_PEER = 24
"""Open streams one peer may have towards us: requests, pings, gossip and blobs together."""
OUTBOUND_REQUESTS_PER_PEER = 8
"""Requests of ours to one peer at a time: far below Yamux's 256 streams, where opening one blocks for ever."""
STREAM_WINDOW_BYTES = 4 * MIB
"""Receive window of one stream; the library's 16 MiB times the streams would be a peer's to fill."""

CONNECTIONS_PER_SUBNET = 8
"""Inbound connections from one public IPv4 /24 or IPv6 /48."""

HELLO_BYTES_MAX = 1 * KIB
"""A handshake message."""
REFUSAL_BYTES_MAX = 1 * KIB
"""A refusal's code and message."""

OPEN_STREAM_S = 10.0
"""Opening a stream and agreeing on its protocol."""
READ_REQUEST_S = 10.0
"""Reading one request; a byte-a-second sender is cut here."""
DIAL_S = 10.0
"""TCP, Noise and Yamux together."""
CLOSE_S = 2.0
"""Saying goodbye; a stopped peer does not read it."""

RATE_BURST_S = 4.0
"""A rate limit lets through this many seconds' worth at once."""

BOOK_ENTRIES_MAX = 1024
"""Addresses remembered on disk."""
EXCHANGED_ADDRESSES_MAX = 32
"""Addresses in one answer of the peer exchange."""
ADDRESS_CHARACTERS_MAX = 160
"""Length of an address as text."""

BLOB_STREAMS_PER_PEER = 4
"""Blob streams one peer may hold open."""
BLOB_STREAMS_WANTED_PER_PEER = 2
"""Blob streams we hold open to one peer; further downloads from it wait their turn."""
BLOB_STREAMS_MAX = 32
"""Blob streams open to us in total: each reads ahead one chunk."""
BLOB_IDLE_S = 30.0
"""A blob stream without a question is closed."""
BLOB_CHUNK_S = 30.0
"""One chunk, asked and answered: 34 kB/s at least."""
BLOB_PROVIDERS_MAX = 8
"""Peers that one download uses at a time."""
BLOB_SUMMARY_BYTES_MAX = 513 * KIB
"""Chunk hashes of the largest blob (16 GiB)."""
WANTED_NAMES_MAX = 16
"""Names in one "who has" question."""
