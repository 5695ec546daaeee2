"""Every operator of the opset at the width of large models: what disputes over layers of 8,192 columns are about."""

from __future__ import annotations

from proofs.program.operators import OPERATORS
from proofs.program.types import BOOL, F32, I64, U8
from proofs.tensors import tile_count
from tests.disputes.lazy_parties import Dispute, Input

WIDE, CONTEXT, HEADS, HEAD, VOCABULARY = 8192, 8192, 4, 128, 50_257
LAYER = Input(F32, (CONTEXT, WIDE))
COUNTS = Input(I64, (CONTEXT, WIDE), 1 << 40)
TRUTHS = Input(BOOL, (CONTEXT, WIDE))
ROW, COLUMN, SCALAR = Input(F32, (WIDE,)), Input(F32, (CONTEXT, 1)), Input(F32, ())
SCORES = Input(F32, (HEADS, CONTEXT, CONTEXT))
TOKENS = Input(I64, (CONTEXT,), VOCABULARY)
TARGETS = Input(I64, (CONTEXT, 1), VOCABULARY)
LOGITS = Input(F32, (CONTEXT, VOCABULARY))

FLOATS = ("neg", "abs", "sign", "floor", "sqrt", "round_bf16", "reciprocal", "exp", "log", "tanh", "erf", "sin", "cos")
PAIRS = ("add", "sub", "mul", "div", "maximum", "minimum")
INTEGERS = ("remainder", "floor_divide", "eq", "ne", "lt", "le", "gt", "ge")
WINDOWS_3X3 = (0, *(3, 64, -1, 1, 1, 1) * 2)

