"""Memory: a dry run says what a training will take, the prediction follows the plan, what does not fit is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ml_jobs import ADAMW, job_of
from test_ml_worker import Worker, ask

from gensyn_node.primitives.codec import encode
from ml import memory
from ml.interpreter import Interpreter
from ml.kernels.sources import folder_in
from ml.memory import largest_fitting, measure_memory, predict_memory
from ml.microbatch.parts import PartsInterpreter, interpreter_of
from ml.presets import Built, build
from ml.trainer import train as real_train
from ml.worker import dry_run
from ml.worker.dry_run import memory_need
from ml.worker.kernels import kernel_store, own_kernels
from ml.worker.messages import Failed, MemoryPredicted, PredictMemory, Ready, Train, Trained
from proofs.program.types import BatchInput, Fill, Given, Node, Program, StateEntry, TensorType

TOLERANCE = 0.15
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel's table of a process")


@pytest.fixture(scope="module")
def wide_mlp() -> Built:
    """A perceptron whose state is 16 MiB."""
    return build({"name": "mlp", "inputs": 20, "classes": 5, "widths": [1200, 1100]}, ADAMW, 8)


def peak_of(worker: Worker) -> int:
    """What was resident at most."""
    lines = Path(f"/proc/{worker.process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def started() -> Worker:
    worker = Worker()
    assert isinstance(worker.final(), Ready)
    return worker


@linux
def test_a_dry_run_tells_what_a_training_takes_in_another_process(
    wide_mlp: Built, table_data: Path, tmp_path: Path
) -> None:
    started().close()  # the first one of all may have to compile the kernels
    trial = started()
    empty = peak_of(trial)
    told = ask(trial, PredictMemory(encode(wide_mlp.program), 1, measure=True))
    trial.close()
    real = started()
    done = ask(real, Train(job_of(wide_mlp, table_data), str(tmp_path), 0, 30, 6, 30))
    peak = peak_of(real)
    real.close()
    assert isinstance(told, MemoryPredicted) and isinstance(done, Trained)
    assert abs(told.measured_bytes / peak - 1) < TOLERANCE
    # The libraries are most of it: what the model itself takes is told, too.
    assert told.measured_bytes - empty > 2 * told.state_bytes
    assert abs((told.measured_bytes - empty) / (peak - empty) - 1) < 2 * TOLERANCE
    assert abs(told.process_bytes / peak - 1) < 2 * TOLERANCE


@linux
def test_a_training_after_the_dry_run_takes_no_more(gpt_adamw: Built, token_data: Path, tmp_path: Path) -> None:
    worker = started()
    told = ask(worker, PredictMemory(encode(gpt_adamw.program), 1, measure=True))
    assert isinstance(told, MemoryPredicted) and told.measured_bytes == peak_of(worker)
    assert isinstance(ask(worker, Train(job_of(gpt_adamw, token_data), str(tmp_path), 0, 40, 10, 40)), Trained)
    assert peak_of(worker) < (1 + TOLERANCE) * told.measured_bytes
    # Asked for less at a time it tries that, and a training in parts ends in the same states.
    less = ask(worker, PredictMemory(encode(gpt_adamw.program), 1, records=3, measure=True))
    assert isinstance(less, MemoryPredicted) and (less.records, less.whole_because) == (2, "") and less.measured_bytes
    parts = ask(worker, Train(job_of(gpt_adamw, token_data, records=2), str(tmp_path / "parts"), 0, 40, 10, 40))
    whole = ask(worker, Train(job_of(gpt_adamw, token_data), str(tmp_path), 0, 40, 10, 40))
    assert isinstance(parts, Trained) and isinstance(whole, Trained) and parts.end_root == whole.end_root
    refused = ask(worker, Train(job_of(gpt_adamw, token_data, records=3), str(tmp_path / "thirds"), 0, 1, 1, 1))
    assert isinstance(refused, Failed) and refused.code == "E1909"
    worker.close()


def test_a_dry_run_out_of_memory_is_a_refusal(wide_mlp: Built) -> None:
    worker = Worker("--memory-bytes", str(16 << 20))
    assert isinstance(worker.final(), Ready)
    told = ask(worker, PredictMemory(encode(wide_mlp.program), 1))
    assert isinstance(told, MemoryPredicted) and told.measured_bytes == 0
    refused = ask(worker, PredictMemory(encode(wide_mlp.program), 1, measure=True))
    assert isinstance(refused, Failed) and refused.code == "E1905"
    worker.close()


def test_the_dry_run_trains_for_real_and_leaves_nothing_behind(
    mlp_sgd: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def train(run: object, folder: Path, *rest: object) -> object:
        folders.append(folder)
        made = list(real_train(run, folder, *rest))  # type: ignore[arg-type]
        assert [item.step for item in made] == [0, 2, 4] and all(item.path.is_file() for item in made)
        return made

    monkeypatch.setattr(memory, "train", train)
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    assert measure_memory(Interpreter(mlp_sgd.program)) > predict_memory(Interpreter(mlp_sgd.program)).state_bytes
    assert len(folders) == 1 and folders[0].parent == tmp_path and not list(tmp_path.iterdir())


def test_given_entries_are_zeros_in_a_dry_run() -> None:
    entry = StateEntry("parameter.w", TensorType("f32", (4,)), Given())
    nodes = (Node("sum_last", (0,), ()), Node("reshape", (2,), ()))
    assert measure_memory(Interpreter(Program(1, (entry,), 1, (), nodes, (0,), 3))) > 0


def test_as_many_records_as_fit() -> None:
    program = build({"name": "mlp", "inputs": 20, "classes": 5, "widths": [64, 64]}, ADAMW, 4096).program
    sizes = (1024, 2048, 4096)
    few, half, whole = (predict_memory(interpreter_of(program, size)).process_bytes for size in sizes)
    assert few < half < whole

    def chosen(memory_bytes: int, at_most: int = 0) -> int:
        interpreter, why = largest_fitting(program, memory_bytes, at_most)
        assert why == ""
        return interpreter.records if isinstance(interpreter, PartsInterpreter) else program.batch_size

    assert chosen(0) == chosen(1 << 40) == chosen(0, at_most=5000) == 4096
    assert chosen(0, at_most=3000) == 2048
    assert chosen(whole - (256 << 10)) == 2048 and chosen(1) == 1


def test_a_program_without_parts_says_so() -> None:
    entry = StateEntry("parameter.w", TensorType("f32", ()), Fill(0))
    # A softmax over the batch would need its sum first.
    nodes = (
        Node("reshape", (1,), (4,)),
        Node("sum_last", (3,), ()),
        Node("div", (3, 4), ()),
        Node("sum_last", (5,), ()),
    )
    nodes = (*nodes, Node("reshape", (6,), ()))
    program = Program(1, (entry,), 4, (BatchInput("x", TensorType("f32", ())),), nodes, (0,), 7)
    interpreter, why = largest_fitting(program, 1)
    assert type(interpreter) is Interpreter and why.startswith("node 2, div: it needs value 4")


def test_the_submitter_is_told_why_nothing_was_measured(
    mlp_sgd: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = memory_need(mlp_sgd.program, tmp_path, available_bytes=1 << 20)
    assert "1 MiB free" in small.reason and small.process_bytes > 100 << 20
    monkeypatch.setattr(
        dry_run, "worker_command", lambda *_, **__: [sys.executable, "-c", "import sys; sys.exit('no')"]
    )
    monkeypatch.setattr(dry_run, "compile_kernels", lambda _: True)
    died = memory_need(mlp_sgd.program, tmp_path)
    assert died.reason == "the dry run did not end: no" and died.process_bytes > 100 << 20


def test_the_submitter_measures(mlp_sgd: Built, tmp_path: Path) -> None:
    store = kernel_store(tmp_path / "kernels")
    need = memory_need(mlp_sgd.program, store)
    own = own_kernels(store, tmp_path)
    copied = [place.relative_to(folder_in(own)).parts[0].partition("_")[0] for place in own.rglob("*.nbi")]
    assert set(copied) == {"kernels", "microbatch"} and len(copied) > 20
    assert need.reason == "" and 100 << 20 < need.process_bytes < 1 << 30
