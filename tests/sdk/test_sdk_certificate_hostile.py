"""Model files that are made to break whoever checks them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from test_sdk_certificate import GOOD, refused


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("U16", 2), ("C64", 8), ("F4", 1)])
def test_tensors_of_types_that_programs_do_not_have_are_another_model(tmp_path: Path, dtype: str, size: int) -> None:
    header = json.dumps({"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    assert refused(GOOD, model=path) == "other_model"
