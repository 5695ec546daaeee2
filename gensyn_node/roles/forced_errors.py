"""The solver's part in forced errors: keep secrets and sealed roots, open what was sealed, show the secret.

Everything that a bond hangs on is on disk before the message that binds to it is sent. Whether there is an error must
not show before the secret: a wrong state is made in either case, and the opening is sent at the same block.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog
import trio

from consensus.ledger import queries, sealed
from consensus.ledger.duties import Duty
from consensus.ledger.messages import OpenInstalment, RevealSecret, TaskSpec
from consensus.ledger.records import Instalment, Task
from consensus.ledger.schedule import instalment_segments, segment_span
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.materials import OWN, Materials, write_durably
from gensyn_node.roles.reasons import SECRET_LOST
from gensyn_node.roles.wrong_state import make_wrong_state, root_of_file
from ml.worker.messages import state_path
from proofs.program.types import Program

SECRET_BYTES = 32
OPENING_AFTER_BLOCKS = 4
"""Blocks after its turn came at which an instalment is opened, with an error or without."""

log = structlog.get_logger()


class Sealed(Struct):
    """What an instalment's seal binds to, kept on disk until its secret is shown."""

    segment_roots: tuple[bytes, ...]
    losses: tuple[int, ...]


class ForcedErrors:
    """Drives a solver's secrets."""

    def __init__(self, chain: ChainApi, account: NodeAccount, materials: Materials) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials

    async def anchor(self, task: Task, spec: TaskSpec) -> bytes:
        """The end of a chain of secrets for this attempt; empty when the task has no forced errors."""
        if not spec.forced_error_bps:
            return b""
        path = self._path(task.task_id, f"secret-{task.attempt}")
        if not await trio.Path(path).exists():
            await trio.to_thread.run_sync(write_durably, path, secrets.token_bytes(SECRET_BYTES))
        root = await trio.Path(path).read_bytes()
        return sealed.secret_at(root, spec.instalments, task.settled - 1)

    async def seal(
        self, duty: Duty, spec: TaskSpec, segment_roots: tuple[bytes, ...], losses: tuple[int, ...]
    ) -> bytes:
        """The seal of an instalment's roots; they are kept for its opening."""
        path = self._path(duty.task_id, _sealed_name(duty))
        await trio.to_thread.run_sync(write_durably, path, encode(Sealed(segment_roots, losses)))
        secret = await self._secret(duty, spec)
        place = (duty.task_id, duty.instalment, duty.attempt)
        return sealed.seal_of(self._account.address, *place, segment_roots, secret)

    async def open(self, duty: Duty) -> None:
        """Show the sealed roots, one of them wrong if that is drawn. The block is the same in both cases."""
        spec, task, instalment = self._records(duty)
        kept, (_, drawn) = await self._kept(duty), await self._draw(duty, spec, instalment)
        states = self._materials.states(duty.task_id, OWN)
        position = drawn if drawn is not None else secrets.randbelow(len(kept.segment_roots))
        wrong, wrong_root = await self._wrong_state(duty, task, spec, states, position)
        opened_height = duty.due_height - self._chain.parameters.forced_open_blocks
        if self._chain.head_height() < opened_height + OPENING_AFTER_BLOCKS:
            return  # The next block asks again.
        roots, blobs = list(kept.segment_roots), []
        if drawn is not None:
            roots[drawn] = wrong_root
        for number, segment in enumerate(instalment_segments(spec, duty.instalment)):
            path = wrong if number == drawn else state_path(states, sum(segment_span(spec, segment)))
            blobs.append(await self._materials.publish_state(roots[number], path))
        message = OpenInstalment(duty.task_id, duty.instalment, tuple(roots), tuple(blobs), kept.losses)
        await self._account.send(message)
        log.info("instalment_opened", task=duty.task_id.hex(), instalment=duty.instalment)

    async def unseal(self, duty: Duty) -> None:
        """Show the secret; after a forced error the right root and its state as well."""
        spec, _, instalment = self._records(duty)
        kept, (secret, drawn) = await self._kept(duty), await self._draw(duty, spec, instalment)
        root = blob = b""
        if drawn is not None:
            root = kept.segment_roots[drawn]
            segment = instalment_segments(spec, duty.instalment)[drawn]
            path = state_path(self._materials.states(duty.task_id, OWN), sum(segment_span(spec, segment)))
            blob = await self._materials.publish_state(root, path)
        await self._account.send(RevealSecret(duty.task_id, duty.instalment, secret, root, blob))
        log.info("secret_shown", task=duty.task_id.hex(), instalment=duty.instalment, forced=drawn is not None)

    # --- parts

    def _path(self, task_id: bytes, name: str) -> Path:
        return self._materials.states(task_id, OWN) / name

    def _records(self, duty: Duty) -> tuple[TaskSpec, Task, Instalment]:
        state = State(self._chain.view())
        task_id = duty.task_id
        return state.spec(task_id), state.task(task_id), state.instalment(task_id, duty.instalment)

    async def _read(self, path: Path) -> bytes:
        if not await trio.Path(path).exists():
            raise Rejection(SECRET_LOST, f"{path} is gone: what this node bound itself to is lost")
        return await trio.Path(path).read_bytes()

    async def _secret(self, duty: Duty, spec: TaskSpec) -> bytes:
        root = await self._read(self._path(duty.task_id, f"secret-{duty.attempt}"))
        return sealed.secret_at(root, spec.instalments, duty.instalment)

    async def _kept(self, duty: Duty) -> Sealed:
        kept: Sealed = decode(Sealed, await self._read(self._path(duty.task_id, _sealed_name(duty))))
        return kept

    async def _draw(self, duty: Duty, spec: TaskSpec, instalment: Instalment) -> tuple[bytes, int | None]:
        secret = await self._secret(duty, spec)
        segments, place = len(instalment_segments(spec, duty.instalment)), (duty.instalment, duty.attempt)
        rate = spec.forced_error_bps
        return secret, sealed.forced_segment(secret, instalment.beacon, duty.task_id, *place, segments, rate)

    async def _wrong_state(
        self, duty: Duty, task: Task, spec: TaskSpec, states: Path, position: int
    ) -> tuple[Path, bytes]:
        """A state with an error in the place of one segment's end, and its root."""
        first, steps = segment_span(spec, instalment_segments(spec, duty.instalment)[position])
        record = queries.program(self._chain.view(), task.program_id)
        if record is None:
            raise InvariantViolation(f"task {task.task_id.hex()} has no program")
        program: Program = decode(Program, record.program, max_bytes=PROGRAM_BYTES_MAX)
        target = self._path(duty.task_id, f"wrong-{duty.attempt}-{duty.instalment}-{position}")
        right, before, end = state_path(states, first + steps), state_path(states, first), first + steps

        def make() -> bytes:
            if not target.exists():
                make_wrong_state(right, before, target)
            return root_of_file(program, end, target)

        return target, await trio.to_thread.run_sync(make)


def _sealed_name(duty: Duty) -> str:
    return f"sealed-{duty.attempt}-{duty.instalment}"
