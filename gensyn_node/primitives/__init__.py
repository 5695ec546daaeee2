"""What everything else stands on: errors, bounds, the codec, hashes, keys, addresses and money.

Reading order: `errors`, `limits`, `codec`, `hashing`, `crypto`, `bech32`, `money`.
Nothing here imports another package of this project, touches a clock, a disk or the network.
"""
