"""Text as tokens: characters, bytes, or those of a given tokenizer file, in records of context + 1 tokens."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.data.records import Array, Chunk, Records, Source, bad, chunk_records
from proofs import tensors
from proofs.program.types import ITEM_BYTES, TensorType

VOCABULARY_MAX = 65_536
"""Different characters of a text."""
TOKENS_MAX = 262_144
"""Tokens that a tokenizer knows."""
TOKENIZER_BYTES_MAX = 64 << 20
BLOCK_BYTES = 1 << 20
"""Bytes read at once."""


@dataclass(frozen=True)
class Tokens:
    """A stream of tokens that can be read again and again."""

    count: int
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[Array]]
    vocabulary: tuple[str, ...]


def read_text(
    path: Path, context: int, tokens: str = "characters", validation: float = 0.0, tokenizer: Path | None = None
) -> Source:
    """Records of context + 1 tokens, one starting every `context`; the text's end is held out.

    `tokens`: `bytes` (u8) or `characters` (u8 up to 256 different ones, else i64; the mapping is the vocabulary);
    `tokenizer` is a tokenizer.json, whose tokens (i64, or u8 up to 256) are then used.
    """
    if tokens not in ("bytes", "characters") or context < 1:
        raise bad(f"tokens {tokens!r} (bytes or characters), context {context} (at least 1)")
    if not 0 <= validation < 1:
        raise bad(f"validation fraction {validation}; it is at least 0 and below 1")
    if tokenizer is not None:
        stream = _tokenized(path, tokenizer)
    else:
        stream = _bytes(path) if tokens == "bytes" else _characters(path)
    cut = stream.count - int(stream.count * validation)
    train = _windows(stream, 0, cut, context)
    if train is None:
        raise bad(f"{path} has {stream.count} tokens, fewer than one record of {context + 1}")
    return Source(train, _windows(stream, cut, stream.count, context), stream.vocabulary)


def _windows(stream: Tokens, start: int, stop: int, context: int) -> Records | None:
    """The tokens from start to stop as records; None when there are too few."""
    count = max(0, (stop - start - 1) // context)
    if not count:
        return None
    type_ = TensorType(tensors.DTYPE_NAMES[stream.dtype.str[1:]], (context + 1,))
    stride = chunk_records(type_.elements * ITEM_BYTES[type_.dtype]) * context

    def chunks() -> Iterator[Chunk]:
        made, rest, place = 0, np.empty(0, stream.dtype), 0
        for block in stream.blocks():
            taken = block[max(0, start - place) : max(0, stop - place)]
            place += len(block)
            rest = np.concatenate([rest, taken])
            while (len(rest) > stride or place >= stop) and made < count and len(rest) > context:
                here = min((len(rest) - 1) // context, stride // context, count - made)
                starts = np.arange(here)[:, None] * context
                yield {"tokens": rest[starts + np.arange(context + 1)]}
                rest = rest[here * context :]
                made += here
            if made == count:
                return
        raise bad("the text became shorter while it was read")

    return Records(count, {"tokens": type_}, chunks)


def _raw_blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise bad(f"{path} is not readable text: {error}") from None


def _text_blocks(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _raw_blocks(path):
            yield decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise bad(f"{path} is not readable text: {error}") from None


def _bytes(path: Path) -> Tokens:
    count = sum(map(len, _raw_blocks(path)))
    return Tokens(count, np.dtype(np.uint8), lambda: (np.frombuffer(b, np.uint8) for b in _raw_blocks(path)), ())


def _points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _characters(path: Path) -> Tokens:
    count = 0
    known = np.empty(0, np.uint32)
    for text in _text_blocks(path):
        points = _points(text)
        count += len(points)
        known = np.union1d(known, points)
        if len(known) > VOCABULARY_MAX:
            raise bad(f"{path} has more than {VOCABULARY_MAX} different characters")
    dtype = np.dtype(np.uint8) if len(known) <= 256 else np.dtype("<i8")

    def blocks() -> Iterator[Array]:
        for text in _text_blocks(path):
            yield np.searchsorted(known, _points(text)).astype(dtype)

    return Tokens(count, dtype, blocks, tuple(chr(int(point)) for point in known))


def _tokenized(path: Path, tokenizer: Path) -> Tokens:
    """Tokens of a Hugging Face tokenizer.json; the text is given to it in runs of whole lines."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise bad("a tokenizer file needs tokenizers: pip install 'gensyn[data]'") from None
    try:
        size = tokenizer.stat().st_size
        if size > TOKENIZER_BYTES_MAX:
            raise bad(f"{tokenizer} has {size} bytes, at most {TOKENIZER_BYTES_MAX}")
        rules = Tokenizer.from_str(tokenizer.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise bad(f"{tokenizer} is not readable: {error}") from None
    except Exception as error:  # noqa: BLE001 (the library raises no narrower one for a file it does not understand)
        raise bad(f"{tokenizer} is no tokenizer.json: {error}") from None
    ids = rules.get_vocab(with_added_tokens=True)
    vocabulary_size = max(ids.values(), default=-1) + 1
    if not 1 <= vocabulary_size <= TOKENS_MAX:
        raise bad(f"{tokenizer} knows {vocabulary_size} tokens, at least 1 and at most {TOKENS_MAX}")
    vocabulary = [""] * vocabulary_size
    for text, number in ids.items():
        vocabulary[number] = text
    dtype = np.dtype(np.uint8) if vocabulary_size <= 256 else np.dtype("<i8")

    def blocks() -> Iterator[Array]:
        for run in _line_runs(path):
            yield np.array(rules.encode(run, add_special_tokens=False).ids, dtype)

    return Tokens(sum(map(len, blocks())), dtype, blocks, tuple(vocabulary))


def _line_runs(path: Path) -> Iterator[str]:
    """The text in runs of whole lines of about a block; a line longer than that is cut."""
    rest = ""
    for text in _text_blocks(path):
        rest += text
        cut = rest.rfind("\n") + 1
        if cut == 0 and len(rest) >= BLOCK_BYTES:
            cut = len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest
