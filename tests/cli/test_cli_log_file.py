"""The log file of a node: lines that the disk refuses are counted, and the file stays one line a record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cli.log_file import LogFile


def test_lines_that_do_not_fit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "log" / "node.log")
    log.write("first\n")
    honest = os.write
    room = [3]

    def write(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        taken = data[: room[0]]
        room[0] -= len(taken)
        return honest(descriptor, taken)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        for _ in range(4):
            log.write("second\n")
    log.write("third\n")
    log.write("fourth\n")
    lines = (tmp_path / "log" / "node.log").read_text().splitlines()
    assert [lines[0], lines[1], *lines[3:]] == ["first", "sec", "third", "fourth"]
    assert json.loads(lines[2])["lines"] == 4