Case = tuple[str, str, tuple[Input, ...], tuple[int, ...]]
CASES: tuple[Case, ...] = (
    ("linear: tokens 8192 × 8192 by weights 8192 × 8192", "matmul", (LAYER, Input(F32, (WIDE, WIDE))), ()),
    (
        "attention: queries by keys, context 8192",
        "matmul",
        (Input(F32, (HEADS, CONTEXT, HEAD)), Input(F32, (HEADS, HEAD, CONTEXT))),
        (),
    ),
    ("attention: weights by values", "matmul", (SCORES, Input(F32, (HEADS, CONTEXT, HEAD))), ()),
    (
        "attention of 100 tokens, 77 wide heads",
        "matmul",
        (Input(F32, (32, 8, 100, 77)), Input(F32, (32, 8, 77, 100))),
        (),
    ),
    (
        "gradient of weights, over 8191 tokens",
        "matmul",
        (Input(F32, (WIDE, 8191)), Input(F32, (8191, 99))),
        (),
    ),
    (
        "convolution 3 × 3, 512 channels",
        "matmul",
        (Input(F32, (512, 4608)), Input(F32, (4, 4608, 4096))),
        (),
    ),
    ("convolution of 20 channels, repeated", "matmul", (Input(F32, (20, 675)), Input(F32, (16, 675, 169))), ()),
    ("windows 3 × 3 of 64 × 64, 64 channels", "windows", (Input(F32, (4, 64, 64, 64)),), WINDOWS_3X3),
    ("windows of i64", "windows", (Input(I64, (4, 64, 64, 64), 9),), WINDOWS_3X3),
    ("layer norm: sum of a row", "sum_last", (LAYER,), ()),
    ("sum of a row of i64", "sum_last", (COUNTS,), ()),
    ("gradient of a bias: sum over tokens", "sum_first", (LAYER,), ()),
    ("softmax: greatest of a row", "max_last", (LOGITS,), ()),
    ("greatest of a row of i64", "max_last", (COUNTS,), ()),
    ("prediction: place of the greatest", "argmax_last", (LOGITS,), ()),
    ("embedding: 50257 × 8192", "embedding", (Input(F32, (VOCABULARY, WIDE)), TOKENS), ()),
    ("embedding of i64", "embedding", (Input(I64, (VOCABULARY, 64), 9), TOKENS), ()),
    ("gradient of the embedding", "embedding_grad", (LAYER, TOKENS), (VOCABULARY,)),
    ("gradient of the embedding of 64 tokens used", "embedding_grad", (LAYER, Input(I64, (CONTEXT,), 64)), (64,)),
    ("cross-entropy: logit of the target", "take_last", (LOGITS, TARGETS), ()),
    ("cross-entropy: gradient at the target", "scatter_last", (COLUMN, TARGETS), (VOCABULARY,)),
    ("dropout: random numbers", "uniform", (Input(I64, (2,), 1 << 62), Input(I64, (), 1 << 62)), (7, CONTEXT, WIDE)),
    ("positions", "iota", (), (0, CONTEXT, WIDE)),
    ("a constant", "full", (), (0, 0x3F800000, CONTEXT, WIDE)),
    ("layer norm: minus the mean of the row", "sub", (LAYER, COLUMN), ()),
    ("layer norm: times the weight of the column", "mul", (LAYER, ROW), ()),
    ("Adam: moment times its rate", "mul", (LAYER, SCALAR), ()),
    ("causal mask", "where", (TRUTHS, LAYER, SCALAR), ()),
    ("where of i64", "where", (TRUTHS, COUNTS, COUNTS), ()),
    *((f"f32 {WIDE} wide", name, (LAYER,), ()) for name in FLOATS),
    *((f"f32 {WIDE} wide, any bits", name, (Input(F32, (CONTEXT, WIDE), 1),), ()) for name in ("exp", "log", "sin")),
    *((f"f32 {WIDE} wide", name, (LAYER, LAYER), ()) for name in PAIRS),
    *((f"i64 {WIDE} wide", name, (COUNTS, COUNTS), ()) for name in INTEGERS),
    *((f"bool {WIDE} wide", name, (TRUTHS, TRUTHS), ()) for name in ("logical_and", "logical_or", "logical_xor")),
    (f"bool {WIDE} wide", "logical_not", (TRUTHS,), ()),
    ("i64 to f32", "cast", (COUNTS,), (0,)),
    ("u8 to f32", "cast", (Input(U8, (CONTEXT, WIDE)),), (0,)),
    ("f32 to i64", "cast", (LAYER,), (1,)),
    ("heads out of a row", "reshape", (LAYER,), (CONTEXT, HEADS * 16, HEAD)),
    ("rows of 33 out of rows of 8192", "reshape", (Input(I64, (33, WIDE), 9),), (WIDE, 33)),
    ("transposed weights", "permute", (LAYER,), (1, 0)),
    ("heads before tokens", "permute", (Input(F32, (2, 512, 32, HEAD)),), (0, 2, 1, 3)),
    ("every element of another tile", "permute", (Input(I64, (32, 256, 1024), 9),), (1, 2, 0)),
    ("broadcast over rows", "broadcast_to", (ROW,), (CONTEXT, WIDE)),
    ("broadcast over columns", "broadcast_to", (COLUMN,), (CONTEXT, WIDE)),
    ("keys out of queries, keys, values", "slice", (LAYER,), (0, CONTEXT, 1, 2731, 5462, 1)),
    ("every 31st row and column", "slice", (Input(I64, (CONTEXT, WIDE), 9),), (0, CONTEXT, 31, 0, WIDE, 31)),
    ("inputs and hidden state", "concatenate", (LAYER, Input(F32, (CONTEXT, 100)), LAYER), (1,)),
    ("64 columns side by side", "concatenate", (Input(I64, (CONTEXT, 1), 9),) * 64, (1,)),
    ("zeros around and between", "pad", (Input(F32, (2048, 2048)),), (1, 1, 1, 2, 2, 2)),
)
"""(what it is, operator, inputs, attributes)."""


def tiles_of(dispute: Dispute) -> list[int]:
    """The tiles of the output to look at: two corners and the middle."""
    total = tile_count(dispute.output)
    return sorted({0, total // 2, total - 1})


def pieces_of(dispute: Dispute) -> list[int]:
    """The pieces of a tile to look at: the first, the middle one, the last."""
    count = dispute.pieces
    return sorted({0, count // 2, count - 1})


def without_a_case() -> set[str]:
    """Operators that no layer here uses."""
    return set(OPERATORS) - {operator for _, operator, _, _ in CASES}
