"""Task files: what is wrong is said with line, field and remedy, before anything else happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.config.home import Home
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk.datasets import make_dataset
from gensyn_node.sdk.task_build import capture_program, data_options
from gensyn_node.sdk.task_file import REMEDIES, parse_task_file, read_task_file
from gensyn_node.sdk.task_template import PRESETS, template
from proofs.program.types import TensorType

GOOD = """\
name = "digits"
[model]
preset = "mlp"
widths = [64]
[data]
train = "digits.npz"
[train]
steps = 600
batch_size = 32
optimizer = { name = "adamw", lr = 1e-3 }
[verify]
segment = 50
instalments = 2
[price]
max = "10 GSN"
deadline = "1h"
"""
GPT = """\
[model]
preset = "gpt"
layers = 2
width = 64
heads = 4
context = 32
[data]
train = "text.txt"
[train]
steps = 100
batch_size = 8
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[price]
max = "10 GSN"
"""


def test_good_files() -> None:
    task = parse_task_file(GOOD)
    assert (task.train.steps, task.segments, task.max_price_nano) == (600, 12, 10 * 10**9)
    assert task.deadline_blocks(500) == 7200
    assert parse_task_file(GPT).model.heads == 4


@pytest.mark.parametrize("preset", PRESETS)
def test_templates_are_task_files(preset: str) -> None:
    assert parse_task_file(template(preset)).model.preset == preset


@pytest.mark.parametrize("tokens", ["characters", "bytes"])
def test_texts_decide_the_vocabulary(tokens: str, tmp_path: Path) -> None:
    text = "a text of few characters, again and again. " * 8
    (tmp_path / "text.txt").write_text(text)
    lstm = GPT.replace('"gpt"', '"lstm"').replace("heads = 4\n", "").replace("layers = 2", "layers = 1")
    task = parse_task_file(lstm.replace('"text.txt"', f'"text.txt"\ntokens = "{tokens}"').replace("= 32", "= 4"))
    made = make_dataset(Home(tmp_path / "home"), tmp_path / "text.txt", data_options(task, tmp_path))
    built = capture_program(task, made.folder, made.manifest, tmp_path)
    head = next(entry for entry in built.program.state if entry.name == "parameter.head.weight")
    assert head.type.shape == (len(set(text)) if tokens == "characters" else 256, 64)


@pytest.mark.parametrize(
    ("preset", "own"),
    [
        ("cnn", ""),
        ("cnn", "widths = [8]"),
        ("resnet", "blocks = 1"),
        ("vit", "patch = 2\nlayers = 1\nwidth = 8\nheads = 2"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_decide_the_sizes_of_their_presets(preset: str, own: str, dtype: type, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 2, (40, 1, 8, 8)).astype(dtype)
    np.savez(tmp_path / "digits.npz", x=images, y=np.arange(40) % 5)
    task = parse_task_file(GOOD.replace('preset = "mlp"\nwidths = [64]', f'preset = "{preset}"\n{own}'))
    made = make_dataset(Home(tmp_path / "home"), tmp_path / "digits.npz")
    built = capture_program(task, made.folder, made.manifest, tmp_path)
    record = next(item for item in built.program.batch if item.name == "x").record
    assert record == TensorType("u8" if dtype is np.uint8 else "f32", (1, 8, 8))


def test_vectors_are_no_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", x=np.zeros((40, 7), np.float32), y=np.arange(40) % 5)
    task = parse_task_file(GOOD.replace('preset = "mlp"\nwidths = [64]', 'preset = "cnn"'))
    made = make_dataset(Home(tmp_path / "home"), tmp_path / "digits.npz")
    with pytest.raises(Rejection, match="channels, height, width"):
        capture_program(task, made.folder, made.manifest, tmp_path)


@pytest.mark.parametrize(
    ("text", "interval_ms", "blocks"), [("90s", 1000, 90), ("2h", 6000, 1200), ("400 blocks", 1, 400), ("1s", 6000, 1)]
)
def test_deadlines(text: str, interval_ms: int, blocks: int) -> None:
    assert parse_task_file(GOOD.replace('"1h"', f'"{text}"')).deadline_blocks(interval_ms) == blocks


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "field"),
    [
        ('preset = "mlp"', 'preset = "vgg"', "E1811", 3, "model.preset"),
        ('preset = "mlp"\n', "", "E1811", 2, "model.preset"),
        ("widths = [64]", "widths = []", "E1811", 4, "model.widths"),
        ("widths = [64]", "widths = [0]", "E1811", 4, "model.widths"),
        ("widths = [64]", 'widths = "64"', "E1811", 4, "model.widths"),
        ("widths = [64]\n", "", "E1811", 2, "model.widths"),
        ("widths = [64]", "widths = [64]\nlayers = 2", "E1811", 5, "model.layers"),
        ("widths = [64]", "widths = [64]\nclasses = 1", "E1811", 5, "model.classes"),
        ("widths = [64]", "widths = [64]\nblocks = 2", "E1811", 5, "model.blocks"),
        ("widths = [64]", "widths = [64]\npatch = 2", "E1811", 5, "model.patch"),
        ('preset = "mlp"\nwidths = [64]', 'preset = "lstm"\nlayers = 1\nwidth = 8', "E1811", 2, "model.context"),
        (
            'preset = "mlp"\nwidths = [64]',
            'preset = "vit"\nlayers = 1\nwidth = 8\nheads = 3',
            "E1811",
            5,
            "model.width",
        ),
        ("widths = [64]", "widths = [64]\ndepth = 2", "E1812", 5, "model.depth"),
        ('train = "digits.npz"\n', "", "E1811", 5, "data.train"),
        ('train = "digits.npz"', "train = 5", "E1811", 6, "data.train"),
        ("steps = 600", "steps = 0", "E1811", 8, "train.steps"),
        ("steps = 600", "steps = -600", "E1811", 8, "train.steps"),
        ("steps = 600", "steps = 6.5", "E1811", 8, "train.steps"),
        ("steps = 600", 'steps = "600"', "E1811", 8, "train.steps"),
        ("steps = 600", "steps = true", "E1811", 8, "train.steps"),
        ("steps = 600", "setps = 600", "E1812", 8, "train.setps"),
        ("batch_size = 32", "batch_size = 70000", "E1811", 9, "train.batch_size"),
        ("lr = 1e-3", "lr = 0", "E1811", 10, "train.optimizer.lr"),
        ("lr = 1e-3", "lr = nan", "E1811", 10, "train.optimizer.lr"),
        ("lr = 1e-3", 'lr = "fast"', "E1811", 10, "train.optimizer.lr"),
        ('"adamw"', '"lion"', "E1811", 10, "train.optimizer.name"),
        ("lr = 1e-3", "lr = 1e-3, momentum = 0.9", "E1811", 10, "train.optimizer.momentum"),
        ("segment = 50", "segment = 2000", "E1811", 12, "verify.segment"),
        ("instalments = 2", "instalments = 13", "E1811", 13, "verify.instalments"),
        ("instalments = 2", "instalments = 17", "E1811", 13, "verify.instalments"),
        ("instalments = 2", 'mode = "native"', "E1811", 13, "verify.mode"),
        ("segment = 50", "segment = 1", "E1811", 13, "verify.instalments"),
        ('"10 GSN"', '"10"', "E1811", 15, "price.max"),
        ('"10 GSN"', '"0 GSN"', "E1811", 15, "price.max"),
        ('"10 GSN"', '"-1 GSN"', "E1811", 15, "price.max"),
        ('"10 GSN"', "10", "E1811", 15, "price.max"),
        ('"1h"', '"soon"', "E1811", 16, "price.deadline"),
        ('"1h"', '"0s"', "E1811", 16, "price.deadline"),
        ('name = "digits"', 'nmae = "digits"', "E1812", 1, "nmae"),
        ('[price]\nmax = "10 GSN"\ndeadline = "1h"\n', "", "E1811", 1, "price"),
    ],
)
def test_mistakes_name_line_field_and_remedy(old: str, new: str, code: str, line: int, field: str) -> None:
    assert old in GOOD
    with pytest.raises(Rejection) as error:
        parse_task_file(GOOD.replace(old, new, 1), "t.toml")
    assert error.value.reason.code == code
    assert error.value.message.startswith(f"t.toml line {line}, {field}: ")
    if field in REMEDIES:
        assert error.value.message.endswith(REMEDIES[field])


def test_too_many_segments_of_an_instalment() -> None:
    with pytest.raises(Rejection) as error:
        parse_task_file(GOOD.replace("steps = 600", "steps = 100000"))
    assert "at most 256" in error.value.message


def test_width_and_heads_must_fit() -> None:
    with pytest.raises(Rejection) as error:
        parse_task_file(GPT.replace("heads = 4", "heads = 5"))
    assert "line 4, model.width: 64 is not a multiple of heads = 5" in error.value.message


@pytest.mark.parametrize("text", ["", "[model\n", "\x00", "a = 1\n[a]\n", "model = 3"])
def test_no_task_file_at_all(text: str) -> None:
    with pytest.raises(Rejection) as error:
        parse_task_file(text)
    assert error.value.reason.code in ("E1811", "E1812")


def test_unreadable_files(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "\xe9"')
    for path in (tmp_path / "missing.toml", tmp_path, latin):
        with pytest.raises(Rejection) as error:
            read_task_file(path)
        assert error.value.reason.code == "E1811"


@given(st.sampled_from(GOOD.splitlines()), st.text(max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_line_may_be_garbled(line: str, garbage: str) -> None:
    try:
        parse_task_file(GOOD.replace(line, garbage, 1))
    except Rejection as error:
        assert error.reason.code in ("E1811", "E1812")


def test_a_full_replay_and_a_stake_of_one_s_own() -> None:
    text = template("mlp").replace("samples = 2 ", 'samples = "all" ').replace("# stake = 12", "stake = 7.5")
    verify = parse_task_file(text).verify
    assert (verify.samples_each, verify.solver_bond_bps) == (limits.SEGMENTS_PER_INSTALMENT_MAX, 75_000)
    assert (
        parse_task_file(template("mlp")).verify.samples_each,
        parse_task_file(template("mlp")).verify.solver_bond_bps,
    ) == (2, 0)
    for wrong in ('samples = "some"', "samples = 0"):
        with pytest.raises(Rejection) as refused:
            parse_task_file(template("mlp").replace("samples = 2 ", wrong + " "))
        assert "verify.samples" in refused.value.message


def test_forced_errors_are_asked_for_by_a_word_or_a_chance() -> None:
    line = "# forced_errors = true "
    for written, bps in (("", 0), ("forced_errors = true", 2_000), ("forced_errors = 0.35", 3_500)):
        text = template("mlp").replace(line, written + " #") if written else template("mlp")
        assert parse_task_file(text).verify.forced_error_bps == bps
    native = GOOD.replace("steps = 600", 'steps = 600\narithmetic = "native"').replace("segment = 50", "segment = 10")
    for text in (
        template("mlp").replace(line, "forced_errors = 1.5 #"),
        template("mlp").replace(line, 'forced_errors = "often" #'),
        native.replace("segment = 10", "segment = 10\nforced_errors = true"),
    ):
        with pytest.raises(Rejection) as refused:
            parse_task_file(text)
        assert "verify.forced_errors" in refused.value.message


def test_a_native_task_has_short_segments() -> None:
    native = GOOD.replace("steps = 600", 'steps = 600\narithmetic = "native"')
    task = parse_task_file(native.replace("segment = 50\n", ""))
    assert (task.train.arithmetic, task.segment_steps, task.segments) == ("native", 10, 60)
    assert parse_task_file(GOOD).segment_steps == 50
    assert parse_task_file(GOOD.replace("segment = 50\n", "")).segment_steps == 50
    for text, field in (
        (native, "line 13, verify.segment: 50 steps"),
        (native.replace("segment = 50", 'segment = 10\nmode = "reproducible"'), "line 14, verify.mode"),
        (GOOD.replace("steps = 600", 'steps = 600\narithmetic = "fast"'), "line 9, train.arithmetic"),
    ):
        with pytest.raises(Rejection) as refused:
            parse_task_file(text)
        assert field in refused.value.message
