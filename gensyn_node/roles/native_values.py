"""Files of disclosed values on this disk: a solver's own, and those of a solver that this node looks into.

Values are large and of use for a few minutes: a blob of them is deleted when it was looked at, and at the task's end.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.limits import MIB
from gensyn_node.roles.materials import OWN, Materials, write_durably
from ml.worker.messages import Accused, values_path
from proofs.program.types import ITEM_BYTES, Program
from proofs.program.validate import validate_program

VALUES = "values"
"""Inside the solver's own line: what it disclosed."""
DISCLOSED = "disclosed"
"""Inside a verifier's line: what another disclosed. Never taken for one's own."""
PUBLISHED = "published"
"""Names of the blobs that were made of the own values, one file each."""

HEADER_BYTES_PER_VALUE = 1024


class Found(Struct):
    """What was found wrong in a segment, kept until the dispute over it is played."""

    accused: Accused


class NativeValues:
    """Lays out, serves and deletes values."""

    def __init__(self, materials: Materials) -> None:
        self._materials = materials

    def own(self, task_id: bytes) -> Path:
        """The folder of this node's own values."""
        return _made(self._materials.states(task_id, OWN) / VALUES)

    def disclosed(self, task_id: bytes, line: str) -> Path:
        """The folder of another's values."""
        return _made(self._materials.states(task_id, line) / DISCLOSED)

    async def publish(self, task_id: bytes, step: int) -> bytes:
        """Serve the own values of a step; their blob id."""
        blob_id = await self._materials.publish_state(b"", values_path(self.own(task_id), step))
        (_made(self._materials.states(task_id, OWN) / PUBLISHED) / blob_id.hex()).touch()
        return blob_id

    async def fetch(self, task_id: bytes, line: str, step: int, blob_id: bytes, bytes_max: int) -> Path:
        """Bring another's values of a step; the folder. Raises Rejection STATE_UNAVAILABLE."""
        folder = self.disclosed(task_id, line)
        what = f"the values of step {step}"
        await self._materials.fetch_file(blob_id, what, bytes_max, values_path(folder, step))
        return folder

    async def drop(self, task_id: bytes, line: str, step: int, blob_id: bytes) -> None:
        """Delete another's values of a step, here and as a blob."""
        with suppress(FileNotFoundError):
            values_path(self.disclosed(task_id, line), step).unlink()
        await self._materials.remove_blob(blob_id)

    def accuse(self, task_id: bytes, line: str, segment: int, accused: Accused) -> None:
        """Remember what was found in a segment."""
        write_durably(self._found(task_id, line, segment), encode(Found(accused)))

    def accused(self, task_id: bytes, line: str, segment: int) -> Accused | None:
        """What was found in a segment; None: nothing."""
        path = self._found(task_id, line, segment)
        if not path.exists():
            return None
        found: Found = decode(Found, path.read_bytes())
        return found.accused

    def _found(self, task_id: bytes, line: str, segment: int) -> Path:
        return self.disclosed(task_id, line) / f"found-{segment}"

    async def forget(self, task_id: bytes) -> None:
        """The task is over: nobody will ask for the own values any more."""
        folder = self._materials.task_folder(task_id) / OWN / PUBLISHED
        for entry in sorted(folder.iterdir()) if folder.exists() else ():
            await self._materials.remove_blob(bytes.fromhex(entry.name))


def values_bytes_max(program: Program) -> int:
    """Most bytes of a file with all values of a step."""
    types = validate_program(program).types
    return sum(type_.elements * ITEM_BYTES[type_.dtype] + HEADER_BYTES_PER_VALUE for type_ in types) + MIB


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
