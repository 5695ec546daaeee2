"""A dataset is named tensors of records; its root is what a task, its seed and its batches are bound to."""

from __future__ import annotations

from collections.abc import Sequence

from gensyn_node.primitives.codec import Struct, encode
from gensyn_node.primitives.hashing import tagged_hash
from proofs import merkle
from proofs.program.types import TensorType

ELEMENTS_MAX = 1 << 44
"""Elements of one dataset tensor: their numbers stay far below 2^63, and a tile's path stays short."""


class DatasetTensor(Struct):
    """One tensor of a dataset: `records` records of the same type."""

    name: str
    record: TensorType
    records: int
    root: bytes
    """Tensor root of the tensor of shape (records, *record.shape)."""

    @property
    def type(self) -> TensorType:
        """The type of the whole tensor."""
        return TensorType(self.record.dtype, (self.records, *self.record.shape))


def dataset_root(tensors: Sequence[DatasetTensor]) -> bytes:
    """The 32-byte root of a dataset."""
    return tagged_hash("gensyn/dataset/1", merkle.root([encode(tensor) for tensor in tensors]))
