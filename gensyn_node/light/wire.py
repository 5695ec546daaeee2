"""What a light client asks nodes, and what they answer. Nothing of it is believed without a verified header."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.ledger.block import TransactionResult
from consensus.ledger.fields import Hash, Text
from consensus.ledger.tree import MapProof
from consensus.light.types import LightBlock
from consensus.tendermint.types import LightClientAttackEvidence
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct

METHOD_LIGHT = "chain/light"
METHOD_PROOF = "chain/proof"
METHOD_SUBMIT = "chain/submit"
METHOD_INCLUSION = "chain/inclusion"
METHOD_REPORT = "chain/report"

KEYS_MAX = 16
"""Ledger keys proven in one answer."""
KEY_BYTES_MAX = 256
"""A ledger key: the longest are a word and two hashes."""
PROOF_DEPTH_BLOCKS = 16
"""Blocks below the head whose state is proven: what a client needs from its verified header until it asks."""
LIGHT_REPLY_BYTES_MAX = 256 * limits.KIB
"""A light block of the largest set: two sets and a commit, about 30 KiB."""
PROOF_REPLY_BYTES_MAX = limits.MIB
"""Records and their proofs. A record that is larger has to be read from a node of one's own."""

Height = Annotated[int, Meta(ge=0, lt=1 << 62)]
Key = Annotated[bytes, Meta(max_length=KEY_BYTES_MAX)]
Path = Annotated[tuple[Hash, ...], Meta(max_length=64)]


class LightQuery(Struct):
    """The light block of a height; 0 for the newest."""

    height: Height


class LightReply(Struct):
    """The light block, if it is here, and how far the answerer is."""

    head_height: Height
    block: LightBlock | None


class ProofQuery(Struct):
    """What the ledger holds at some keys after block `height`; the next header's app hash proves it."""

    height: Height
    keys: Annotated[
        tuple[Annotated[bytes, Meta(max_length=KEY_BYTES_MAX)], ...], Meta(min_length=1, max_length=KEYS_MAX)
    ]


class ProvenValue(Struct):
    """The value at a key, None when there is none, and the proof of either."""

    value: bytes | None
    proof: MapProof


class ProofReply(Struct):
    """One for each key, in their order; none at all when that state is not kept here or not signed yet."""

    head_height: Height
    values: Annotated[tuple[ProvenValue, ...], Meta(max_length=KEYS_MAX)]


class SubmitReply(Struct):
    """What became of a transaction that was handed over; the id is the sender's to know."""

    code: Text
    """Empty: it waits for a block here. Else the reason's code."""
    message: Annotated[str, Meta(max_length=400)]


class InclusionQuery(Struct):
    """Where a transaction is."""

    transaction_id: Hash


class Inclusion(Struct):
    """Its place and result, with the paths to the data root of its header and to the results root of the next."""

    height: Height
    index: Height
    size: Height
    """Transactions in the block."""
    result: TransactionResult
    data_path: Path
    results_path: Path


class InclusionReply(Struct):
    """None while it is in no block that has a successor."""

    inclusion: Inclusion | None


class Report(Struct):
    """A header that a light client was shown and that another peer contradicts."""

    attack: LightClientAttackEvidence


class ReportReply(Struct):
    """Whether it convicts somebody who was not accused before, by the answerer's records."""

    news: bool
