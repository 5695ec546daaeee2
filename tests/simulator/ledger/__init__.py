"""The production ledger under simulated actors: on one chain without consensus (`market`), or on the whole network."""
