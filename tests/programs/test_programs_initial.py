"""Initial state: whole tensors, tiles, and what the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from programs_helpers import same_bits

from proofs.program.initial import initial_tensor, initial_tile
from proofs.program.types import BOOL, F32, I64, U8, Fill, Given, Seed, StateEntry, TensorType, Uniform
from proofs.tensors import tile_count, tile_of

SEED = bytes(range(32))
HALF = 0x3F000000

ENTRIES = [
    StateEntry("parameter.w", TensorType(F32, (70, 45)), Uniform(HALF)),
    StateEntry("parameter.scalar", TensorType(F32, ()), Uniform(HALF)),
    StateEntry("parameter.deep", TensorType(F32, (3, 11, 40)), Uniform(0x3DCCCCCD)),
    StateEntry("buffer.mask", TensorType(BOOL, (33, 33)), Fill(1)),
    StateEntry("buffer.count", TensorType(I64, (5,)), Fill((1 << 64) - 2)),
    StateEntry("buffer.bytes", TensorType(U8, (5,)), Fill(200)),
    StateEntry("constant.seed", TensorType(I64, (2,)), Seed()),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_tiles_are_those_of_the_tensor(entry: StateEntry) -> None:
    whole = initial_tensor(entry, 4, SEED)
    assert whole.shape == entry.type.shape
    for tile in range(tile_count(entry.type)):
        assert same_bits(initial_tile(entry, 4, SEED, tile), np.ascontiguousarray(tile_of(whole, tile)))


def test_uniform_covers_its_interval() -> None:
    x = initial_tensor(ENTRIES[0], 0, SEED)
    assert x.min() >= -0.5
    assert x.max() < 0.5
    assert abs(float(x.mean())) < 0.02
    assert len(np.unique(x)) > 3100


def test_seed_and_entry_number_both_matter() -> None:
    for entry in (ENTRIES[0], ENTRIES[-1]):
        drawn = [initial_tensor(entry, number, seed).tobytes() for number in (0, 1) for seed in (SEED, bytes(32))]
        assert len(set(drawn)) == 4


def test_fill_and_seed_values() -> None:
    assert initial_tensor(ENTRIES[4], 0, SEED).tolist() == [-2] * 5
    assert initial_tensor(ENTRIES[5], 0, SEED).tolist() == [200] * 5
    key = initial_tensor(ENTRIES[6], 0, SEED)
    assert key.dtype == np.int64
    assert all(0 <= word < 1 << 32 for word in key.tolist())


def test_a_given_entry_has_no_seeded_value() -> None:
    entry = StateEntry("parameter.w", TensorType(F32, (2,)), Given())
    with pytest.raises(ValueError, match="checkpoint"):
        initial_tensor(entry, 0, SEED)
    with pytest.raises(ValueError, match="checkpoint"):
        initial_tile(entry, 0, SEED, 0)
