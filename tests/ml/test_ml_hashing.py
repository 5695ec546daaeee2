"""Roots in machine code are the defined ones: whole tiles and edges, odd trees, NaNs, other dtypes, several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ml.checkpoint import root_of_state
from ml.interpreter import canonical
from ml.kernels.hashing import TensorRoots
from ml.kernels.threads import get_threads, set_threads
from proofs import tensors
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


EDGES = tuple(
    (32 * down + low, 32 * along + narrow)
    for down in (0, 1, 9)
    for along in (0, 1, 10)
    for low, narrow in ((7, 1), (8, 0), (9, 17), (17, 31), (24, 0), (25, 8), (0, 3))
    if 32 * down + low and 32 * along + narrow
)
"""Tiles of one to four chunks, blocks that are not full, and more than eight edge tiles of a kind."""


def tensor_roots(values: list[torch.Tensor], together: bool = False) -> list[bytes]:
    """The roots by machine code."""
    return TensorRoots([tuple(value.shape) for value in values]).of(values, together)


@pytest.mark.parametrize(
    "shape", [*SHAPES, *EDGES, (256, 160), (352, 96), (1, 2, 1, 3, 1, 4, 5), (1,) * 24 + (70000, 2)]
)
def test_the_root_is_the_defined_one(shape: tuple[int, ...]) -> None:
    for seed in range(2):
        value = value_of(shape, seed)
        assert tensor_roots([value]) == [tensors.root_of(canonical(value).numpy())]


def test_many_tensors_at_once_have_the_roots_of_each() -> None:
    values = [value_of(shape, number) for number, shape in enumerate([*SHAPES, (256, 160), (3,), (64, 64)])]
    assert tensor_roots(values) == [tensor_roots([value])[0] for value in values]
    assert tensor_roots([]) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_kernels_threads_together_make_the_same_roots(threads: int) -> None:
    values = [value_of(shape, number) for number, shape in enumerate([(1024, 640), *SHAPES, (4000, 7), (3, 9000)])]
    expected, before = tensor_roots(values), get_threads()
    set_threads(threads)
    try:
        for _ in range(20):
            assert tensor_roots(values, together=True) == expected
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


def test_what_is_no_such_tensor_is_not_read() -> None:
    with pytest.raises(ValueError, match="empty"):
        TensorRoots([(0, 3)])
    roots, square = TensorRoots([(40, 40)]), torch.zeros(40, 40)
    for wrong in ([square[:39]], [square.double()], [square.T], [square, square], [torch.zeros(40, 80)[:, ::2]]):
        with pytest.raises(ValueError):
            roots.of(wrong)
