"""The command line, `gensyn …`: one file a group of commands, each with `--json`.

In: arguments. Out: text for people or one JSON document, and a documented exit code. Reading order: `main` (the table
of groups, errors and exit codes), `output`, `options`, then the groups. Importing these modules imports neither torch
nor libp2p nor the ledger: commands import what they use when they run, so that `--help` is instant.
"""
