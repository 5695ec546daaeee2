"""A disk that may lose what was not synced: from the operations of a trace, the folders that a power cut can leave.

Data of a file is safe once the file was synced. What was written since may be lost, cut at any byte, or be zeros, or
have zeros in its middle while what follows is there (blocks reach the disk in any order). Names are safe by one of two
rules:

- `posix`: a creation, rename or removal is safe once its *folder* was synced; of the others any may have happened.
- `journal`: names become safe in the order in which they were given, and any sync makes all of them so before it
  returns (ext4, XFS and btrfs do that).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

from system_trace import Operation

Rule: TypeAlias = Literal["posix", "journal"]
DataLoss: TypeAlias = Literal["none", "all", "cut", "zeros", "hole"]
NameLoss: TypeAlias = Literal["none", "all", "prefix", "subset"]
SECTOR_BYTES = 512


@dataclass(slots=True, eq=False)
class File:
    """An inode: what is safely on the disk, and what was done to it since."""

    safe: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data), or (length, None) for a change of length."""

    def now(self) -> bytes:
        """What a reader sees while the power is on."""
        return self.after(len(self.pending))

    def after(self, count: int) -> bytes:
        """The content if only the first `count` pending changes are on the disk."""
        content = bytearray(self.safe)
        for at, data in self.pending[:count]:
            _change(content, at, data)
        return bytes(content)


