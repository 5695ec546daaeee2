"""Which records are held out: a keyed permutation, the same for everybody."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash
from ml import reasons
from proofs.sampling import batch_indices


def split_records(records: int, validation: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Record numbers (training, validation), each sorted; `validation` is the fraction held out, 0 … below 1."""
    if not 0 <= validation < 1:
        raise Rejection(reasons.BAD_DATASET, f"validation fraction {validation}; it is at least 0 and below 1")
    order = batch_indices(tagged_hash("gensyn/split/1"), 0, records, records)
    cut = records - int(records * validation)
    return np.sort(order[:cut]), np.sort(order[cut:])
