"""Where each record lives. A key is a short word, a slash and raw bytes or a decimal number.

`account/<address>` Account · `supply` Supply · `parameters` Parameters · `chain` chain id · `validator/<address>`
ValidatorRecord · `validators` addresses · `unbonding/<n>` Unbonding · `provider/<address>` Provider · `providers`
addresses · `program/<id>` ProgramRecord · `task/<id>` Task · `spec/<id>` TaskSpec · `profile/<task id>` Profile ·
`disclosure/<task id>/<attempt>/<n>` Disclosure · `instalment/<task id>/<n>` Instalment · `challenge/<task
id>/<n>/<address>` PendingChallenge · `dispute/<id>` DisputeRecord · `game/<id>` and `nativegame/<id>` the game's
encoding · `record/<task id>` TaskRecord · `due/<height>` DueItems · `tasks/<page>` and `disputes/<page>` ids in order
of appearance, `counters` how many there are, `consensus` ConsensusRecord · `governance` Governance · `proposal/<n>`
Proposal · `ballot/<n>/<validator>` Ballot · `vote/<n>/<validator><delegator>` DelegatorVote · `votes/<n>/<page>` keys
of a proposal's ballots and votes · `delegation/<validator>/<account>` Delegation · `delegations/<account>` the
validators it delegates to · `earnings` Earnings · `missed` MissedBlocks.
"""

from __future__ import annotations

SUPPLY = b"supply"
PARAMETERS = b"parameters"
CHAIN = b"chain"
VALIDATORS = b"validators"
PROVIDERS = b"providers"
COUNTERS = b"counters"
CONSENSUS = b"consensus"
GOVERNANCE = b"governance"
EARNINGS = b"earnings"
MISSED = b"missed"


def account(address: bytes) -> bytes:
    """Account of an address."""
    return b"account/" + address


def validator(address: bytes) -> bytes:
    """ValidatorRecord of a consensus key's address."""
    return b"validator/" + address


def delegation(validator: bytes, delegator: bytes) -> bytes:
    """Delegation of an account to a validator."""
    return b"delegation/%s/%s" % (validator, delegator)


def delegations_of(delegator: bytes) -> bytes:
    """Addresses of the validators that an account delegates to, or has money leaving from."""
    return b"delegations/" + delegator


def unbonding(number: int) -> bytes:
    """Unbonding entry."""
    return b"unbonding/%d" % number


def provider(address: bytes) -> bytes:
    """Provider of an account."""
    return b"provider/" + address


def program(program_id: bytes) -> bytes:
    """ProgramRecord."""
    return b"program/" + program_id


def task(task_id: bytes) -> bytes:
    """Task."""
    return b"task/" + task_id


def spec(task_id: bytes) -> bytes:
    """TaskSpec of a task."""
    return b"spec/" + task_id


def profile(task_id: bytes) -> bytes:
    """Profile of a native task."""
    return b"profile/" + task_id


def disclosure(task_id: bytes, attempt: int, segment: int) -> bytes:
    """Disclosure about a native segment as one attempt trained it."""
    return b"disclosure/%s/%d/%d" % (task_id, attempt, segment)


def instalment(task_id: bytes, number: int) -> bytes:
    """Latest Instalment of that number."""
    return b"instalment/%s/%d" % (task_id, number)


def challenge(task_id: bytes, number: int, challenger: bytes) -> bytes:
    """PendingChallenge of an account against an instalment."""
    return b"challenge/%s/%d/%s" % (task_id, number, challenger)


def dispute(dispute_id: bytes) -> bytes:
    """DisputeRecord."""
    return b"dispute/" + dispute_id


def game(dispute_id: bytes) -> bytes:
    """Encoding of a dispute's present `proofs.pinpoint` game."""
    return b"game/" + dispute_id


def native_game(dispute_id: bytes) -> bytes:
    """Encoding of a dispute's present `proofs.native` game."""
    return b"nativegame/" + dispute_id


def record(task_id: bytes) -> bytes:
    """TaskRecord of an ended task."""
    return b"record/" + task_id


def due(height: int) -> bytes:
    """DueItems of a height."""
    return b"due/%d" % height


def tasks_page(page: int) -> bytes:
    """Task ids in order of submission."""
    return b"tasks/%d" % page


def disputes_page(page: int) -> bytes:
    """Dispute ids in order of opening."""
    return b"disputes/%d" % page


def proposal(number: int) -> bytes:
    """Proposal of that number."""
    return b"proposal/%d" % number


def ballot(number: int, validator: bytes) -> bytes:
    """Ballot of a validator on a proposal."""
    return b"ballot/%d/%s" % (number, validator)


def delegator_vote(number: int, validator: bytes, delegator: bytes) -> bytes:
    """DelegatorVote on a proposal with the stake at a validator."""
    return b"vote/%d/%s%s" % (number, validator, delegator)


def votes_page(number: int, page: int) -> bytes:
    """Keys of a proposal's ballots and votes, in order of appearance."""
    return b"votes/%d/%d" % (number, page)
