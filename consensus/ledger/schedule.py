"""The arithmetic of a task: which steps, segments and instalments there are, what they cost, how long they may take."""

from __future__ import annotations

from consensus.ledger.messages import ARITHMETIC_NATIVE, TaskSpec
from consensus.ledger.money import GIGA, work_price
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from gensyn_node.primitives.money import SUPPLY_NANO_MAX
from proofs.program.types import ITEM_BYTES

NATIVE_PHASES = 3
"""Verifying a native task may take re-execution, the solver's disclosure, and the audit of its values."""


def segment_count(spec: TaskSpec) -> int:
    """Segments of the whole task."""
    return -(-spec.steps // spec.segment_steps)


def segment_span(spec: TaskSpec, segment: int) -> tuple[int, int]:
    """(first step, number of steps) of a segment; the last one may be shorter."""
    first = segment * spec.segment_steps
    return first, min(spec.segment_steps, spec.steps - first)


def instalment_segments(spec: TaskSpec, instalment: int) -> range:
    """Numbers of the segments of an instalment; sizes differ by at most one."""
    segments = segment_count(spec)
    return range(instalment * segments // spec.instalments, (instalment + 1) * segments // spec.instalments)


def instalment_steps(spec: TaskSpec, instalment: int) -> tuple[int, int]:
    """(first step, number of steps) of an instalment."""
    segments = instalment_segments(spec, instalment)
    first = segments.start * spec.segment_steps
    return first, min(segments.stop * spec.segment_steps, spec.steps) - first


def samples_of(spec: TaskSpec, instalment: int) -> int:
    """Segments each verifier of this instalment re-executes."""
    return min(spec.samples, len(instalment_segments(spec, instalment)))


def train_gas(spec: TaskSpec, gas_per_step: int) -> int:
    """Gas of training the whole task."""
    return spec.steps * gas_per_step


def verify_gas_max(spec: TaskSpec, gas_per_step: int) -> int:
    """Most gas that all verifiers together are paid for."""
    samples = sum(samples_of(spec, number) for number in range(spec.instalments))
    return samples * spec.verifiers * spec.segment_steps * gas_per_step


def profilers_of(spec: TaskSpec, parameters: Parameters) -> int:
    """Profilers that the task needs."""
    return parameters.native_profilers if spec.arithmetic == ARITHMETIC_NATIVE else 0


def profile_gas(spec: TaskSpec, gas_per_step: int) -> int:
    """Gas of one profiler's work: the first segment, by vendor kernels and by `rep-v1`."""
    return 2 * min(spec.segment_steps, spec.steps) * gas_per_step


def profile_blocks(spec: TaskSpec, gas_per_step: int, parameters: Parameters) -> int:
    """Blocks for a drawn profiler to commit its measurements."""
    return parameters.verify_blocks_base + profile_gas(spec, gas_per_step) // parameters.train_gas_per_block


def tax_bps_of(spec: TaskSpec, parameters: Parameters) -> int:
    """Share of each instalment's price that goes to the jackpot pool."""
    return parameters.forced_tax_bps if spec.forced_error_bps else 0


def watch_bps_of(spec: TaskSpec, parameters: Parameters) -> int:
    """Chance of a drawn watch an instalment. Not in native tasks: no two honest machines have the same evidence."""
    return 0 if spec.arithmetic == ARITHMETIC_NATIVE else parameters.watch_bps


def watch_gas_max(spec: TaskSpec, gas_per_step: int, watch_bps: int) -> int:
    """Most gas that drawn watches are paid for: a segment an instalment."""
    return spec.instalments * spec.segment_steps * gas_per_step if watch_bps else 0


def watch_blocks(spec: TaskSpec, gas_per_step: int, parameters: Parameters) -> int:
    """Blocks for a drawn watch to commit its verdict over one segment."""
    return parameters.verify_blocks_base + spec.segment_steps * gas_per_step // parameters.train_gas_per_block


def tax_gas(gas: int, tax_bps: int) -> int:
    """The forced-error tax on training this much, as gas; rounded up."""
    return -(-gas * tax_bps // BASIS_POINTS)


def work_gas_max(spec: TaskSpec, gas_per_step: int, profilers: int, tax_bps: int = 0, watch_bps: int = 0) -> int:
    """Most gas that everybody together is paid for; a forced error has an instalment verified twice."""
    profiling = profilers * profile_gas(spec, gas_per_step)
    rounds = 2 if spec.forced_error_bps else 1
    trained = train_gas(spec, gas_per_step)
    verified = verify_gas_max(spec, gas_per_step) + watch_gas_max(spec, gas_per_step, watch_bps)
    return trained + tax_gas(trained, tax_bps) + rounds * verified + profiling


def bid_price(spec: TaskSpec, gas_per_step: int, profilers: int = 0, tax_bps: int = 0, watch_bps: int = 0) -> int:
    """The highest ask per giga-gas at which the escrow pays for all training, checking, profiling and the tax."""
    bid = spec.max_price_nano * GIGA // max(1, work_gas_max(spec, gas_per_step, profilers, tax_bps, watch_bps))
    return min(bid, SUPPLY_NANO_MAX)  # a few gas at a high price: no ask is above that, and no record holds more


def solver_bond(spec: TaskSpec, gas_per_step: int, price_nano: int, parameters: Parameters) -> int:
    """What a solver at this ask puts at stake for the task."""
    price = work_price(train_gas(spec, gas_per_step), price_nano)
    share = max(parameters.solver_bond_bps, spec.solver_bond_bps)
    return min(SUPPLY_NANO_MAX, max(parameters.solver_bond_min_nano, price * share // BASIS_POINTS))


def verifier_bond(solver_bond_nano: int, parameters: Parameters) -> int:
    """What a verifier or challenger puts at stake."""
    return max(parameters.verifier_bond_min_nano, solver_bond_nano * parameters.verifier_bond_bps // BASIS_POINTS)


def slot_bond(
    spec: TaskSpec, gas_per_step: int, instalment: int, price_nano: int, solver_bond_nano: int, parameters: Parameters
) -> int:
    """What a verifier at this ask puts at stake for an instalment.

    With forced errors at least so much that approving without looking loses `forced_bond_bps` of the fee on average:
    the error is there with the task's chance, in any segment alike, so fee and risk grow with the samples alike.
    """
    common = verifier_bond(solver_bond_nano, parameters)
    if not spec.forced_error_bps:
        return common
    whole = work_price(instalment_steps(spec, instalment)[1] * gas_per_step, price_nano)
    return min(SUPPLY_NANO_MAX, max(common, -(-whole * parameters.forced_bond_bps // spec.forced_error_bps)))


def train_blocks(spec: TaskSpec, gas_per_step: int, instalment: int, parameters: Parameters) -> int:
    """Blocks to train an instalment."""
    gas = instalment_steps(spec, instalment)[1] * gas_per_step
    return parameters.train_blocks_base + gas // parameters.train_gas_per_block


def fetch_blocks(spec: TaskSpec, state_bytes: int, parameters: Parameters) -> int:
    """Blocks that the slowest link waited for takes for the data set and the states of one verification.

    Whole blocks: what is less than one is in the times that everybody is given anyway.
    """
    data = sum(tensor.type.elements * ITEM_BYTES[tensor.type.dtype] for tensor in spec.dataset)
    each = 2 if spec.arithmetic == ARITHMETIC_NATIVE else 1  # Where its end is measured, it is fetched as well.
    return (data + (each * spec.samples + 1) * state_bytes) // parameters.fetch_bytes_per_block


def verify_blocks(spec: TaskSpec, gas_per_step: int, parameters: Parameters) -> int:
    """Blocks for a drawn verifier to commit its verdict."""
    longest = -(-segment_count(spec) // spec.instalments)
    gas = min(spec.samples, longest) * spec.segment_steps * gas_per_step
    blocks = parameters.verify_blocks_base + gas // parameters.train_gas_per_block
    return NATIVE_PHASES * blocks if spec.arithmetic == ARITHMETIC_NATIVE else blocks


def patience_blocks(verify: int, parameters: Parameters) -> int:
    """Blocks for which draws of one instalment's verifiers, who have `verify` blocks each, wait for candidates."""
    return (parameters.verifier_draws_max + 2) // 3 * verify


def verifying_rounds_max(parameters: Parameters) -> int:
    """Rounds of draws and verdicts of one instalment: in each somebody is silent, or every open slot gets a verdict."""
    return parameters.verifier_draws_max + parameters.refusals_max


def game_blocks_max(parameters: Parameters) -> int:
    """Blocks one game of a dispute can last."""
    return 2 * parameters.move_clock_blocks + parameters.game_moves_max * parameters.move_extension_blocks


def task_end_bound(spec: TaskSpec, gas_per_step: int, parameters: Parameters, fetching: int = 0) -> int:
    """Blocks after submission by which the task is paid or refunded, whatever anybody does or fails to do.

    Work is accepted until the deadline; what was committed in its last block is drawn and verified (in rounds, while
    verifiers are silent or cannot fetch the states), stands open to challenges, and its disputes are played to their
    end. With forced errors the instalments are opened one after the other, each when the secret of the one before is
    known; one that was shown with an error is verified once more. `fetching`: the task's `fetch_blocks`.
    """
    verify = verify_blocks(spec, gas_per_step, parameters) + fetching
    one_round = verify + parameters.reveal_blocks + parameters.retry_blocks + 6
    verified = patience_blocks(verify, parameters) + (verifying_rounds_max(parameters) + 1) * one_round
    if watch_bps_of(spec, parameters):
        verified += watch_blocks(spec, gas_per_step, parameters) + fetching + 2
    challenges = parameters.window_blocks + parameters.reveal_blocks + 4
    disputes = parameters.challengers_per_dispute_max * (game_blocks_max(parameters) + 2)
    if not spec.forced_error_bps:
        return spec.deadline_blocks + verified + challenges + disputes + 4
    until_shown = parameters.forced_open_blocks + verified + challenges + parameters.forced_reveal_blocks + 8
    second_round = verified + challenges + disputes
    return spec.deadline_blocks + spec.instalments * until_shown + challenges + disputes + second_round + 8
