"""What others can check without trusting this node: proofs of ledger records, and certificates of ended tasks."""

from __future__ import annotations

from consensus.ledger import keys, queries, tree
from consensus.ledger.tree import MapProof
from gensyn_node.app.chain import Chain
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.rpc.reasons import NOT_FOUND
from gensyn_node.sdk.certificate import Certificate, SetChange, SignedHeader


def prove_key(chain: Chain, key: bytes, height: int | None) -> MapProof | None:
    """What the ledger held at `key` after block `height` (the head when None); None when that state is gone."""
    view = chain.view()
    root = view.root if height is None else app_hash_after(chain, height)
    if root is None:
        return None
    try:
        return tree.prove(root, view.read_node, key)
    except InvariantViolation:
        return None  # the nodes of that version have been pruned


def app_hash_after(chain: Chain, height: int) -> bytes | None:
    """The ledger's root after a block; the next block's header signs it."""
    if height == chain.head.height:
        return chain.head.app_hash
    following = chain.header(height + 1)
    return None if following is None else following.app_hash


def certificate(chain: Chain, task_id: bytes) -> Certificate | None:
    """The certificate of an ended task; None while it runs, and until a block has signed its end.

    `Rejection` NOT_FOUND on a node that began with a snapshot.
    """
    height = chain.head.height
    view = chain.view()
    signed = _signed_header(chain, height)
    record = queries.task_record(view, task_id)
    if signed is None or record is None or record.ended_height >= height:
        return None
    if chain.store.began:
        raise Rejection(
            NOT_FOUND,
            f"this node began with the snapshot of block {chain.store.began} and cannot show how the validator set "
            "came about since the genesis; ask a node that has all blocks",
        )
    spec = queries.spec(view, task_id)
    program = queries.program(view, record.program_id)
    if spec is None or program is None:
        raise InvariantViolation(f"ended task {task_id.hex()} without spec or program")
    return Certificate(
        genesis=codec.encode(chain.genesis),
        set_changes=tuple(change for at in chain.set_changes() if at < height for change in _set_change(chain, at)),
        signed=signed,
        record=record,
        proof=tree.prove(signed.header.app_hash, view.read_node, keys.record(task_id)),
        spec=spec,
        program=program.program,
    )


def _signed_header(chain: Chain, height: int) -> SignedHeader | None:
    header, commit = chain.header(height), chain.commit(height)
    return None if header is None or commit is None else SignedHeader(header, commit)


def _set_change(chain: Chain, height: int) -> list[SetChange]:
    signed, validators = _signed_header(chain, height), chain.validators(height + 1)
    if signed is None or validators is None:
        raise InvariantViolation(f"block {height}, which changes the validator set, is missing")
    return [SetChange(signed, validators.validators)]
