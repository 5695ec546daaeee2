"""One block: what is due, then the transactions, then what governance decided, then the new root.

A transaction whose envelope is refused (bytes, chain, signature, nonce, fee, block space) changes nothing at all. One
whose *message* is refused changes nothing but the nonce and the fee, so that refused work is not free.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from consensus.ledger import (
    accounts,
    challenges,
    delegation,
    disclosure,
    disputes,
    downtime,
    forced,
    governance,
    keys,
    life,
    money,
    operators,
    phases,
    profiling,
    programs,
    proposals,
    providers,
    rewards,
    slashing,
    staking,
    tasks,
    tree,
    unbonding,
    upgrades,
    verification,
    voting,
)
from consensus.ledger import messages as m
from consensus.ledger.block import BlockContext, BlockDelta, LedgerView, Reader, TransactionResult
from consensus.ledger.call import Call
from consensus.ledger.fees import least_fee, transaction_units
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.proposal_messages import CastVote, Propose
from consensus.ledger.reasons import BAD_NONCE, BLOCK_FULL, FEE_TOO_LOW, INSUFFICIENT_FUNDS, WRONG_CHAIN
from consensus.ledger.records import Account, ConsensusRecord, DueItem
from consensus.ledger.view import State
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from proofs import merkle

_HANDLERS: dict[type, Callable[[State, Call, Any], None]] = {
    m.Transfer: accounts.transfer,
    m.Bond: delegation.bond,
    m.Unbond: delegation.unbond,
    m.Delegate: delegation.delegate,
    m.Undelegate: delegation.undelegate,
    m.WithdrawRewards: rewards.withdraw_rewards,
    m.EditValidator: operators.edit_validator,
    m.Unjail: downtime.unjail,
    m.RegisterProvider: providers.register,
    m.UpdateProvider: providers.update,
    m.PauseProvider: providers.pause,
    m.ResumeProvider: providers.resume,
    m.WithdrawProvider: providers.withdraw,
    m.PublishProgram: programs.publish_program,
    m.SubmitTask: tasks.submit_task,
    m.CancelTask: tasks.cancel_task,
    m.StartTask: tasks.start_task,
    m.Heartbeat: tasks.heartbeat,
    m.CommitInstalment: tasks.commit_instalment,
    m.VerdictCommit: verification.verdict_commit,
    m.VerdictReveal: verification.verdict_reveal,
    m.OpenChallengeCommit: challenges.open_challenge_commit,
    m.OpenChallengeReveal: challenges.open_challenge_reveal,
    m.DisputeMove: disputes.dispute_move,
    m.ProfileCommit: profiling.profile_commit,
    m.ProfileReveal: profiling.profile_reveal,
    m.DemandValues: disclosure.demand_values,
    m.DiscloseValues: disclosure.disclose_values,
    m.OpenInstalment: forced.open_instalment,
    m.RevealSecret: forced.reveal_secret,
    m.ContestForcedError: forced.contest_forced_error,
    Propose: proposals.propose,
    CastVote: voting.cast_vote,
}


def execute_block(
    view: LedgerView,
    context: BlockContext,
    transactions: Sequence[bytes],
    signatures_known: Collection[bytes] = (),
    known_upgrades: upgrades.Upgrades = upgrades.KNOWN_UPGRADES,
) -> BlockDelta:
    """Everything the block changes. `signatures_known`: ids of transactions whose signature was verified already."""
    state = State(view)
    upgrades.begin_block(state, context.height, known_upgrades)
    before = staking.active_powers(state)
    for misbehaviour in context.misbehaviours:
        slashing.punish(state, context, misbehaviour)
    downtime.note_signatures(state, context)
    _run_due(state, context)
    results: list[TransactionResult] = []
    units_left = state.parameters.block_units_max
    for data in transactions:
        result = _apply(state, context, data, units_left, signatures_known)
        if result.fee_nano:
            units_left -= result.units
        results.append(result)
    rewards.distribute(state, context)
    governance.end_block(state, context.height)
    money.check_supply(state)
    if context.rotation:
        state.put(keys.CONSENSUS, ConsensusRecord(context.beacon, context.rotation))
    updates = staking.validator_updates(state, before, staking.active_powers(state))
    return finish(view, state, context.height, tuple(results), updates)


def finish(
    view: LedgerView, state: State, height: int, results: tuple[TransactionResult, ...], updates: tuple[Any, ...]
) -> BlockDelta:
    """The delta of a state's changes, with the new tree."""
    writes = state.writes()
    grown = tree.update(view.root, view.read_node, writes)
    return BlockDelta(
        height=height,
        writes=tuple(writes.items()),
        new_nodes=tuple(sorted(grown.new_nodes.items())),
        stale_nodes=tuple(sorted(grown.stale_nodes)),
        app_hash=grown.root,
        results=results,
        results_root=merkle.root([result.committed for result in results]),
        events=state.events,
        validator_updates=updates,
    )


