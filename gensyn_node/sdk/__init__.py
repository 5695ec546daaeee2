"""What a submitter's program does: the same verbs as the command line, for scripts and notebooks.

In: a task file, a key, the address of a node. Out: transactions, uploads, a model and its certificate. Reading order:
`client` (the node's interface), `transactions`, `blobs`, `task_file` (the TOML), `task_build` (file → program, data,
specification), `quote`, `task_flow` (submit, follow, download), `certificate` (what proves it) and `verify` (offline
check), `evaluate`. torch is imported by `task_build` and `evaluate` alone, inside their functions.
"""
