"""What governance may make of each parameter, so that no vote can stop the chain or take the next vote away.

One row a parameter: the least and the most it may become, and why. What a chain began with may lie outside; a change
may not. `check_change` adds the relations between parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from consensus.ledger.fees import PROGRAM_UNITS_PER_BYTE
from consensus.ledger.parameters import BASIS_POINTS, PROFILERS_MAX, Parameters
from consensus.ledger.proposal_messages import NewValue
from consensus.ledger.reasons import BAD_PARAMETER, PARAMETER_FIXED
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import NANO_PER_GSN

BLOCKS_MAX = 10_000_000
"""Longest time in blocks that can be voted for (about two years); sums of a few stay far below a height's limit."""
WINDOW_BLOCKS_MAX = 4_096
"""Longest window of missed blocks: a bit a block and validator, written whenever one is missed."""
REFEREE_MOVES_PER_BLOCK_MAX = 128
"""Dispute moves one block may hold: each is re-executed by every validator."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What one parameter may become."""

    least: int
    most: int
    why: str
    raise_only: bool = False
    """It may become larger, never smaller."""

    @property
    def fixed(self) -> bool:
        """Whether it can never change."""
        return self.least > self.most


def _fixed(why: str) -> Bound:
    return Bound(1, 0, why)


def _blocks(least: int, why: str) -> Bound:
    return Bound(least, BLOCKS_MAX, why)


_TIME = "too short punishes the honest, too long holds money without end"

