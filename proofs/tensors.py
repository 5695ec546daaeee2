"""Commitments to tensors: tiles of 32×32 of the 2-D view, hashed by keyed BLAKE3 in an RFC 6962 shaped tree.

Tiles are numbered row by row over the tile grid; edge tiles are smaller and hold existing elements only; a tile's bytes
are its elements row by row, little-endian. A tensor's root binds dtype, shape and the tree's root. Bytes are hashed as
they are: making NaNs canonical is the operators' duty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import TILE
from proofs import merkle
from proofs.program.types import BOOL, F32, I64, ITEM_BYTES, U8, TensorType
from proofs.reasons import BAD_TILE

Array = NDArray[Any]

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    F32: np.dtype("<f4"),
    I64: np.dtype("<i8"),
    BOOL: np.dtype(np.bool_),
    U8: np.dtype(np.uint8),
}
"""The numpy dtype of every dtype of a program."""
DTYPE_NAMES: dict[str, str] = {"f4": F32, "i8": I64, "b1": BOOL, "u1": U8}

LEAF_KEY = blake3(b"gensyn/tile/1").digest()
NODE_KEY = blake3(b"gensyn/tile-node/1").digest()
TENSOR_KEY = blake3(b"gensyn/tensor/1").digest()
_ACCUMULATOR_KEY = blake3(b"gensyn/accumulator/1").digest()


def _leaf(tile: bytes) -> bytes:
    digest: bytes = blake3(tile, key=LEAF_KEY).digest()
    return digest


def _node(left: bytes, right: bytes) -> bytes:
    digest: bytes = blake3(left + right, key=NODE_KEY).digest()
    return digest


TILES = merkle.Scheme(_leaf, _node, blake3(b"", key=NODE_KEY).digest())
"""The tree over a tensor's tiles."""


def type_of(array: Array) -> TensorType:
    """The program type of a numpy array; `KeyError` for a dtype that programs do not have."""
    return TensorType(DTYPE_NAMES[array.dtype.str[1:]], tuple(array.shape))


