"""A folder of images with one folder for each class: x u8 (channels, height, width), y i64."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ml.data.records import Array, Chunk, Records, bad, chunk_records
from proofs.program.types import I64, U8, TensorType

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
PIXELS_MAX = 1 << 26
"""Of one image before it is made smaller."""
SIZE_MAX = 4_096
CLASSES_MAX = 65_536


def is_image_folder(path: Path) -> bool:
    """Whether this is a folder with folders."""
    return path.is_dir() and any(child.is_dir() for child in path.iterdir())


def read_images(path: Path, size: int = 0, gray: bool = False) -> tuple[Records, tuple[str, ...]]:
    """Images by class, and the names of the classes.

    `size`: height and width to which every image is brought (bilinear, its middle square); 0: all have one size
    already. `gray`: one channel instead of three.
    """
    try:
        import PIL  # noqa: F401  (asked here, so that the message comes first)
    except ImportError:
        raise bad(f"{path}: reading images needs Pillow: pip install 'gensyn[data]'") from None
    if not 0 <= size <= SIZE_MAX:
        raise bad(f"images of {size} pixels a side; 1 to {SIZE_MAX}, or 0 to leave them")
    try:
        classes = sorted(child.name for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
        files = [
            (file, number)
            for number, name in enumerate(classes)
            for file in sorted((path / name).iterdir())
            if file.suffix.lower() in SUFFIXES and file.is_file()
        ]
    except OSError as error:
        raise bad(f"{path} cannot be read: {error}") from None
    if not files or len(classes) > CLASSES_MAX:
        raise bad(f"{path} has no images ({', '.join(SUFFIXES)}) in folders named by class, or too many classes")
    first = _image(files[0][0], size, gray)
    stride = chunk_records(first.nbytes)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(files), stride):
            part = files[start : start + stride]
            images = []
            for file, _ in part:
                image = _image(file, size, gray)
                if image.shape != first.shape:
                    raise bad(
                        f"{file} has {image.shape[2]} × {image.shape[1]} pixels, {files[0][0]} has {first.shape[2]} × "
                        f"{first.shape[1]}; give a size to bring them to one"
                    )
                images.append(image)
            yield {"x": np.stack(images), "y": np.array([number for _, number in part], np.int64)}

    types = {"x": TensorType(U8, first.shape), "y": TensorType(I64, ())}
    return Records(len(files), types, chunks), tuple(classes)


def _image(file: Path, size: int, gray: bool) -> Array:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as opened:
                if opened.width * opened.height > PIXELS_MAX:
                    raise bad(f"{file} has {opened.width} × {opened.height} pixels, at most {PIXELS_MAX}")
                image = ImageOps.exif_transpose(opened).convert("L" if gray else "RGB")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise bad(f"{file} is no readable image: {error}") from None
    except Image.DecompressionBombWarning as error:
        raise bad(f"{file}: {error}") from None
    if size:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    pixels = pixels[None] if gray else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels)
