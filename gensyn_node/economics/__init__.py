"""The incentive game, played out: what each strategy earns under the ledger's rules, by simulation.

`play` holds the story of one task; every amount in it comes from the ledger's own functions. `assumptions` says in
words what the ledger does not decide: costs, margins, how many look.
"""