def tile_grid(type_: TensorType) -> tuple[int, int]:
    """Rows and columns of the grid of tiles."""
    rows, columns = type_.matrix
    return -(-rows // TILE), -(-columns // TILE)


def tile_count(type_: TensorType) -> int:
    """Number of tiles."""
    rows, columns = tile_grid(type_)
    return rows * columns


def tile_shape(type_: TensorType, index: int) -> tuple[int, int]:
    """Height and width of tile `index`, in elements."""
    rows, columns = type_.matrix
    tile_row, tile_column = divmod(index, tile_grid(type_)[1])
    return min(TILE, rows - tile_row * TILE), min(TILE, columns - tile_column * TILE)


def matrix_view(array: Array) -> Array:
    """The 2-D view (leading dimensions × last) of an array in C order."""
    columns = array.shape[-1] if array.ndim else 1
    rows = 1
    for size in array.shape[:-1]:
        rows *= size
    return np.ascontiguousarray(array).reshape(rows, columns)


def tile_of(array: Array, index: int) -> Array:
    """Tile `index` of `array`, 2-D."""
    matrix = matrix_view(array)
    tile_row, tile_column = divmod(index, -(-matrix.shape[1] // TILE))
    return matrix[tile_row * TILE : (tile_row + 1) * TILE, tile_column * TILE : (tile_column + 1) * TILE]


def tile_bytes(tile: Array) -> bytes:
    """A tile's elements row by row, little-endian."""
    return np.ascontiguousarray(tile).astype(tile.dtype.newbyteorder("<"), copy=False).tobytes()


def leaf_of(tile: Array) -> bytes:
    """The leaf hash of one tile."""
    return _leaf(tile_bytes(tile))


def split_tiles(array: Array) -> list[bytes]:
    """The bytes of every tile, in tile order."""
    return [bytes(tile) for tile in _tile_views(array)]


def tile_leaves(array: Array) -> list[bytes]:
    """The leaf hash of every tile, in tile order."""
    key = LEAF_KEY
    return [blake3(tile, key=key).digest() for tile in _tile_views(array)]


def _tile_views(array: Array) -> list[memoryview]:
    """Every tile's bytes, without a copy per tile: one band of 32 rows after another is gathered by numpy."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    matrix = matrix_view(little).view(np.uint8).reshape(-1, _matrix_columns(array) * array.dtype.itemsize)
    width = TILE * array.dtype.itemsize
    whole = matrix.shape[1] // width
    tiles: list[memoryview] = []
    for top in range(0, matrix.shape[0], TILE):
        band = matrix[top : top + TILE]
        height = band.shape[0]
        if whole:
            gathered = np.ascontiguousarray(
                band[:, : whole * width].reshape(height, whole, width).transpose(1, 0, 2)
            ).reshape(-1)
            view, step = gathered.data, height * width
            tiles.extend(view[start : start + step] for start in range(0, whole * step, step))
        if whole * width < band.shape[1]:
            tiles.append(np.ascontiguousarray(band[:, whole * width :]).reshape(-1).data)
    return tiles


def _matrix_columns(array: Array) -> int:
    return array.shape[-1] if array.ndim else 1


def type_header(type_: TensorType) -> bytes:
    """What stands before the tree's root in a tensor's root: dtype and shape are part of what is committed."""
    return encode((type_.dtype, type_.shape))


def bind(type_: TensorType, tree_root: bytes) -> bytes:
    """The tensor root of a tree root."""
    digest: bytes = blake3(type_header(type_) + tree_root, key=TENSOR_KEY).digest()
    return digest


def tensor_root(type_: TensorType, leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root of a tensor with these leaf hashes."""
    return bind(type_, merkle.fold(TILES, leaves))


def root_of(array: Array, type_: TensorType | None = None) -> bytes:
    """The 32-byte root of an array, whose type is checked when one is given (`ValueError` on a mismatch)."""
    own = type_of(array)
    if type_ is not None and own != type_:
        raise ValueError(f"the array is {own}, not {type_}")
    return tensor_root(own, tile_leaves(array))


def prove_tile(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The Merkle path of tile `index`, bottom up."""
    return merkle.inclusion_path(TILES, leaves, index)


def prove_tiles(leaves: Sequence[bytes], indices: Sequence[int]) -> list[tuple[bytes, ...]]:
    """The Merkle path of each of several tiles."""
    return merkle.inclusion_paths(TILES, leaves, indices)


def verify_tile(root: bytes, type_: TensorType, index: int, data: bytes, path: Sequence[bytes]) -> Array:
    """Tile `index` of the tensor with this root, 2-D, read-only. `Rejection` BAD_TILE when the bytes are another."""
    tree_root = merkle.root_from_path(TILES, _leaf(data), index, tile_count(type_), path)
    if tree_root is None or bind(type_, tree_root) != root:
        raise Rejection(BAD_TILE, f"the path of tile {index} does not lead to the tensor's root")
    height, width = tile_shape(type_, index)
    if len(data) != height * width * ITEM_BYTES[type_.dtype]:
        raise Rejection(
            BAD_TILE, f"tile {index} has {len(data)} bytes, its {height}×{width} elements need another number"
        )
    if type_.dtype == BOOL and data.translate(None, b"\x00\x01"):
        raise Rejection(BAD_TILE, f"tile {index} has a bool that is neither 0 nor 1")
    return np.frombuffer(data, NUMPY_DTYPES[type_.dtype]).reshape(height, width)


def accumulator_hash(array: Array) -> bytes:
    """The 32-byte hash of what a chain of pieces carries from one piece to the next: dtype, shape and bytes."""
    header = encode((DTYPE_NAMES[array.dtype.str[1:]], tuple(array.shape)))
    digest: bytes = blake3(header + tile_bytes(array), key=_ACCUMULATOR_KEY).digest()
    return digest
