"""Commented task files to start from, one for each preset."""

from __future__ import annotations

_MODELS = {
    "mlp": """\
preset = "mlp"                 # a classifier of vectors; others: gensyn task init --preset NAME
widths = [64, 64]              # widths of the hidden layers
activation = "relu"            # relu, gelu, tanh or sigmoid
""",
    "cnn": """\
preset = "cnn"                 # a classifier of images: convolutions with batch norm and pooling
widths = [32, 64]              # channels of each convolution; each halves the image
""",
    "resnet": """\
preset = "resnet"              # a classifier of images: a residual net
widths = [16, 32, 64]          # channels of each stage; from the second on a stage halves the image
blocks = 3                     # residual blocks of a stage
""",
    "vit": """\
preset = "vit"                 # a classifier of images: a transformer over patches
patch = 4                      # pixels a side of a patch, a divisor of height and width
layers = 4
width = 64                     # a multiple of heads
heads = 4
""",
    "lstm": """\
preset = "lstm"                # a character model of text: LSTM layers over embeddings
layers = 1
width = 128
context = 64                   # characters it sees at once
""",
    "gpt": """\
preset = "gpt"                 # a character model of text: a transformer
layers = 2
width = 64                     # a multiple of heads
heads = 4
context = 64                   # characters it sees at once
""",
}
_VECTORS = """\
train = "digits.npz"           # arrays x (n, features) and y (n), .npz or .safetensors; or a table:
# label = "species"            # .csv, .parquet: the column of classes
"""
_IMAGES = """\
train = "images.npz"           # arrays x (n, channels, height, width), u8 or f32, and y (n); or a folder of images
# size = 32                    # a folder with a folder of images for each class: pixels a side; gray = true
"""
_TEXT = """\
train = "text.txt"
# tokens = "bytes"             # characters or bytes; or tokenizer = "tokenizer.json"
"""
_DATA = {"mlp": _VECTORS, "cnn": _IMAGES, "resnet": _IMAGES, "vit": _IMAGES, "lstm": _TEXT, "gpt": _TEXT}
_NAMES = {_VECTORS: "digits", _IMAGES: "images", _TEXT: "text"}
PRESETS = tuple(_MODELS)
"""Names that `template` takes."""


def template(preset: str) -> str:
    """The commented task file of a preset."""
    data = _DATA[preset]
    return _WHOLE.format(name=_NAMES[data], model=_MODELS[preset], data=data)


_WHOLE = """\
# A training task. Check it with `gensyn task validate`, price it with `gensyn task quote`.
name = "{name}"

[model]
{model}\
# file = "model.py:make"       # instead of a preset: a function that returns your torch.nn.Module,
#                              # or (module, loss, optimizer); it runs on this machine only
# checkpoint = "base.safetensors"        # fine-tuning: the weights to start from
# lora = {{ rank = 8, alpha = 16, targets = ["*.query", "*.value"] }}    # train adapters alone

[data]
{data}\
# validation = 0.1             # share of the records that is held out, for you to check the model with

[train]
steps = 600
batch_size = 32
optimizer = {{ name = "adamw", lr = 1e-3 }}     # or {{ name = "sgd", lr = 0.1, momentum = 0.9 }}
#   also: clip_norm = 1.0, schedule = {{ name = "cosine", warmup = 100, end = 0.1 }}
loss = "cross_entropy"
# arithmetic = "native"        # vendor kernels, judged by distance and bounds: leave mode out, segment = 10
# precision = "bf16"           # operands and results of products rounded as torch.autocast does; weights stay f32

[verify]
mode = "reproducible"          # every machine gets the same bits, so equality decides
verifiers = 2                  # drawn for each instalment
segment = 50                   # steps between two committed states
samples = 2                    # segments that each verifier repeats; "all" where a wrong result would cost much
# forced_errors = true         # show one instalment in five with an error on purpose: who does not look loses its bond
# stake = 12                   # solver's bond in multiples of its price; what the chain asks for when left out
instalments = 2                # units of paying: what is settled is never lost

[price]
max = "20 GSN"                 # held until the end; what is not used goes back
deadline = "1h"                # or "400 blocks"
"""