BOUNDS: dict[str, Bound] = {
    # fees and block space
    "fee_base_nano": Bound(1, NANO_PER_GSN // 100, "free ones take no block space; dear ones silence the next vote"),
    "fee_per_unit_nano": Bound(1, 10_000, "as the base fee; a dispute move is more than 100,000 units"),
    "block_units_max": Bound(2_500_000, 16_000_000, "the largest message must fit; a block must be checked in time"),
    "referee_units": Bound(50_000, 1_000_000, "a block may hold few dispute moves, and must hold one"),
    "program_units": Bound(50_000, 300_000, "a block may hold few programs, and must hold one"),
    # staking
    "power_unit_nano": _fixed("the power of every validator would jump in one block, under every light client"),
    "stake_min_nano": Bound(NANO_PER_GSN, 1_000_000 * NANO_PER_GSN, "no crowd of dust validators, no closed shop"),
    "unbonding_blocks": Bound(
        20, 2_000_000, "evidence age and light clients' trust periods rest on it: never shorter", raise_only=True
    ),
    "equivocation_slash_bps": Bound(1, BASIS_POINTS - 1, "voting twice is never free, and shares stay worth something"),
    "delegation_min_nano": Bound(1, 1_000 * NANO_PER_GSN, "no crowd of dust delegations; everybody may delegate"),
    "validators_active_max": Bound(4, limits.VALIDATORS_MAX, "votes grow with its square; no closed shop"),
    "validators_min": Bound(1, 64, "a few must not be able to lock everybody in"),
    "commission_rise_max_bps": Bound(1, 1_000, "delegators must have the time to leave"),
    "commission_rise_blocks": _blocks(10, "delegators must have the time to leave"),
    "block_reward_nano": Bound(0, 1_000 * NANO_PER_GSN, "new money takes from all who have some"),
    "proposer_base_bps": Bound(0, 1_000, "the rest is everybody's who signs"),
    "proposer_signatures_bps": Bound(0, 1_000, "the rest is everybody's who signs"),
    "downtime_window_blocks": Bound(50, WINDOW_BLOCKS_MAX, "a bit a block is kept; a restart is no offence"),
    "downtime_signed_min_bps": Bound(500, 9_000, "a restart is no offence; who is down must not stay in the set"),
    "downtime_slash_bps": Bound(0, 500, "being down is no attack"),
    "jail_blocks": _blocks(1, "who is back may return"),
    # providers
    "providers_max": Bound(16, 16_384, "every draw looks at all of them"),
    "provider_bond_min_nano": Bound(1, 100_000 * NANO_PER_GSN, "a registration is never free"),
    "ask_min_nano": Bound(1, NANO_PER_GSN, "weights of the draw stay bounded"),
    "solves_per_provider_max": Bound(1, 64, "duties of one provider are listed in its record"),
    "verifications_per_provider_max": Bound(1, 256, "duties of one provider are listed in its record"),
    "misses_until_paused": Bound(1, 1_000, "zero would pause everybody"),
    # stakes of one task
    "solver_bond_bps": Bound(1, 1_000_000, "cheating is never free; at most a hundred times the price"),
    "solver_bond_min_nano": Bound(1, 100_000 * NANO_PER_GSN, "cheating is never free"),
    "verifier_bond_bps": Bound(1, BASIS_POINTS, "lying is never free; at most the solver's bond"),
    "verifier_bond_min_nano": Bound(1, 100_000 * NANO_PER_GSN, "lying is never free"),
    "miss_slash_bps": Bound(0, BASIS_POINTS // 2, "a missed duty is no proof of cheating"),
    "winner_bps": Bound(1, 8_000, "finding pays; the rest burns so that self-dealing loses"),
    "jackpot_bps": Bound(0, 5_000, "what remains burns so that self-dealing loses"),
    # times of a task
    "task_deadline_blocks_min": _blocks(1, _TIME),
    "task_deadline_blocks_max": _blocks(1, _TIME),
    "start_blocks": _blocks(2, _TIME),
    "retry_blocks": _blocks(1, "a draw each block at most"),
    "heartbeat_blocks": _blocks(2, _TIME),
    "train_blocks_base": _blocks(2, _TIME),
    "train_gas_per_block": Bound(1_000_000, 0xFFFFFFFF, "heights must stay in range for the largest task"),
    "fetch_bytes_per_block": Bound(
        10_000, 0xFFFFFFFF, "faster than people's links punishes the honest; slower holds money without end"
    ),
    "verify_blocks_base": _blocks(2, _TIME),
    "reveal_blocks": _blocks(2, _TIME),
    "verifier_draws_max": Bound(1, 16, "verification ends"),
    "refusals_max": Bound(2, 16, "no verifier alone blames a solver; verification ends"),
    "unserved_bps": Bound(0, 100_000, "withholding must not pay; a crash is no proof of cheating"),
    "window_blocks": _blocks(2, _TIME),
    # disputes
    "move_clock_blocks": _blocks(10, "who is honest must have the time to answer"),
    "move_extension_blocks": _blocks(2, "a last-second move wins nothing"),
    "game_moves_max": Bound(20, 1_000, "a game ends"),
    "challengers_per_dispute_max": Bound(1, 64, "a dispute ends; all are listed in its record"),
    "disputes_per_instalment_max": Bound(1, 256, "all are listed in the instalment's record"),
    # governance
    "proposal_deposit_nano": Bound(NANO_PER_GSN, 100_000 * NANO_PER_GSN, "noise costs, yet somebody can pay"),
    "proposals_open_max": Bound(4, 32, "a few accounts must not fill all places; each is looked at when stake moves"),
    "voting_blocks": _blocks(10, "people must have the time to vote, and the vote must end"),
    "enactment_blocks": _blocks(1, "people must have the time to leave, and the change must come"),
    "quorum_bps": Bound(1_000, 6_667, "a chain that moves has two thirds online, so this quorum can be met"),
    "threshold_bps": Bound(5_000, 6_667, "a majority decides, and two thirds always can"),
    "veto_bps": Bound(2_500, 5_000, "a minority is heard, and never rules alone"),
    "treasury_fee_bps": Bound(0, 5_000, "proposing blocks must pay"),
    # forced errors
    "forced_error_min_bps": Bound(100, BASIS_POINTS - 1, "jackpots and bonds grow with its inverse"),
    "forced_error_max_bps": Bound(0, BASIS_POINTS - 1, "a certain error would be expected"),
    "forced_tax_bps": Bound(0, BASIS_POINTS, "at most as dear as the training itself"),
    "forced_payout_bps": Bound(0, 9_500, "staging both sides must lose"),
    "forced_bond_bps": Bound(15_000, 100_000, "who never looks must lose more than its fees"),
    "forced_open_blocks": _blocks(4, _TIME),
    "forced_reveal_blocks": _blocks(4, _TIME),
    # the drawn watch
    "watch_bps": Bound(0, BASIS_POINTS, "every instalment at most; 0 draws none"),
    # native tasks
    "native_profilers": Bound(0, PROFILERS_MAX, "all are listed in one profile; 0 takes no native tasks"),
    "native_quantile_bps": Bound(5_000, BASIS_POINTS, "fewer than half must not make up a threshold"),
    "native_margin_bps": Bound(BASIS_POINTS, 1_000_000, "what was measured is never beyond the threshold"),
    "native_floor_parts": Bound(1, 1 << 22, "rounding alone is no reason to look"),
    "native_cap_parts": Bound(1 << 13, 1 << 26, "beyond a sixtieth of the update cheats would hide"),
}
"""What each parameter may become."""


def with_changes(parameters: Parameters, changes: tuple[NewValue, ...]) -> Parameters:
    """The parameters after a change. `Rejection` BAD_PARAMETER or PARAMETER_FIXED when governance may not make it."""
    names = [change.name for change in changes]
    _require(0 < len(names) == len(set(names)), "each parameter is named once, and at least one is")
    for change in changes:
        bound = BOUNDS.get(change.name)
        _require(bound is not None, f"there is no parameter {change.name[:40]!r}")
        if bound is not None:
            _check_bound(parameters, change, bound)
    changed = msgspec.structs.replace(parameters, **{change.name: change.value for change in changes})
    for holds, message in relations(changed):
        _require(holds, message)
    return changed


def _check_bound(parameters: Parameters, change: NewValue, bound: Bound) -> None:
    if bound.fixed:
        raise Rejection(PARAMETER_FIXED, f"{change.name}: {bound.why}")
    _require(
        bound.least <= change.value <= bound.most,
        f"{change.name}: {change.value} is not in {bound.least} … {bound.most}: {bound.why}",
    )
    present = getattr(parameters, change.name)
    if bound.raise_only and change.value < present:
        raise Rejection(PARAMETER_FIXED, f"{change.name}: {change.value} is below {present}: {bound.why}")


def relations(parameters: Parameters) -> list[tuple[bool, str]]:
    """What must hold between parameters, and how to say that it does not."""
    p = parameters
    return [
        (
            p.winner_bps + p.jackpot_bps < BASIS_POINTS,
            "winner_bps and jackpot_bps leave nothing to burn, so that self-dealing would pay",
        ),
        (
            p.validators_min <= p.validators_active_max,
            "validators_min is above validators_active_max: nobody could ever leave",
        ),
        (
            p.task_deadline_blocks_min <= p.task_deadline_blocks_max,
            "task_deadline_blocks_min is above task_deadline_blocks_max: no task could be submitted",
        ),
        (
            limits.TRANSACTION_BYTES_MAX + p.referee_units <= p.block_units_max,
            "referee_units leave no room for a dispute move in a block",
        ),
        (
            p.block_units_max <= REFEREE_MOVES_PER_BLOCK_MAX * p.referee_units,
            f"a block would hold more than {REFEREE_MOVES_PER_BLOCK_MAX} dispute moves",
        ),
        (
            limits.PROGRAM_BYTES_MAX * PROGRAM_UNITS_PER_BYTE + p.program_units <= p.block_units_max,
            "program_units leave no room for a program in a block",
        ),
        (
            p.voting_blocks < p.unbonding_blocks,
            "voting_blocks reach unbonding_blocks: stake could vote and be gone",
        ),
        (
            p.move_extension_blocks <= p.move_clock_blocks,
            "move_extension_blocks are above move_clock_blocks: the clock would not bound a game",
        ),
        (
            p.forced_error_min_bps <= p.forced_error_max_bps or not p.forced_error_max_bps,
            "forced_error_min_bps is above forced_error_max_bps: no chance could be asked for",
        ),
        (
            p.native_floor_parts <= p.native_cap_parts,
            "native_floor_parts are above native_cap_parts: nothing could be measured",
        ),
    ]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Rejection(BAD_PARAMETER, message)
