"""The first state of a chain."""

from __future__ import annotations

from consensus.ledger import keys, staking
from consensus.ledger.block import BlockDelta
from consensus.ledger.execute import finish
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.parameter_bounds import WINDOW_BLOCKS_MAX
from consensus.ledger.parameters import BASIS_POINTS, PROFILERS_MAX, Parameters
from consensus.ledger.reasons import BAD_GENESIS
from consensus.ledger.records import Account, Genesis, GenesisValidator, Supply
from consensus.ledger.shares import ZERO_RATIO
from consensus.ledger.stake_records import Delegation, ValidatorRecord
from consensus.ledger.view import State
from gensyn_node.primitives import crypto, limits
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

_ZERO_ALLOWED = (
    "fee_base_nano",
    "fee_per_unit_nano",
    "equivocation_slash_bps",
    "miss_slash_bps",
    "jackpot_bps",
    "treasury_fee_bps",
    "block_reward_nano",
    "forced_error_max_bps",
    "forced_tax_bps",
    "forced_payout_bps",
    "watch_bps",
    "native_profilers",
    "proposer_base_bps",
    "proposer_signatures_bps",
    "downtime_slash_bps",
)

_SHARES = (
    "miss_slash_bps",
    "quorum_bps",
    "threshold_bps",
    "veto_bps",
    "treasury_fee_bps",
    "downtime_signed_min_bps",
    "commission_rise_max_bps",
    "native_quantile_bps",
    "forced_error_min_bps",
    "forced_error_max_bps",
    "forced_tax_bps",
    "forced_payout_bps",
    "watch_bps",
)
_POWER_UNIT_MIN_NANO = 8
"""Smallest unit of power: all money together stays below the bound on a set's total power."""


def genesis_hash(genesis: Genesis) -> bytes:
    """Identity of a chain, compared in the handshake."""
    return tagged_hash("gensyn/genesis/1", encode(genesis))


def check_genesis(genesis: Genesis) -> None:
    """`Rejection` BAD_GENESIS unless a chain can start with it."""
    check_parameters(genesis.parameters)
    _require(0 < len(genesis.chain_id) <= 64, "chain_id: 1 to 64 characters")
    _require(1 <= len(genesis.validators) <= limits.VALIDATORS_MAX, "validators: none, or too many")
    least = genesis.parameters.validators_min
    _require(len(genesis.validators) >= least, f"validators: fewer than validators_min, {least}")
    _require(len({v.public_key for v in genesis.validators}) == len(genesis.validators), "validators: a key twice")
    _require(len({a.address for a in genesis.accounts}) == len(genesis.accounts), "accounts: an address twice")
    least = max(genesis.parameters.stake_min_nano, genesis.parameters.power_unit_nano)
    _require(all(v.stake_nano >= least for v in genesis.validators), f"validators: a stake below {least} nano")
    _require(all(a.balance_nano >= 0 for a in genesis.accounts), "accounts: a negative balance")
    minted = sum(v.stake_nano for v in genesis.validators) + sum(a.balance_nano for a in genesis.accounts)
    _require(minted <= SUPPLY_NANO_MAX, "accounts: more money than can exist")


def check_parameters(parameters: Parameters) -> None:
    """`Rejection` BAD_GENESIS when a number makes no sense."""
    for name in parameters.__struct_fields__:
        value = getattr(parameters, name)
        _require(value >= (0 if name in _ZERO_ALLOWED else 1), f"parameters: {name} is {value}")
    _require(
        parameters.winner_bps + parameters.jackpot_bps < BASIS_POINTS,
        "parameters: winner and jackpot shares leave nothing to burn, so that self-dealing would pay",
    )
    _require(parameters.native_profilers <= PROFILERS_MAX, f"parameters: native_profilers is above {PROFILERS_MAX}")
    _require(
        parameters.native_floor_parts <= parameters.native_cap_parts,
        "parameters: native_floor_parts are above native_cap_parts: nothing could be measured",
    )
    for name in _SHARES:
        _require(getattr(parameters, name) <= BASIS_POINTS, f"parameters: {name} is above 10,000")
    _check_staking(parameters)


def _check_staking(parameters: Parameters) -> None:
    for name in ("equivocation_slash_bps", "downtime_slash_bps"):
        _require(getattr(parameters, name) < BASIS_POINTS, f"parameters: {name} leaves nothing behind the shares")
    bonus = parameters.proposer_base_bps + parameters.proposer_signatures_bps
    _require(bonus <= BASIS_POINTS, "parameters: the proposer's bonus is above 10,000")
    _require(
        parameters.validators_min <= parameters.validators_active_max <= limits.VALIDATORS_MAX,
        f"parameters: not validators_min <= validators_active_max <= {limits.VALIDATORS_MAX}",
    )
    _require(
        parameters.downtime_window_blocks <= WINDOW_BLOCKS_MAX,
        f"parameters: downtime_window_blocks is above {WINDOW_BLOCKS_MAX}",
    )
    _require(parameters.power_unit_nano >= _POWER_UNIT_MIN_NANO, "parameters: power_unit_nano is too small")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Rejection(BAD_GENESIS, message)


def genesis_delta(genesis: Genesis) -> BlockDelta:
    """The delta of height 0: accounts, validators, parameters; its validator updates are the first set."""
    check_genesis(genesis)
    empty = MemoryLedger()
    state = State(empty)
    state.put(keys.PARAMETERS, genesis.parameters)
    state.put(keys.CHAIN, genesis.chain_id)
    for account in sorted(genesis.accounts, key=lambda account: account.address):
        state.put(keys.account(account.address), Account(account.balance_nano, 0))
    for validator in genesis.validators:
        _add_validator(state, validator)
    balances = sum(account.balance_nano for account in genesis.accounts)
    stakes = sum(validator.stake_nano for validator in genesis.validators)
    supply = Supply(
        minted_nano=balances + stakes,
        balances_nano=balances,
        stakes_nano=stakes,
        unbonding_nano=0,
        bonds_nano=0,
        escrows_nano=0,
        jackpot_nano=0,
        burnt_nano=0,
    )
    state.put(keys.SUPPLY, supply)
    updates = staking.validator_updates(state, {}, staking.active_powers(state))
    return finish(empty, state, 0, (), updates)


def _add_validator(state: State, validator: GenesisValidator) -> None:
    """Its stake is its operator's own."""
    address, operator, stake = crypto.address_of(validator.public_key), validator.operator, validator.stake_nano
    record = ValidatorRecord(address, validator.public_key, operator, stake, stake, name=validator.name)
    state.put(keys.validator(address), record)
    state.put(keys.delegation(address, operator), Delegation(address, operator, stake, ZERO_RATIO, ()))
    state.add_address(keys.VALIDATORS, address)
    state.add_address(keys.delegations_of(operator), address)
