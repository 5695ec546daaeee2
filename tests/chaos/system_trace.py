"""What a process did to the files of one folder, in order: read from `strace`, kept as JSON lines.

A trace file has one operation a line, a JSON object with the key `do` and, as the operation needs them,

    open      file (number of the open file), path, create, truncate, append
    write     file, at (offset), data (hex)
    size      file, bytes                        the file gets this length
    sync      file                               fsync and fdatasync alike; of a folder its names become durable
    folder    path                               a new folder
    rename    path, to
    remove    path
    close     file
    say       text                               a line of the traced program's own, written between its operations

Paths are relative to the folder. An operation stands where its system call returned (a `close` where it began), a
`say` where it was written.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

CALLS = (
    "open,openat,creat,write,pwrite64,writev,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,"
    "rmdir,mkdir,mkdirat,ftruncate,truncate,close,lseek,link,linkat,symlink,fallocate,dup,dup2,dup3"
)
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a trace; what a kind does not use keeps its default."""

    do: str
    path: str = ""
    to: str = ""
    file: int = -1
    at: int = 0
    bytes: int = 0
    data: str = ""
    text: str = ""
    create: bool = False
    truncate: bool = False
    append: bool = False


def available() -> bool:
    """Whether `strace` can be used here."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


def record(command: list[str], folder: Path, saying: Path, output: Path, *, timeout_s: float = 300.0) -> None:
    """Run `command` under strace; what it did to `folder`, and the lines it wrote to `saying`, become `output`."""
    raw = output.with_suffix(".strace")
    traced = ["strace", "-f", "--seccomp-bpf", "-xx", "-s", "1000000000", "-e", f"trace={CALLS}", "-o", str(raw)]
    done = subprocess.run([*traced, *command], capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise AssertionError(f"the traced program failed: {done.stdout}{done.stderr}")
    with raw.open() as lines:
        save(output, parse(lines, folder, saying))
    raw.unlink()


def save(path: Path, operations: Iterable[Operation]) -> None:
    """Write a trace file."""
    empty = asdict(Operation(""))
    with path.open("w") as file:
        for operation in operations:
            kept = {name: value for name, value in asdict(operation).items() if value != empty[name]}
            file.write(json.dumps(kept) + "\n")


def load(path: Path) -> list[Operation]:
    """Read a trace file."""
    with path.open() as lines:
        return [Operation(**json.loads(line)) for line in lines]


def parse(lines: Iterable[str], folder: Path, saying: Path) -> Iterator[Operation]:
    """The operations on `folder` in the output of strace."""
    reader = _Reader(folder, saying)
    for line in _whole_lines(lines):
        found = _LINE.match(line)
        if found is not None and int(found[4]) >= 0:
            yield from reader.take(found[2], found[3], int(found[4]))


def _whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """Calls that another thread interrupted, put together where they ended; closings stand where they began.

    The kernel frees a descriptor early in `close`: another thread can get the number, and strace can write that down,
    before it writes that the closing has returned.
    """
    begun: dict[str, str] = {}
    for line in lines:
        line = line.rstrip("\n")
        if (unfinished := _UNFINISHED.match(line)) is not None:
            thread, call = unfinished[1], unfinished[2]
            if call.startswith("close("):
                yield f"{thread} {call}) = 0"
                call = ""
            begun[thread] = call
        elif (resumed := _RESUMED.match(line)) is not None:
            if call := begun.pop(resumed[1]):
                yield f"{resumed[1]} {call}{resumed[2]}"
        else:
            yield line


class _Reader:
    """Follows the descriptors of one process."""

    def __init__(self, folder: Path, saying: Path) -> None:
        self._folder, self._saying = f"{folder}/", str(saying)
        self._files: dict[int, int] = {}
        """Descriptor → number of the open file; the line writer's is -1."""
        self._places: dict[int, int] = {}
        self._appends: set[int] = set()
        self._sizes: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._opened = 0

    def take(self, call: str, arguments: str, result: int) -> Iterator[Operation]:
        texts = [bytes.fromhex(text.replace("\\x", "")) for text, _ in _TEXT.findall(arguments)]
        if any(dots for _, dots in _TEXT.findall(arguments)):
            raise AssertionError(f"strace cut a string of {call}")
        descriptor = int(found[0]) if (found := re.match(r"(\d+)", arguments)) else -1
        match call:
            case "open" | "openat" | "creat":
                yield from self._open(self._relative(texts[0]), arguments, result, texts[0])
            case "close":
                file = self._files.pop(descriptor, None)
                if file is not None and file >= 0:
                    yield Operation("close", file=file)
            case "lseek" if descriptor in self._files:
                self._places[self._files[descriptor]] = result
            case "write" | "writev" | "pwrite64" if descriptor in self._files:
                at = int(arguments.rsplit(",", 1)[1]) if call == "pwrite64" else None
                yield from self._write(self._files[descriptor], b"".join(texts)[:result], at)
            case "ftruncate" if descriptor in self._files:
                file = self._files[descriptor]
                self._sizes[self._paths[file]] = size = int(arguments.rsplit(",", 1)[1])
                yield Operation("size", file=file, bytes=size)
            case "truncate" if (path := self._relative(texts[0])) is not None:
                self._sizes[path] = size = int(arguments.rsplit(",", 1)[1])
                yield Operation("size", path=path, bytes=size)
            case "fsync" | "fdatasync" if descriptor in self._files:
                yield Operation("sync", file=self._files[descriptor])
            case "rename" | "renameat" | "renameat2":
                old, new = (self._relative(text) for text in texts)
                if old is not None and new is not None:
                    self._sizes[new] = self._sizes.pop(old, 0)
                    yield Operation("rename", path=old, to=new)
            case "unlink" | "unlinkat" | "rmdir" if (path := self._relative(texts[0])) is not None:
                self._sizes.pop(path, None)
                yield Operation("remove", path=path)
            case "mkdir" | "mkdirat" if (path := self._relative(texts[0])) is not None:
                yield Operation("folder", path=path)
            case "link" | "linkat" | "symlink" | "fallocate" | "sync_file_range" | "dup" | "dup2" | "dup3":
                if descriptor in self._files or any(self._relative(text) is not None for text in texts):
                    raise AssertionError(f"{call} on the folder is not understood")

    def _open(self, path: str | None, arguments: str, result: int, raw: bytes) -> Iterator[Operation]:
        self._files.pop(result, None)
        if raw.decode() == self._saying:
            self._files[result] = -1
        elif path is not None:
            number, self._opened = self._opened, self._opened + 1
            self._files[result], self._paths[number], self._places[number] = number, path, 0
            truncate, append = "O_TRUNC" in arguments, "O_APPEND" in arguments
            if truncate:
                self._sizes[path] = 0
            if append:
                self._appends.add(number)
            yield Operation(
                "open", path=path, file=number, create="O_CREAT" in arguments, truncate=truncate, append=append
            )

    def _write(self, file: int, data: bytes, at: int | None) -> Iterator[Operation]:
        if file < 0:
            yield from (Operation("say", text=line) for line in data.decode().splitlines())
            return
        path = self._paths[file]
        place = at if at is not None else self._places[file]
        if file in self._appends:
            place = self._sizes.get(path, 0)
        if at is None:
            self._places[file] = place + len(data)
        self._sizes[path] = max(self._sizes.get(path, 0), place + len(data))
        yield Operation("write", file=file, at=place, data=data.hex())

    def _relative(self, raw: bytes) -> str | None:
        """The path below the folder (`.` for the folder itself), or None for another place."""
        path = raw.decode(errors="surrogateescape")
        if path.rstrip("/") + "/" == self._folder:
            return "."
        return path[len(self._folder) :].rstrip("/") if path.startswith(self._folder) else None
