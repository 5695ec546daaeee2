"""The network: the only package that imports libp2p, and no libp2p type leaves it.

In: chain messages as opaque bytes, blobs as files. Out: validated gossip, answered requests, verified blobs, a scored
list of peers. Read in this order:

`api`        what others see: protocols and plain values
`reasons`    why a peer's input is refused (E16)
`bounds`     every bound on what a peer can make us do
`guard`      containment of libp2p: an exception from a peer's bytes never ends the host
`host`       the libp2p host: Noise, Yamux, TCP, its settings with their reasons
`frames`     length-prefixed messages on a stream
`rates`      token buckets
`handshake`  chain, version and head, before anything else is said
`scoring`    from a refused input to a lower score, a ban and its expiry
`peers`      connections, handshakes, events
`requests`   one question, one answer, bounded in size, time and number
`book`       addresses and bans on disk
`reconnect`  seeds and known peers, back-off with jitter, pings, peer exchange
`pubsub`     the library's GossipSub with its holes closed
`gossip`     topics, validation, rates and delivery
`blobstore`  blobs on disk, whole and partial
`download`   one blob from several peers, each chunk verified
`blobs`      who has what; serves and fetches
`network`    all of it as one context: `open_network`

Must never import `gensyn_node` above `primitives`, nor `ml`, nor `consensus`.
"""
