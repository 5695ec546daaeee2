"""The chain's parameters: every number the rules leave free, and two presets. Governance changes them.

Amounts are nano, times are blocks, shares are basis points (1/10,000).
"""

from __future__ import annotations

from consensus.ledger.fields import Nano, Small
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.money import NANO_PER_GSN

BASIS_POINTS = 10_000
PROFILERS_MAX = 16
"""Profilers of one native task: all are listed in its profile, with a measurement for each state entry."""


class Parameters(Struct):
    """What one chain began with, or what its governance made of it."""

    # fees and block space
    fee_base_nano: Nano
    """Least fee of any transaction."""
    fee_per_unit_nano: Nano
    """Added for each unit: a byte of the transaction or its worth in referee work."""
    block_units_max: Small
    """Units of all transactions of one block."""
    referee_units: Small
    """Units charged for a dispute move on top of its bytes: re-executing a piece and decoding the program."""
    program_units: Small
    """Units charged on top of its bytes for a program's validation, a task's draws, a look at all stakes."""
    # staking
    power_unit_nano: Nano
    """Stake behind one unit of voting power."""
    stake_min_nano: Nano
    """Least stake of its own that a validator needs."""
    delegation_min_nano: Nano
    """Least delegation of an account to a validator."""
    validators_active_max: Small
    """Size of the set: the strongest sign, the others wait."""
    validators_min: Small
    """Nobody may leave or is jailed when fewer would be left."""
    unbonding_blocks: Small
    """Blocks until unbonded stake or a withdrawn provider's bond is paid out; it stays slashable."""
    equivocation_slash_bps: Small
    """Share of all stake behind a validator taken for voting twice."""
    commission_rise_max_bps: Small
    """Most that a commission may rise at a time, once others have delegated."""
    commission_rise_blocks: Small
    """Blocks between two rises."""
    block_reward_nano: Nano
    """New money a block, dealt with its fees."""
    proposer_base_bps: Small
    """Share of a block's rewards that its proposer gets beforehand."""
    proposer_signatures_bps: Small
    """And this share times the power of the signatures that it put in."""
    downtime_window_blocks: Small
    """Blocks over which a validator's signatures are counted."""
    downtime_signed_min_bps: Small
    """Share of them that it has to sign."""
    downtime_slash_bps: Small
    """Share of all stake behind it burnt for signing less."""
    jail_blocks: Small
    """Blocks before it may return."""
    # providers
    providers_max: Small
    """Registered providers at a time."""
    provider_bond_min_nano: Nano
    """Least bond of a provider."""
    ask_min_nano: Nano
    """Least ask per giga-gas; keeps the draw's weights bounded."""
    solves_per_provider_max: Small
    """Tasks one provider trains at a time."""
    verifications_per_provider_max: Small
    """Verifications one provider holds at a time."""
    misses_until_paused: Small
    """Duties missed in a row after which the chain pauses a provider."""
    # stakes of one task
    solver_bond_bps: Small
    """Solver's locked bond as a share of its price for the whole task."""
    solver_bond_min_nano: Nano
    """Least bond locked by a solver."""
    verifier_bond_bps: Small
    """Verifier's and challenger's locked bond as a share of the solver's bond."""
    verifier_bond_min_nano: Nano
    """Least bond locked by a verifier or challenger."""
    miss_slash_bps: Small
    """Share of the locked bond taken for a duty not done in time (no proof of cheating)."""
    winner_bps: Small
    """Share of a slashed bond paid to the finder; with the burnt share, such that self-dealing loses."""
    jackpot_bps: Small
    """Share of a slashed bond put into the jackpot pool; what remains is burnt."""
    # times of a task
    task_deadline_blocks_min: Small
    """Shortest deadline a task may have."""
    task_deadline_blocks_max: Small
    """Longest deadline a task may have."""
    start_blocks: Small
    """Blocks an assigned solver has to start."""
    retry_blocks: Small
    """Blocks between two draws when nobody was eligible."""
    heartbeat_blocks: Small
    """Blocks without heartbeat or commit after which a solver is timed out."""
    train_blocks_base: Small
    """Blocks for training an instalment, whatever its size."""
    train_gas_per_block: Small
    """Gas a solver must manage a block, on top of the base: the slowest machine the network waits for."""
    fetch_bytes_per_block: Small
    """Data and states that a link must carry a block, on top of all other times: the slowest that is waited for."""
    verify_blocks_base: Small
    """Blocks a drawn verifier has to commit its verdict, whatever the segments' size."""
    reveal_blocks: Small
    """Blocks to reveal a verdict, and to reveal a challenge."""
    verifier_draws_max: Small
    """Times that verifiers are drawn because others kept silent, before verification goes on without them."""
    refusals_max: Small
    """So many verifiers one after the other must say of the same segments that their states cannot be had."""
    unserved_bps: Small
    """What the solver then loses, as a share of its instalment's price, from its bond."""
    window_blocks: Small
    """Blocks for challenges after the verdicts are known."""
    # disputes
    move_clock_blocks: Small
    """Each party's running clock for a whole game."""
    move_extension_blocks: Small
    """A party never gets the turn with less than this: a last-second move wins nothing."""
    game_moves_max: Small
    """Moves of one game; none is longer (a game's own formula stays below)."""
    challengers_per_dispute_max: Small
    """Equal claims grouped into one dispute; each may take over where the one before failed."""
    disputes_per_instalment_max: Small
    """Disputes of one instalment opened by others than its verifiers."""
    # governance
    proposal_deposit_nano: Nano
    """Held while a proposal is voted on; burnt when it is vetoed or finds no quorum."""
    proposals_open_max: Small
    """Proposals under vote at a time."""
    voting_blocks: Small
    """Blocks a vote lasts."""
    enactment_blocks: Small
    """Blocks from the end of the vote to the first block under what it changed."""
    quorum_bps: Small
    """Share of the bonded stake that must vote."""
    threshold_bps: Small
    """Share of yes among yes, no and veto above which a proposal passes."""
    veto_bps: Small
    """Share of veto among all votes above which a proposal falls, whatever else was voted."""
    treasury_fee_bps: Small
    """Share of each transaction's fee that goes to the treasury; the rest is dealt to validators."""
    # forced errors
    forced_error_min_bps: Small
    """Least chance of an error that a task may ask for, if it asks for any."""
    forced_error_max_bps: Small
    """Largest one; 0: the chain takes no tasks with forced errors."""
    forced_tax_bps: Small
    """Share of an instalment's price that its commit pays into the jackpot pool."""
    forced_payout_bps: Small
    """What the jackpots of all draws pay on average, as a share of that tax; below all of it, so that nobody who stages
    both sides gains."""
    forced_bond_bps: Small
    """What a verifier that never looks loses on average, in shares of its fee."""
    forced_open_blocks: Small
    """Blocks for showing a sealed instalment's roots."""
    forced_reveal_blocks: Small
    """Blocks for showing its secret; not showing it costs the whole bond."""
    # the drawn watch
    watch_bps: Small
    """Chance that an instalment has one of its verified segments re-executed by a drawn whistleblower; 0: never."""
    # native tasks
    native_profilers: Small
    """Profilers drawn for a native task; 0: the chain takes no native tasks."""
    native_quantile_bps: Small
    """Which of an entry's sorted measurements counts."""
    native_margin_bps: Small
    """Times this, and times two for two machines, gives the threshold."""
    native_floor_parts: Small
    """No threshold is below, in parts per 2^32 of the segment's update."""
    native_cap_parts: Small
    """An entry that would need a higher one is not measured."""


