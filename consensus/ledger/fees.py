"""What a transaction costs: its bytes, and what checking it costs in bytes' worth."""

from __future__ import annotations

from consensus.ledger.messages import (
    Bond,
    DisputeMove,
    Message,
    PublishProgram,
    SubmitTask,
    Unbond,
    Unjail,
    encode_transaction,
    sign_transaction,
)
from consensus.ledger.parameters import Parameters
from consensus.ledger.proposal_messages import Propose
from gensyn_node.primitives.crypto import SecretKey

PROGRAM_UNITS_PER_BYTE = 8
"""Validating a program takes about so many times longer than other bytes take."""


def transaction_units(message: Message, size: int, parameters: Parameters) -> int:
    """Block space a transaction of `size` bytes takes."""
    if isinstance(message, DisputeMove):
        return size + parameters.referee_units
    if isinstance(message, PublishProgram):
        return size * PROGRAM_UNITS_PER_BYTE + parameters.program_units
    if isinstance(message, SubmitTask | Propose | Bond | Unbond | Unjail):
        return size + parameters.program_units
    return size


def least_fee(message: Message, size: int, parameters: Parameters) -> int:
    """The least fee for a transaction of `size` bytes."""
    return parameters.fee_base_nano + transaction_units(message, size, parameters) * parameters.fee_per_unit_nano


def fee_for(parameters: Parameters, chain_id: str, key: SecretKey, nonce: int, message: Message) -> int:
    """The least fee of this very transaction, its own digits counted."""
    fee = 0
    while True:
        size = len(encode_transaction(sign_transaction(key, chain_id, nonce, fee, message)))
        needed = least_fee(message, size, parameters)
        if needed <= fee:
            return fee
        fee = needed
