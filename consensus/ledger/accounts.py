"""Accounts: money sent from one to another."""

from __future__ import annotations

from consensus.ledger import money
from consensus.ledger.call import Call
from consensus.ledger.messages import Transfer
from consensus.ledger.reasons import ZERO_AMOUNT
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection


def transfer(state: State, call: Call, message: Transfer) -> None:
    """Send money to an account."""
    if message.amount_nano == 0:
        raise Rejection(ZERO_AMOUNT, "a transfer of nothing")
    money.transfer(state, money.balance(call.sender), money.balance(message.to), message.amount_nano)
    state.emit("transfer", message.to, sender=call.sender, amount_nano=message.amount_nano)