def _change(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
    else:
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data


@dataclass(slots=True, eq=False)
class Folder:
    """An inode that holds names; `now` is what a reader sees, `safe` what is on the disk for sure."""

    safe: dict[str, Inode] = field(default_factory=dict)
    now: dict[str, Inode] = field(default_factory=dict)


Inode: TypeAlias = File | Folder


@dataclass(frozen=True, slots=True, eq=False)
class NameChange:
    """`removed` disappears from `old`, `name` of `new` becomes `inode` (each may be absent)."""

    old: Folder | None
    removed: str
    new: Folder | None
    name: str
    inode: Inode

    def apply(self, view: dict[int, dict[str, Inode]]) -> None:
        """Do it to folders given as copies, by identity."""
        if self.old is not None:
            names = view.setdefault(id(self.old), dict(self.old.safe))
            if names.get(self.removed) is self.inode:
                del names[self.removed]
        if self.new is not None:
            view.setdefault(id(self.new), dict(self.new.safe))[self.name] = self.inode


@dataclass(frozen=True, slots=True)
class Left:
    """A folder as a power cut left it: relative path → content, None for a folder."""

    files: dict[str, bytes | None]

    def write(self, target: Path) -> None:
        """Make it, below an empty or missing folder."""
        target.mkdir(parents=True, exist_ok=True)
        for path, content in sorted(self.files.items()):
            if content is None:
                (target / path).mkdir(parents=True, exist_ok=True)
            else:
                (target / path).write_bytes(content)

    def digest(self) -> bytes:
        """Names what is in it, less what nobody reads (LevelDB's own diary and locks)."""
        hashed = sha256()
        for path, content in sorted(self.files.items()):
            if not is_diary(path):
                hashed.update(f"{path}\n{-1 if content is None else len(content)}\n".encode() + (content or b""))
        return hashed.digest()


def is_diary(path: str) -> bool:
    """Whether nothing depends on the content of this file."""
    return path.rsplit("/", 1)[-1] in ("LOG", "LOG.old", "LOCK", "node.lock")


class Disk:
    """Takes the operations of a trace one after the other; can be asked at any point what a power cut would leave."""

    def __init__(self, rule: Rule) -> None:
        self.rule: Rule = rule
        self.root = Folder()
        self._names: list[NameChange] = []
        self._open: dict[int, Inode] = {}

    def take(self, operation: Operation) -> None:
        """The next operation of the trace."""
        match operation.do:
            case "open":
                self._take_open(operation)
            case "write":
                self._file(operation).pending.append((operation.at, bytes.fromhex(operation.data)))
            case "size":
                self._file(operation).pending.append((operation.bytes, None))
            case "sync":
                self._sync(self._open[operation.file])
            case "folder" if operation.path != ".":
                folder, name = self._place(operation.path)
                self._name(NameChange(None, "", folder, name, Folder()))
            case "rename":
                old, removed = self._place(operation.path)
                new, name = self._place(operation.to)
                self._name(NameChange(old, removed, new, name, old.now[removed]))
            case "remove":
                folder, name = self._place(operation.path)
                self._name(NameChange(folder, name, None, "", folder.now[name]))
            case "close":
                self._open.pop(operation.file)

    def _take_open(self, operation: Operation) -> None:
        if operation.path == ".":
            self._open[operation.file] = self.root
            return
        folder, name = self._place(operation.path)
        if name not in folder.now:
            self._name(NameChange(None, "", folder, name, File()))
        inode = self._open[operation.file] = folder.now[name]
        if operation.truncate and isinstance(inode, File) and inode.now():
            inode.pending.append((0, None))

    def _file(self, operation: Operation) -> File:
        inode = self._open.get(operation.file)
        if inode is None:
            folder, name = self._place(operation.path)
            inode = folder.now[name]
        assert isinstance(inode, File)
        return inode

    def _place(self, path: str) -> tuple[Folder, str]:
        *parents, name = path.split("/")
        folder = self.root
        for parent in parents:
            inner = folder.now[parent]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name

    def _name(self, change: NameChange) -> None:
        self._names.append(change)
        if change.old is not None:
            del change.old.now[change.removed]
        if change.new is not None:
            change.new.now[change.name] = change.inode

    def _sync(self, inode: Inode) -> None:
        if isinstance(inode, File):
            inode.safe, inode.pending = inode.now(), []
        if self.rule == "journal":
            settled, self._names = self._names, []
        else:
            settled = [change for change in self._names if inode in (change.old, change.new)]
            self._names = [change for change in self._names if change not in settled]
        for change in settled:
            if change.old is not None:
                change.old.safe.pop(change.removed, None)
            if change.new is not None:
                change.new.safe[change.name] = change.inode

    # --- what a power cut leaves

    def running(self) -> Left:
        """The folder as the running process sees it."""
        return Left(_listed(self.root, {}, {}, "", now=True))

    def unsafe(self) -> bool:
        """Whether anything can be lost now."""
        return bool(self._names) or any(file.pending for file in _files(self.root))

    def cut(self, names: NameLoss, data: DataLoss | Literal["mixed"], chance: random.Random) -> Left:
        """A folder that a power cut at this point can leave."""
        view: dict[int, dict[str, Inode]] = {}
        for change in self._kept(names, chance):
            change.apply(view)
        contents: dict[int, bytes] = {}
        for file in dict.fromkeys((*_files(self.root), *(c.inode for c in self._names if isinstance(c.inode, File)))):
            if file.pending:
                loss = chance.choice(("none", "all", "cut", "zeros", "hole")) if data == "mixed" else data
                contents[id(file)] = _lose(file, loss, chance)
        return Left(_listed(self.root, view, contents, ""))

    def _kept(self, names: NameLoss, chance: random.Random) -> list[NameChange]:
        match names:
            case "none":
                return self._names
            case "all":
                return []
            case "prefix":
                return self._names[: chance.randrange(len(self._names) + 1)]
            case "subset":
                return [change for change in self._names if chance.random() < 0.5]


def _lose(file: File, loss: DataLoss, chance: random.Random) -> bytes:
    """The content of a file after a power cut."""
    if loss == "none":
        return file.now()
    if loss == "all":
        return file.safe
    count = chance.randrange(len(file.pending))
    kept, (at, data) = bytearray(file.after(count)), file.pending[count]
    whole = file.now()
    if data is None or loss == "hole":
        return _with_hole(file, whole, chance)
    _change(kept, at, data[: chance.randrange(len(data) + 1)])
    if loss == "zeros":
        kept.extend(bytes(max(0, len(whole) - len(kept))))
    return bytes(kept)


def _with_hole(file: File, whole: bytes, chance: random.Random) -> bytes:
    """All is there, but for a piece of one of the writes: a whole write, or some sectors of it."""
    written = [(at, data) for at, data in file.pending if data]
    if not written:
        return file.safe
    at, data = chance.choice(written)
    first, last = at, min(at + len(data), len(whole))
    if chance.random() < 0.5:
        first = max(at, chance.randrange(first, last + 1) // SECTOR_BYTES * SECTOR_BYTES)
        last = min(last, (first // SECTOR_BYTES + 1) * SECTOR_BYTES)
    return whole[:first] + bytes(max(0, last - first)) + whole[max(first, last) :]


def _files(folder: Folder) -> list[File]:
    found: list[File] = []
    for inode in {id(inode): inode for inode in (*folder.now.values(), *folder.safe.values())}.values():
        found += [inode] if isinstance(inode, File) else _files(inode)
    return found


def _listed(
    folder: Folder, view: dict[int, dict[str, Inode]], contents: dict[int, bytes], prefix: str, *, now: bool = False
) -> dict[str, bytes | None]:
    names = folder.now if now else view.get(id(folder), folder.safe)
    listed: dict[str, bytes | None] = {}
    for name, inode in names.items():
        if isinstance(inode, Folder):
            listed[prefix + name] = None
            listed |= _listed(inode, view, contents, f"{prefix}{name}/", now=now)
        else:
            known = inode.now() if now else contents.get(id(inode), inode.safe)
            listed[prefix + name] = known
    return listed
