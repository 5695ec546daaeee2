"""The production ledger under simulated actors: on one chain without consensus (`market`), or on the whole network.

The market is a single chain whose blocks a random proposer fills with what it likes (`python -m tests.simulator.ledger
--seeds 0:999`); `application` puts the same actors, mempools and checks on the simulated network (`python -m
tests.simulator --application ledger`), and lets the market finish what its tasks began. Actors are pure policies with
dice of their own. Honest ones must never lose a bond, unless the schedule kept their transactions out for longer than
the grace (`GRACE_BLOCKS`) or they slept: that premise is computed from what wallets waited for, and counted. The checks
keep books of their own, so that the ledger's cannot excuse themselves: nonces, traders' balances, a chess clock for
every dispute, the beacon behind every draw, windows, stake and what is leaving. `check_invariants` runs after every
block, and every chain is executed again from genesis. Transaction signatures and the beacon's proofs are stand-ins in
all but a few runs.
"""
