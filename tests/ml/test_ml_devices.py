"""Kernels for CUDA and MPS: their very source, compiled by g++, gives the bits of rep-v1; wrong ones are noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from c_backend import COMPILER, CBackend, Recorder
from ml_jobs import job_of, run_of

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.devices import dialects, select, self_test
from ml.devices.interpreter import DeviceInterpreter
from ml.devices.select import examine_device, examine_devices, interpreter_on
from ml.devices.self_test import differing_operators, differing_operators_of_cpu
from ml.devices.source import EMITTED, KernelSource, walks_of
from ml.kernels.emit import FUSIBLE
from ml.presets import Built
from ml.segment import verify_segment
from ml.trainer import Stepper, initial_state, open_run, train
from proofs.program.operators import OPERATORS
from proofs.program.types import Program

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ stands in for the devices' compilers")
CompileFor = Callable[[str, list[KernelSource]], CBackend]


@pytest.fixture(scope="module")
def compile_for(tmp_path_factory: pytest.TempPathFactory) -> CompileFor:
    def compiled(dialect: str, kernels: list[KernelSource]) -> CBackend:
        return CBackend(dialect, kernels, tmp_path_factory.mktemp("kernels"))

    return compiled


@pytest.fixture(scope="module")
def known_kernels() -> list[KernelSource]:
    """Every kernel that the self-test asks for."""
    recorder = Recorder()
    assert len(differing_operators(recorder)) > 30, "kernels that compute nothing give other bits"
    return recorder.kernels


def kernels_of(program: Program, run: Any) -> list[KernelSource]:
    """Every kernel of two steps of a program."""
    recorder = Recorder()
    interpreter = DeviceInterpreter(program, recorder)
    state = initial_state(run)
    for step in range(2):
        state, _ = interpreter.step(state, run.dataset.batch(program, run.seed, step), step)
    return recorder.kernels


def test_the_self_test_looks_at_the_whole_opset() -> None:
    asked = {node.operator for node, _ in self_test.known_cases()}
    # What only moves elements has no arithmetic of its own that a device could get wrong.
    assert asked >= {name for name, row in OPERATORS.items() if row.family != "movement"}
    assert {"sin", "cos", "remainder", "floor_divide"} >= FUSIBLE - EMITTED
    assert differing_operators_of_cpu() == []


@needs_compiler
@pytest.mark.parametrize("dialect", ["cuda", "metal"])
def test_each_dialect_gives_every_bit(dialect: str, compile_for: CompileFor, known_kernels: list[KernelSource]) -> None:
    backend = compile_for(dialect, known_kernels)
    assert differing_operators(backend) == []
    assert backend.launches > 80


@needs_compiler
@pytest.mark.parametrize(
    ("right", "wrong", "noticed"),
    [
        ("#define MUL(x, y) __fmul_rn(x, y)", "#define MUL(x, y) flushed(__fmul_rn(flushed(x), flushed(y)))", "mul"),
        ("#define DIV(x, y) __fdiv_rn(x, y)", "#define DIV(x, y) __fmul_rn(x, __fdiv_rn(1.0f, y))", "div"),
        ("#define NEAREST(x) rintf(x)", "#define NEAREST(x) floorf(x)", "exp"),
        ("#define FROM_LONG(x) __ll2float_rn(x)", "#define FROM_LONG(x) ((float)(int)x)", "cast"),
        ("#define ADD(x, y) __fadd_rn(x, y)", "#define ADD(x, y) ((float)((double)(x) + (y) * 1.00000001))", "matmul"),
    ],
)
def test_a_device_that_rounds_otherwise_is_not_offered(
    right: str,
    wrong: str,
    noticed: str,
    compile_for: CompileFor,
    known_kernels: list[KernelSource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Denormals switched off, a quotient by a reciprocal, a root by a quotient, …: what real devices do when asked."""
    assert right in dialects._CUDA
    flush = "static float flushed(float x) { return x < 1.17549435e-38f && x > -1.17549435e-38f ? 0.0f * x : x; }\n"
    monkeypatch.setattr(dialects, "_CUDA", flush + dialects._CUDA.replace(right, wrong))
    backend = compile_for("cuda", known_kernels)
    assert noticed in differing_operators(backend)
    monkeypatch.setattr(select, "backend_of", lambda _: backend)
    examine_device.cache_clear()
    finding = examine_device("cuda")
    examine_device.cache_clear()
    assert finding.there and not finding.exact and noticed in finding.detail


@needs_compiler
@pytest.mark.parametrize(("preset", "data", "steps"), [("mlp_adamw", "table_data", 12), ("gpt_adamw", "token_data", 4)])
def test_training_on_a_device_is_training(
    preset: str,
    data: str,
    steps: int,
    compile_for: CompileFor,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known_kernels: list[KernelSource],
) -> None:
    built: Built = request.getfixturevalue(preset)
    directory: Path = request.getfixturevalue(data)
    run = run_of(built, directory)
    kernels = [*known_kernels, *(one for one in kernels_of(built.program, run) if one not in known_kernels)]
    backend = compile_for("cuda", kernels)
    monkeypatch.setattr(select, "backend_of", lambda _: backend)
    examine_device.cache_clear()
    device_run = open_run(job_of(built, directory, device="cuda"))
    examine_device.cache_clear()
    assert isinstance(device_run.interpreter, DeviceInterpreter)
    here = [one.root for one in train(run, tmp_path / "cpu", 0, steps, 2, lambda *_: None)]
    before = backend.launches
    there = [one.root for one in train(device_run, tmp_path / "device", 0, steps, 2, lambda *_: None)]
    assert there == here and backend.launches > before + 20 * steps
    roots = [
        verify_segment(each, tmp_path / "no", 0, 2, here[0], lambda *_: None, bytes(32)) for each in (run, device_run)
    ]
    assert roots[0] == roots[1] and len(roots[0].samples) == 2, "a device's evidence is the CPU's"
    # Values of one step, as a dispute needs them: by the CPU, the same bits.
    left, right = (Stepper(each, initial_state(each), 0) for each in (run, device_run))
    assert all(torch.equal(a, b) or a.isnan().any() for a, b in zip(left.values(), right.values(), strict=True))


def test_a_device_that_is_not_here_is_refused(mlp_sgd: Built, table_data: Path) -> None:
    names = [item.name for item in examine_devices()]
    assert names == ["cpu", "cuda", "mps"] and examine_devices()[0].exact
    absent = [item.name for item in examine_devices() if not item.there]
    for name in (*absent, "tpu", ""):
        with pytest.raises(Rejection) as refusal:
            interpreter_on(mlp_sgd.program, name)
        assert refusal.value.reason is reasons.DEVICE_NOT_EXACT
    if absent:
        with pytest.raises(Rejection):
            run_of(mlp_sgd, table_data, device=absent[0])


def test_axes_that_are_walked_alike_are_joined() -> None:
    sizes, walks = walks_of((4, 1, 5, 6), [(30, 30, 6, 1), (0, 0, 0, 0), (0, 0, 6, 1), (1, 0, 4, 20)])
    assert sizes == (4, 5, 6) and [walk.kind for walk in walks] == ["flat", "one", "strided", "strided"]
    assert walks_of((4, 5, 6), [(30, 6, 1)]) == ((120,), walks_of((120,), [(1,)])[1])
    assert walks_of((), [()])[0] == (1,)
