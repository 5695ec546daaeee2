"""Mistakes that others made and published, and where it is tested that they are not made here.

A row: what went wrong, who told, the tests. `test_regressions_published.py` checks that every test named exists.
"""

from __future__ import annotations

from dataclasses import dataclass

LEDGER = "tests/ledger/test_ledger_"
NODE = "tests/node/test_node_"
HERE = "tests/regressions/test_regressions_"


@dataclass(frozen=True)
class Mistake:
    """One mistake."""

    what: str
    source: str
    tests: tuple[str, ...]
    """`file::test`."""


CONSENSUS = (
    Mistake(
        "one field is verified and another used (Tachyon)",
        "CometBFT CSA-2026-001",
        ("tests/light/test_light_skipping.py::test_power_is_counted_as_the_trusted_set_has_it",),
    ),
    Mistake(
        "a part's index is not the one that its proof is for",
        "CometBFT ASA-2025-002",
        ("tests/proofs/test_proofs_merkle.py::test_every_leaf_is_proved_at_its_place_only",),
    ),
    Mistake(
        "a peer claims a height in block sync and never shows it",
        "CometBFT ASA-2025-001",
        (f"{NODE}sync_hostile.py::test_a_claimed_height_that_is_never_shown_does_not_leave_us_syncing",),
    ),
    Mistake(
        "signatures past two thirds are not checked (False Witness)",
        "CometBFT, reported for the light client and block sync",
        (
            "tests/consensus/test_consensus_blocks.py::test_every_signature_of_a_commit_is_checked",
            "tests/light/test_light_skipping.py::test_every_signature_is_checked_also_past_two_thirds",
            f"{NODE}executor.py::test_a_sealed_block_needs_a_quorum_and_every_signature",
        ),
    ),
    Mistake(
        "signatures under another block in a commit stop every node",
        "Tendermint GHSA-6jqj",
        (f"{NODE}executor.py::test_a_sealed_block_needs_a_quorum_and_every_signature",),
    ),
    Mistake(
        "state sync and the light client check different things",
        "Tendermint GHSA-g5xx",
        ("tests/light/test_light_skipping.py::test_sets_that_are_not_the_named_ones_are_refused",),
    ),
    Mistake(
        "the total power overflows, or its check fires falsely",
        "Tendermint, validator set updates",
        ("tests/consensus/test_consensus_validators.py::test_overflow_is_refused_and_never_falsely",),
    ),
    Mistake(
        "a validator is named twice",
        "Jepsen, Tendermint 0.10.2 (2017)",
        (
            "tests/consensus/test_consensus_validators.py::test_refused_updates",
            f"{LEDGER}rules.py::test_a_genesis_that_cannot_start_is_refused",
            f"{LEDGER}staking.py::test_a_key_belongs_to_the_operator_that_it_signed_for",
        ),
    ),
    Mistake(
        "removing a validator that is not in the set stops every node",
        "Tendermint, validator set updates",
        (f"{HERE}ledger.py::test_a_validator_that_leaves_before_it_ever_signed_changes_no_set",),
    ),
)

EVIDENCE = (
    Mistake(
        "the same evidence with other timestamps is punished again",
        "Tendermint GHSA-p658",
        (
            "tests/light/test_light_attack.py::test_the_same_offence_has_one_name_however_it_was_found",
            f"{NODE}evidence.py::test_pending_evidence_survives_a_restart_and_committed_never_comes_back",
            f"{LEDGER}slashing.py::test_the_same_evidence_twice_slashes_once",
        ),
    ),
    Mistake(
        "fields inside evidence (power, time, names) are believed",
        "CometBFT, evidence validation",
        (
            "tests/light/test_light_attack.py::test_carried_names_are_never_believed",
            "tests/light/test_light_attack.py::test_power_is_recomputed_from_the_true_set",
        ),
    ),
    Mistake(
        "light evidence is hardly validated",
        "CometBFT #5638",
        (
            "tests/light/test_light_attack.py::test_what_does_not_belong_together_is_refused",
            "tests/light/test_light_attack.py::test_every_signature_of_the_false_commit_is_checked",
        ),
    ),
    Mistake(
        "evidence outlives the stake it would be paid from, or is forgotten and comes back",
        "Tendermint: maximum age, unbonding time and light trust period",
        (
            f"{NODE}governance.py::test_a_longer_evidence_age_holds_from_its_height_on_and_brings_nothing_expired_back",
            f"{NODE}evidence.py::test_evidence_expires_with_the_unbonding_time_in_force",
        ),
    ),
    Mistake(
        "stake escapes its slash by moving while the evidence is on its way",
        "Cosmos SDK ASA-2024-005, redelegation",
        (
            f"{LEDGER}slashing.py::test_who_undelegates_before_the_evidence_comes_does_not_escape",
            f"{LEDGER}slashing.py::test_stake_answers_for_the_heights_that_it_gave_power_to_and_no_others",
        ),
    ),
)

