"""Keys at rest: encrypted files, recovery words, passphrases.

In: a home's `keys/` folder and a passphrase. Out: `SecretKey`s. Reading order: `keystore` (the file format), `recovery`
(BIP-39 words), `passphrase` (where it comes from), `keyring` (named keys in a folder). A node has separate keys for its
account, for consensus and for the network. No secret is ever logged, printed or put into an argument list.
"""
