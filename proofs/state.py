"""Roots over states: the state at a step, the given part of an initial state, the evidence of a re-executed segment."""

from __future__ import annotations

from collections.abc import Sequence

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.hashing import tagged_hash
from proofs import merkle


def entry_leaf(name: str, root: bytes) -> bytes:
    """The leaf hash of one named tensor."""
    return merkle.SHA256.leaf(encode((name, root)))


def _entries_root(names: Sequence[str], tensor_roots: Sequence[bytes]) -> bytes:
    leaves = [entry_leaf(name, root) for name, root in zip(names, tensor_roots, strict=True)]
    return merkle.fold(merkle.SHA256, leaves)


def state_root(program_id: bytes, step: int, entry_names: Sequence[str], tensor_roots: Sequence[bytes]) -> bytes:
    """The root of the state before step `step` (0: the initial state), entries in program order.

    The step is also the data cursor and the counter of all randomness, which derive from it and the task's seed.
    """
    return tagged_hash(
        "gensyn/state/1", program_id, step.to_bytes(8, "little"), _entries_root(entry_names, tensor_roots)
    )


def checkpoint_root(names: Sequence[str], tensor_roots: Sequence[bytes]) -> bytes:
    """The root of the tensors that an initial checkpoint gives (entries `Given`), in program order."""
    return tagged_hash("gensyn/checkpoint/1", _entries_root(names, tensor_roots))


def checkpoint_path(names: Sequence[str], tensor_roots: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The Merkle path of the checkpoint's tensor `index`."""
    leaves = [entry_leaf(name, root) for name, root in zip(names, tensor_roots, strict=True)]
    return merkle.inclusion_path(merkle.SHA256, leaves, index)


def verify_checkpoint_entry(
    checkpoint: bytes, name: str, root: bytes, index: int, count: int, path: Sequence[bytes]
) -> bool:
    """Whether tensor `index` of the `count` of a checkpoint has this name and root."""
    entries = merkle.root_from_path(merkle.SHA256, entry_leaf(name, root), index, count, path)
    return entries is not None and tagged_hash("gensyn/checkpoint/1", entries) == checkpoint


def keyed_evidence_root(state_roots: Sequence[bytes], samples: Sequence[bytes]) -> bytes:
    """What a verifier's evidence commits to: R_0, then each later state root with the sample of the step before it.

    `samples` are `proofs.samples.sample_of` each of the k steps.
    """
    ends = zip(state_roots[1:], samples, strict=True)
    leaves = [merkle.SHA256.leaf(data) for data in (state_roots[0], *(root + sample for root, sample in ends))]
    return tagged_hash("gensyn/evidence/2", len(leaves).to_bytes(8, "little"), merkle.fold(merkle.SHA256, leaves))


def evidence_root(state_roots: Sequence[bytes]) -> bytes:
    """The same of a native task: the root over the k + 1 state roots R_0 … R_k alone."""
    leaves = [merkle.SHA256.leaf(root) for root in state_roots]
    return tagged_hash("gensyn/evidence/1", len(leaves).to_bytes(8, "little"), merkle.fold(merkle.SHA256, leaves))
