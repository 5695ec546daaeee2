"""The double-sign guard: what was signed last is on disk, file and directory synced, before a signature leaves.

Rules (those of Tendermint's file signer): an older height, round or step is refused; the same request gets the same
signature; a request that differs in its time alone gets the stored signature and the stored time; anything else at the
same place is a conflict and is refused. A missing or damaged record is refused, never recreated.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.files import replace_file

STATE_BYTES_MAX = 64 << 10
_CHECKSUM_BYTES = 4


class SignStep(enum.IntEnum):
    """Order of the three things signed in a round."""

    PROPOSAL = 1
    PREVOTE = 2
    PRECOMMIT = 3


@dataclass(frozen=True, slots=True)
class SignRequest:
    """Something to sign at one place of the chain.

    `message` is what the signature covers; `subject` is the same without the time (equal to `message` when the message
    carries no time of its own).
    """

    height: int
    round: int
    step: SignStep
    message: bytes
    subject: bytes
    time_ms: int
    log_records: int
    """Inputs of the height that are in the log and synced: what the signature rests on, locks included."""


class SignState(Struct, frozen=True):
    """The last signature: where, what, and the bytes themselves. Height 0 means nothing was signed yet."""

    public_key: bytes
    height: int
    round: int
    step: int
    message: bytes
    subject: bytes
    time_ms: int
    signature: bytes
    silent_through: int
    """Nothing is signed up to this height: the log that knew the locks of it was lost."""
    log_records: int
    """Inputs in the height's log when the last signature was given; a shorter log has forgotten something."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature and the time that it covers (the stored one when the request was a repetition)."""

    signature: bytes
    time_ms: int


class Signer:
    """Signs with one key, never twice at one place. One instance per key and per process (the home lock sees to it)."""

    def __init__(self, path: Path, key: SecretKey, state: SignState) -> None:
        self._path = path
        self._key = key
        self._state = state

    @classmethod
    def create(cls, path: Path, key: SecretKey) -> Signer:
        """Start a record for a key that has never signed; only `init` calls this. Raises `Rejection` (STORE_EXISTS)."""
        if path.exists():
            raise Rejection(reasons.STORE_EXISTS, f"{path} exists already")
        state = new_state(key.public)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, encode_state(state))
        return cls(path, key, state)

    @classmethod
    def open(cls, path: Path, key: SecretKey) -> Signer:
        """Go on with a record. Raises `Rejection` (SIGN_STATE_MISSING, SIGN_STATE_CORRUPT, WRONG_KEY)."""
        state = read_state(path)
        if state.public_key != key.public:
            raise Rejection(reasons.WRONG_KEY, f"{path} is for key {state.public_key.hex()}")
        return cls(path, key, state)

    @property
    def state(self) -> SignState:
        """The last signature."""
        return self._state

    @property
    def public_key(self) -> bytes:
        """The key that signs."""
        return self._key.public

    def sit_out(self) -> None:
        """Refuse the last signed height, also after a restart: its log is lost, so the lock in it is forgotten."""
        state = state_sitting_out(self._state)
        replace_file(self._path, encode_state(state))
        self._state = state

    def sign(self, request: SignRequest) -> Signed:
        """Sign, durably recorded first. Raises `Rejection` (SIGN_REGRESSION, SIGN_CONFLICT)."""
        state = state_after(self._state, request, self._key.sign)
        if state is not self._state:
            replace_file(self._path, encode_state(state))
            self._state = state
        return Signed(state.signature, state.time_ms)


def state_after(last: SignState, request: SignRequest, sign: Callable[[bytes], bytes]) -> SignState:
    """The record to have on disk before the signature in it leaves; `last` itself when the request is a repetition.

    Raises `Rejection` (SIGN_REGRESSION, SIGN_CONFLICT).
    """
    here = (request.height, request.round, int(request.step))
    there = (last.height, last.round, last.step)
    if here == there and request.subject == last.subject:
        return last
    if here == there:
        raise Rejection(reasons.SIGN_CONFLICT, f"another message was signed at {_place(there)}")
    if here < there or request.height <= last.silent_through:
        raise Rejection(reasons.SIGN_REGRESSION, f"asked for {_place(here)} after {_place(there)}")
    return SignState(
        last.public_key,
        *here,
        request.message,
        request.subject,
        request.time_ms,
        sign(request.message),
        last.silent_through,
        request.log_records,
    )


def new_state(public_key: bytes) -> SignState:
    """The record of a key that has never signed."""
    return SignState(public_key, 0, 0, 0, b"", b"", 0, b"", 0, 0)


def raised(last: SignState, place: tuple[int, int, int], *, silent_through: int) -> SignState:
    """The record after what another one of the same key knows (height, round, step): the later of the two, never less.

    What was signed at the later place is not known here, nor the locks of its height: that height is sat out.
    """
    silent = max(last.silent_through, silent_through)
    if place <= (last.height, last.round, last.step):
        return msgspec.structs.replace(last, silent_through=silent)
    return SignState(last.public_key, *place, b"", b"", 0, b"", max(silent, place[0]), 0)


def state_sitting_out(last: SignState) -> SignState:
    """The record of a validator that refuses the last signed height: with its log, the lock in it is lost."""
    return msgspec.structs.replace(last, silent_through=last.height)


def log_is_short(last: SignState, height: int, *, records: int) -> bool:
    """Whether the log of this height lacks inputs, and with them locks, that signatures rest on.

    They were synced before the signature, so a crash does not take them; damage that looks like a torn end can.
    """
    if last.height < height or last.height <= last.silent_through:
        return False
    return last.height > height or records < last.log_records


def is_beyond(last: SignState, place: tuple[int, int, int], message: bytes) -> bool:
    """Whether a signature at this place (height, round, step) over `message` cannot be one that the record knows of."""
    there = (last.height, last.round, last.step)
    return place > there or (place == there and last.message != b"" and message != last.message)


def encode_state(state: SignState) -> bytes:
    """The file's content: a checksum, then the encoded state."""
    body = codec.encode(state)
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def read_state(path: Path) -> SignState:
    """Read and check a sign state. Raises `Rejection` (SIGN_STATE_MISSING, SIGN_STATE_CORRUPT)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Rejection(reasons.SIGN_STATE_MISSING, f"{path} does not exist") from None
    body = content[_CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") != content[:_CHECKSUM_BYTES]:
        raise Rejection(reasons.SIGN_STATE_CORRUPT, f"{path} fails its checksum")
    try:
        state: SignState = codec.decode(SignState, body, max_bytes=STATE_BYTES_MAX)
    except Rejection as error:
        raise Rejection(reasons.SIGN_STATE_CORRUPT, f"{path}: {error.message}") from None
    return state


def _place(place: tuple[int, int, int]) -> str:
    height, round_, step = place
    return f"height {height} round {round_} step {step}"