def mainnet_parameters() -> Parameters:
    """Numbers for blocks of about 6 s between strangers."""
    return Parameters(
        fee_base_nano=10_000,
        fee_per_unit_nano=20,
        block_units_max=4_000_000,
        referee_units=150_000,
        program_units=100_000,
        power_unit_nano=NANO_PER_GSN,
        stake_min_nano=1_000 * NANO_PER_GSN,
        delegation_min_nano=NANO_PER_GSN,
        validators_active_max=100,
        validators_min=4,
        unbonding_blocks=302_400,
        equivocation_slash_bps=500,
        commission_rise_max_bps=100,
        commission_rise_blocks=14_400,
        block_reward_nano=2 * NANO_PER_GSN,
        proposer_base_bps=100,
        proposer_signatures_bps=400,
        downtime_window_blocks=200,
        downtime_signed_min_bps=5_000,
        downtime_slash_bps=1,
        jail_blocks=100,
        providers_max=4_096,
        provider_bond_min_nano=100 * NANO_PER_GSN,
        ask_min_nano=1_000,
        solves_per_provider_max=1,
        verifications_per_provider_max=4,
        misses_until_paused=2,
        solver_bond_bps=60_000,
        solver_bond_min_nano=10 * NANO_PER_GSN,
        verifier_bond_bps=2_500,
        verifier_bond_min_nano=2 * NANO_PER_GSN,
        miss_slash_bps=200,
        winner_bps=4_000,
        jackpot_bps=2_000,
        task_deadline_blocks_min=600,
        task_deadline_blocks_max=432_000,
        start_blocks=50,
        retry_blocks=10,
        heartbeat_blocks=150,
        train_blocks_base=600,
        train_gas_per_block=1_000_000_000,
        fetch_bytes_per_block=1_000_000,
        verify_blocks_base=600,
        reveal_blocks=100,
        verifier_draws_max=12,
        refusals_max=5,
        unserved_bps=40_000,
        window_blocks=1_200,
        move_clock_blocks=1_200,
        move_extension_blocks=50,
        game_moves_max=64,
        challengers_per_dispute_max=4,
        disputes_per_instalment_max=32,
        proposal_deposit_nano=1_000 * NANO_PER_GSN,
        proposals_open_max=16,
        voting_blocks=100_800,
        enactment_blocks=14_400,
        quorum_bps=3_340,
        threshold_bps=5_000,
        veto_bps=3_340,
        treasury_fee_bps=1_000,
        forced_error_min_bps=500,
        forced_error_max_bps=5_000,
        forced_tax_bps=250,
        forced_payout_bps=9_000,
        forced_bond_bps=20_000,
        forced_open_blocks=50,
        forced_reveal_blocks=600,
        watch_bps=2_500,
        native_profilers=5,
        native_quantile_bps=7_500,
        native_margin_bps=80_000,
        native_floor_parts=1 << 16,
        native_cap_parts=1 << 22,
    )


