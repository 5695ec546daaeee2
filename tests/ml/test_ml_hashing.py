"""Roots in machine code are the defined ones: whole tiles and edges, odd trees, NaNs, other dtypes, several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ml.checkpoint import root_of_state
from ml.interpreter import canonical
from ml.kernels.hashing import tree_root, tree_roots
from ml.kernels.threads import get_threads, set_threads
from proofs import merkle, tensors
from proofs.program.types import OPSET, Fill, Program, StateEntry, TensorType, program_id
from proofs.state import state_root

SHAPES = (
    (),
    (1,),
    (5,),
    (32,),
    (33,),
    (32, 32),
    (31, 32),
    (64, 32),
    (32, 64),
    (65, 97),
    (3, 40, 50),
    (1, 700),
    (700, 1),
)


def value_of(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Random floats, a seventh of them NaNs with odd bits."""
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32).reshape(-1)
    array[::7] = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    array[3::11] = np.float32(-0.0)
    return torch.from_numpy(array.reshape(shape))


@pytest.mark.parametrize("shape", [*SHAPES, (256, 160), (352, 96)])
def test_the_root_is_the_defined_one(shape: tuple[int, ...]) -> None:
    for seed in range(2):
        value = value_of(shape, seed)
        leaves = tensors.tile_leaves(canonical(value).numpy())
        assert tree_root(value) == merkle.fold(tensors.TILES, leaves)


def test_many_tensors_at_once_have_the_roots_of_each() -> None:
    values = [value_of(shape, number) for number, shape in enumerate([*SHAPES, (256, 160), (3,), (64, 64)])]
    assert tree_roots(values) == [tree_root(value) for value in values]
    assert tree_roots([]) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_kernels_threads_together_make_the_same_roots(threads: int) -> None:
    values = [value_of(shape, number) for number, shape in enumerate([(1024, 640), *SHAPES, (4000, 7), (3, 9000)])]
    expected, before = tree_roots(values), get_threads()
    set_threads(threads)
    try:
        for _ in range(20):
            assert tree_roots(values, together=True) == expected
    finally:
        set_threads(before)


def test_a_state_s_root_by_several_threads_at_once() -> None:
    entries = [StateEntry(f"parameter.p{n}", TensorType("f32", shape), Fill(0)) for n, shape in enumerate(SHAPES)]
    entries.append(StateEntry("buffer.count", TensorType("i64", (40, 3)), Fill(0)))
    program = Program(OPSET, tuple(entries), 1, (), (), tuple(range(len(entries))), 0)
    state = [value_of(shape, number) for number, shape in enumerate(SHAPES)]
    state.append(torch.arange(120).reshape(3, 40).T)
    roots = [tensors.root_of(canonical(item).contiguous().numpy()) for item in state]
    expected = state_root(program_id(program), 4, [entry.name for entry in entries], roots)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: root_of_state(program, 4, state), range(12)))
    assert set(found) == {expected}