# --- what is due


def _run_due(state: State, context: BlockContext) -> None:
    items = state.due(context.height)
    if not items:
        return
    state.put(keys.due(context.height), None)
    for item in items:
        try:
            _run_due_item(state, context, item)
        except Rejection as error:
            raise InvariantViolation(f"due item {item.kind} was rejected: {error}") from error


def _run_due_item(state: State, context: BlockContext, item: DueItem) -> None:
    match item.kind:
        case life.DRAW_SOLVER:
            life.draw_solver(state, context, item.subject, item.number)
        case life.DUTY:
            life.duty_due(state, context, item.subject, item.number)
        case life.DEADLINE:
            life.deadline_reached(state, context, item.subject)
        case profiling.PROFILE:
            profiling.profile_due(state, context, item.subject)
        case phases.PHASE:
            verification.phase_due(state, context, item.subject, item.number)
        case disputes.CLOCK:
            disputes.clock_due(state, context.height, item.subject, item.number)
        case unbonding.PAY_OUT:
            unbonding.pay_out(state, item.number)
        case _:
            raise InvariantViolation(f"unknown due item {item.kind!r}")


# --- transactions


def check_transaction(reader: Reader, transaction: m.Transaction, size: int) -> Account:
    """Whether a transaction of `size` bytes may wait in a mempool: chain, fee, balance for the fee, nonce not used.

    A higher nonce than the next is accepted (it may follow others); the signature is not looked at. `Rejection` else.
    The sender's account.
    """
    state = State(reader)
    chain_id = state.need(keys.CHAIN, str)
    _check_chain_and_fee(state, transaction, size, chain_id)
    account = state.account(transaction.sender_address)
    if transaction.nonce < account.nonce:
        raise Rejection(BAD_NONCE, f"nonce {transaction.nonce} is used, the next is {account.nonce}")
    return account


def dry_run(reader: Reader, context: BlockContext, data: bytes) -> TransactionResult:
    """What would become of an encoded transaction if it came next; tells its sender before it is sent."""
    state = State(reader)
    return _apply(state, context, data, state.parameters.block_units_max, ())


def _check_chain_and_fee(state: State, transaction: m.Transaction, size: int, chain_id: str) -> None:
    if transaction.chain_id != chain_id:
        raise Rejection(WRONG_CHAIN, f"signed for {transaction.chain_id[:40]!r}, this chain is {chain_id!r}")
    least = least_fee(transaction.message, size, state.parameters)
    if transaction.fee_nano < least:
        raise Rejection(FEE_TOO_LOW, f"the fee is {transaction.fee_nano} nano, at least {least} is required")
    held = state.account(transaction.sender_address).balance_nano
    if held < transaction.fee_nano:
        raise Rejection(INSUFFICIENT_FUNDS, f"the balance is {held} nano, the fee {transaction.fee_nano}")


def _apply(
    state: State, context: BlockContext, data: bytes, units_left: int, signatures_known: Collection[bytes]
) -> TransactionResult:
    identity, units = m.transaction_id(data), len(data)
    try:
        transaction = m.decode_transaction(data)
        units = transaction_units(transaction.message, len(data), state.parameters)
        if units > units_left:
            raise Rejection(BLOCK_FULL, f"{units} units are needed, {units_left} are left")
        _check_chain_and_fee(state, transaction, len(data), context.chain_id)
        expected = state.account(transaction.sender_address).nonce
        if transaction.nonce != expected:
            raise Rejection(BAD_NONCE, f"nonce {transaction.nonce}, the next is {expected}")
        if identity not in signatures_known:
            m.verify_signature(transaction)
    except Rejection as error:
        return TransactionResult(identity, error.reason.code, error.message, 0, units)
    _charge(state, transaction)
    call = Call(context, transaction.sender_address, identity, len(data))
    state.begin()
    try:
        _HANDLERS[type(transaction.message)](state, call, transaction.message)
    except Rejection as error:
        state.rollback()
        return TransactionResult(identity, error.reason.code, error.message, transaction.fee_nano, units)
    state.commit()
    return TransactionResult(identity, "", "", transaction.fee_nano, units)


def _charge(state: State, transaction: m.Transaction) -> None:
    """The fee to the treasury and into the block's rewards; the nonce is used."""
    sender = transaction.sender_address
    account = state.account(sender)
    state.put(keys.account(sender), msgspec.structs.replace(account, nonce=account.nonce + 1))
    to_treasury = transaction.fee_nano * state.parameters.treasury_fee_bps // BASIS_POINTS
    money.transfer(state, money.balance(sender), money.TREASURY, to_treasury)
    money.transfer(state, money.balance(sender), money.FEES, transaction.fee_nano - to_treasury)