def devnet_parameters() -> Parameters:
    """Numbers for blocks of about 1 s with four nodes on a busy laptop: short, yet no honest party times out."""
    return Parameters(
        fee_base_nano=1_000,
        fee_per_unit_nano=1,
        block_units_max=4_000_000,
        referee_units=150_000,
        program_units=100_000,
        power_unit_nano=NANO_PER_GSN,
        stake_min_nano=1 * NANO_PER_GSN,
        delegation_min_nano=NANO_PER_GSN // 100,
        validators_active_max=100,
        validators_min=1,
        unbonding_blocks=50,
        equivocation_slash_bps=500,
        commission_rise_max_bps=500,
        commission_rise_blocks=60,
        block_reward_nano=NANO_PER_GSN // 10,
        proposer_base_bps=100,
        proposer_signatures_bps=400,
        downtime_window_blocks=2_000,
        downtime_signed_min_bps=5_000,
        downtime_slash_bps=1,
        jail_blocks=30,
        providers_max=1_024,
        provider_bond_min_nano=10 * NANO_PER_GSN,
        ask_min_nano=1_000,
        solves_per_provider_max=1,
        verifications_per_provider_max=8,
        misses_until_paused=3,
        solver_bond_bps=60_000,
        solver_bond_min_nano=1 * NANO_PER_GSN,
        verifier_bond_bps=2_500,
        verifier_bond_min_nano=NANO_PER_GSN // 4,
        miss_slash_bps=200,
        winner_bps=4_000,
        jackpot_bps=2_000,
        task_deadline_blocks_min=20,
        task_deadline_blocks_max=100_000,
        start_blocks=45,
        retry_blocks=3,
        heartbeat_blocks=90,
        train_blocks_base=240,
        train_gas_per_block=50_000_000,
        fetch_bytes_per_block=1_000_000,
        verify_blocks_base=120,
        reveal_blocks=30,
        verifier_draws_max=8,
        refusals_max=4,
        unserved_bps=40_000,
        window_blocks=10,
        move_clock_blocks=150,
        move_extension_blocks=20,
        game_moves_max=64,
        challengers_per_dispute_max=4,
        disputes_per_instalment_max=16,
        proposal_deposit_nano=10 * NANO_PER_GSN,
        proposals_open_max=16,
        voting_blocks=30,
        enactment_blocks=5,
        quorum_bps=3_340,
        threshold_bps=5_000,
        veto_bps=3_340,
        treasury_fee_bps=1_000,
        forced_error_min_bps=100,
        forced_error_max_bps=9_999,
        forced_tax_bps=250,
        forced_payout_bps=9_000,
        forced_bond_bps=20_000,
        forced_open_blocks=30,
        forced_reveal_blocks=60,
        watch_bps=2_500,
        native_profilers=2,
        native_quantile_bps=7_500,
        native_margin_bps=80_000,
        native_floor_parts=1 << 16,
        native_cap_parts=1 << 22,
    )
