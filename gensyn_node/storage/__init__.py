"""What a node keeps on disk, and the rules by which it may be believed.

In: blocks, ledger writes, inputs of the running height, requests to sign. Out: the same, or a refusal; never a guess.
Reading order: `reasons`, `files`, `leveldb`, `chain_store`, `wal`, `signer`.
Must never import: `p2p`, `gensyn_node.app`, `gensyn_node.rpc`, trio.
"""
