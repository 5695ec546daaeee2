"""The node's log file: a full disk costs lines, which are counted, never the node."""

from __future__ import annotations

import json
import os
from pathlib import Path


class LogFile:
    """Appends lines. What `structlog.WriteLoggerFactory` needs of a file, and no more."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lost = 0
        self._torn = False

    def write(self, text: str) -> int:
        """Append `text`; when the disk refuses it is lost, and the next line that goes in follows a count of those."""
        data = text.encode("utf-8", "backslashreplace")
        if self._lost:
            told = json.dumps({"event": "log_lines_lost", "level": "error", "lines": self._lost})
            data = b"\n" * self._torn + told.encode() + b"\n" + data
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            written = 0
        if written < len(data):
            self._lost += 1
            self._torn = self._torn or written > 0
        else:
            self._lost, self._torn = 0, False
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
