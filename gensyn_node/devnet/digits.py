"""Real data for the stories: the handwritten digits of the UCI repository that scikit-learn ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.devnet import reasons
from gensyn_node.primitives.errors import Rejection

HELD_OUT_EVERY = 5
"""Every fifth image is never shown to the network."""


@dataclass(frozen=True, slots=True)
class Digits:
    """1,797 images of 8 × 8 pixels, split."""

    train: dict[str, NDArray[Any]]
    """x f32 (n, 64) in [0, 1], y i64 (n,)."""
    held_out: dict[str, NDArray[Any]]


def load_digits() -> Digits:
    """The split; NO_DEMO_DATA without scikit-learn, which is no dependency of a node."""
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError:
        raise Rejection(reasons.NO_DEMO_DATA, "scikit-learn is not installed") from None
    bunch = sklearn_digits()
    x, y = (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)
    held = np.arange(len(y)) % HELD_OUT_EVERY == 0
    return Digits({"x": x[~held], "y": y[~held]}, {"x": x[held], "y": y[held]})


def write_digits(path: Path) -> dict[str, NDArray[Any]]:
    """Write the training part as .npz; the held-out part."""
    digits = load_digits()
    np.savez(path, **digits.train)  # type: ignore[arg-type]  # the stub takes its flag for one of the arrays
    return digits.held_out