LEDGER_AND_GOVERNANCE = (
    Mistake(
        "a proposal divides by zero when it is counted, and the chain stops",
        "Cosmos SDK GHSA-x5vx-95h7-rv4p",
        (f"{HERE}ledger.py::test_a_vote_in_which_nobody_or_nothing_votes_is_counted",),
    ),
    Mistake(
        "what an accepted proposal does fails at the end of a block, and the chain stops",
        "Cosmos SDK GHSA-47ww-ff84-4jrg",
        (f"{HERE}ledger.py::test_accepted_proposals_that_cannot_be_done_fail_and_blocks_go_on",),
    ),
    Mistake(
        "a reward pool overflows, and the chain stops",
        "Cosmos SDK GHSA-p22h-3m2v-cmgh",
        (
            f"{LEDGER}rewards.py::test_new_money_ends_where_amounts_do",
            f"{HERE}ledger.py::test_the_largest_supply_pays_rewards_grants_and_fees",
        ),
    ),
    Mistake(
        "the same tokens vote twice",
        "vote, move, vote again: known of chains that weigh a vote when it is cast",
        (
            f"{LEDGER}votes.py::test_the_same_stake_never_counts_twice_wherever_it_moves",
            f"{LEDGER}votes.py::test_the_running_sums_are_what_every_delegator_has",
        ),
    ),
    Mistake(
        "the first depositor blows up the price of a share",
        "vaults of shares (ERC-4626)",
        (f"{LEDGER}staking.py::test_the_first_delegator_cannot_blow_up_the_price_of_a_share",),
    ),
    Mistake(
        "a parameter is voted to a value under which no block can be made",
        "Cosmos chains, block and governance parameters",
        (f"{LEDGER}parameter_bounds.py::test_whatever_is_accepted_blocks_go_on_and_the_next_vote_works",),
    ),
)

MEMPOOL = (
    Mistake(
        "transactions of equal priority push each other out of an index",
        "CometBFT #5613",
        (f"{HERE}ledger.py::test_transactions_that_pay_the_same_all_stay",),
    ),
    Mistake(
        "a small message makes the decoder hold many times its size",
        "CometBFT #5946",
        (
            "tests/primitives/test_primitives_codec.py::test_a_message_of_the_wrong_kind_costs_no_more_memory_than_its_bytes",
            "tests/primitives/test_primitives_codec.py::test_a_short_message_cannot_make_us_allocate_for_items_that_never_come",
        ),
    ),
    Mistake(
        "one account fills the pool for nothing",
        "nonce gaps and unpayable rows of transactions, known of several pools",
        (
            "tests/consensus/test_consensus_mempool_hostile.py::test_transactions_behind_a_gap_leave_half_of_the_pool_to_others",
            f"{NODE}pool_hostile.py::test_a_balance_backs_no_more_fees_than_it_can_pay",
        ),
    ),
)

DISPUTES = (
    Mistake(
        "a game is resolved before its subgame",
        "OP fault proofs, Sherlock 2024",
        (f"{LEDGER}disputes.py::test_nothing_settles_while_a_dispute_about_it_is_open",),
    ),
    Mistake(
        "an attack after the resolution bricks the game",
        "OP fault proofs, Sherlock 2024",
        (f"{LEDGER}disputes.py::test_no_move_after_resolution",),
    ),
    Mistake(
        "too many subgames cannot be resolved any more",
        "OP fault proofs, Sherlock 2024",
        (
            f"{LEDGER}disputes.py::test_many_bogus_challenges_neither_block_the_true_one_nor_the_chain",
            f"{LEDGER}disputes.py::test_challenges_by_others_are_bounded_and_verifiers_keep_their_right_to_disagree",
        ),
    ),
    Mistake(
        "a game is won by moving at the last second",
        "OP fault proofs, Sherlock 2024",
        (f"{LEDGER}disputes.py::test_a_last_second_move_leaves_the_other_party_time_to_answer",),
    ),
    Mistake(
        "a game is won while the other side has time on its clock",
        "OP fault proofs, Sherlock 2024",
        (f"{LEDGER}disputes.py::test_a_party_with_time_left_does_not_lose_by_the_clock",),
    ),
    Mistake(
        "the same game is created twice",
        "OP fault proofs, Sherlock 2024",
        (f"{LEDGER}disputes.py::test_equal_claims_are_one_dispute_and_the_same_account_joins_once",),
    ),
    Mistake(
        "whoever stands leftmost takes another one's bond",
        "OP fault proofs, Sherlock 2024",
        (f"{LEDGER}disputes.py::test_nobody_takes_another_ones_bond_or_prize",),
    ),
    Mistake(
        "the chess clock is given back, or runs a move and not a game",
        "OP fault proofs, reported by Offchain Labs",
        (
            f"{LEDGER}disputes.py::test_the_clock_runs_over_the_whole_game_not_per_move",
            f"{LEDGER}disputes.py::test_a_dispute_is_over_within_its_computed_time_however_slowly_both_play",
            f"{HERE}disputes.py::test_accomplices_that_let_their_clocks_run_out_in_turn_delay_no_longer_than_computed",
        ),
    ),
    Mistake(
        "a move or a find is front-run",
        "OP fault proofs",
        (
            f"{LEDGER}disputes.py::test_a_seen_reveal_cannot_be_front_run",
            f"{LEDGER}disputes.py::test_a_stranger_cannot_move_and_a_party_cannot_move_out_of_turn",
        ),
    ),
    Mistake(
        "Sybils delay the outcome by one game each, or exhaust the honest party",
        "the question that Dave and BoLD answer; PRT, BoLD and OP compared in 'Fraud proofs are broken'",
        (
            f"{HERE}disputes.py::test_false_claims_of_many_accounts_delay_no_longer_than_one",
            f"{LEDGER}disputes.py::test_distinct_claims_run_in_parallel_and_the_first_proof_ends_them_all",
            f"{LEDGER}hostile.py::test_accomplices_cannot_fill_a_claim_to_keep_the_honest_finder_out",
        ),
    ),
)

PUBLISHED = (*CONSENSUS, *EVIDENCE, *LEDGER_AND_GOVERNANCE, *MEMPOOL, *DISPUTES)
