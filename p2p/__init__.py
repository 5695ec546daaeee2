"""The network: the only package that imports libp2p, and no libp2p type leaves it.

In: chain messages as opaque bytes, blobs as files. Out: validated gossip, answered requests, verified blobs, a scored
list of peers. Read in this order:

`api`        what others see: protocols and plain values
`reasons`    why a peer's input is refused (E16)
`bounds`     every bound on what a peer can make us do, and the settings of libp2p with their reasons
`guard`      containment of libp2p: an exception from a peer's bytes never ends the host
`host`       the libp2p host: Noise, Yamux, TCP
`frames`     length-prefixed messages on a stream
`requests`   one question, one answer, bounded in size, time and number
`handshake`  chain, version and head, before anything else is said
`scoring`    from a refused input to a lower score, a ban and its expiry
`peers`      connections, handshakes, pings, events
`book`       addresses and bans on disk
`reconnect`  seeds and known peers, back-off with jitter, peer exchange
`gossip`     GossipSub with bounded queues, rates and de-duplication
`blobstore`  blobs on disk, whole and partial
`blobs`      who has what, chunked verified download from several peers
`network`    all of it as one context: `open_network`

Must never import `gensyn_node` above `primitives`, nor `ml`.
"""
