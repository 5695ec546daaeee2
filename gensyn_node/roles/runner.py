"""Drives the roles: at every block, start what the ledger says is this node's to do and is not being done yet.

The runner keeps no state of its own that matters: after a restart the ledger names the same duties again, and the work
folder holds what was done. A duty that fails is tried again some blocks later, as long as the ledger still names it.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from consensus.ledger import queries
from consensus.ledger.duties import (
    DUTY_CONTEST,
    DUTY_DISCLOSE,
    DUTY_MOVE,
    DUTY_OPEN,
    DUTY_PROFILE,
    DUTY_REVEAL,
    DUTY_REVEAL_CHALLENGE,
    DUTY_REVEAL_PROFILE,
    DUTY_START,
    DUTY_TRAIN,
    DUTY_UNSEAL,
    DUTY_VERIFY,
    Duty,
    duties,
)
from consensus.ledger.messages import OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER
from consensus.ledger.records import TASK_ENDED, Provider
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.account import NodeAccount, Unconfirmed
from gensyn_node.roles.api import ChainApi, NodeApi
from gensyn_node.roles.auto import Machine
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.chooser import Chooser, RoleReport
from gensyn_node.roles.disputant import Disputant
from gensyn_node.roles.materials import Materials
from gensyn_node.roles.native_profiler import Profiler, repeats_itself
from gensyn_node.roles.native_solver import Discloser
from gensyn_node.roles.native_values import NativeValues
from gensyn_node.roles.policy import AUTO, REFERENCE_ASK_NANO, Offer, bond_and_reserve, registration, why_idle
from gensyn_node.roles.scheduler import CLAIM, NEED_ACCELERATOR, claim_of
from gensyn_node.roles.solver import Solver
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import Verifier
from gensyn_node.roles.whistleblower import Whistleblower
from gensyn_node.roles.worker_client import Worker, WorkerSettings
from ml.worker.messages import Measure

RETRY_BLOCKS = 3
"""Blocks to wait after a failed try at a duty."""
CRASH_RETRY_BLOCKS = 20
"""Blocks to wait after a try that ended in an error of our own."""
OBSOLETE_BLOCKS = 4
"""Blocks after which work on a duty that the ledger no longer names is given up: others wait for the worker."""
REGISTRATION_RETRY_BLOCKS = 10

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """What the owner decided about work for others."""

    role: str
    register: bool
    """Offer this machine to the network when the account can pay the bond."""
    name: str
    ask_price_nano: int
    """Per giga-gas; 0: the reference price."""
    bond_nano: int
    memory_bytes: int
    threads: int
    work_folder: Path
    kernels_folder: Path
    """Compiled kernels between starts."""
    log_path: Path
    cheats: Cheats
    device: str = "cpu"
    """Where exact arithmetic runs."""


class RoleRunner:
    """The roles of one node."""

    def __init__(self, node: NodeApi, key: SecretKey, peer_id: str, settings: RoleSettings) -> None:
        self._chain: ChainApi = node.chain
        self._settings = settings
        self.progress = Activity()
        """What is being done, for people and programs."""
        self._account = NodeAccount(self._chain, key)
        cache = settings.work_folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        self._worker = Worker(
            WorkerSettings(
                settings.threads,
                settings.memory_bytes,
                settings.log_path,
                cache,
                settings.work_folder,
                settings.kernels_folder,
                device=settings.device,
            )
        )
        materials = Materials(settings.work_folder, node.blobs, settings.threads, settings.device)
        self._materials = materials
        parts = (self._chain, self._account, materials, self._worker, self.progress)
        self._solver = Solver(*parts, peer_id, settings.memory_bytes, settings.cheats)
        self._verifier = Verifier(*parts, settings.cheats)
        self._disputant = Disputant(*parts, settings.cheats)
        self._profiler = Profiler(*parts)
        self._values = NativeValues(materials)
        self._discloser = Discloser(*parts, self._values, settings.cheats)
        self._whistleblower = Whistleblower(self._chain, self._account, materials, self._verifier, self.progress)
        self._offer = Offer(
            device_class=f"cpu-{platform.machine()}",
            memory_bytes=settings.memory_bytes,
            ask_price_nano=settings.ask_price_nano or REFERENCE_ASK_NANO,
            bond_nano=settings.bond_nano,
            endpoints=(peer_id,),
            name=settings.name,
        )
        machine = Machine(settings.memory_bytes, settings.device, False, False, 0, self._offer.ask_price_nano)
        self._chooser = Chooser(
            self._chain, self._account.address, settings.role, machine, settings.work_folder / "speed"
        )
        self._worker.on_step = self._chooser.speed.note
        self._actions: dict[str, Callable[[Duty], Awaitable[None]]] = {
            DUTY_START: self._solver.start,
            DUTY_TRAIN: self._solver.train,
            DUTY_VERIFY: self._verifier.verify,
            DUTY_REVEAL: self._verifier.reveal,
            DUTY_OPEN: self._solver.forced_errors.open,
            DUTY_UNSEAL: self._solver.forced_errors.unseal,
            DUTY_CONTEST: self._verifier.contest,
            DUTY_MOVE: self._disputant.move,
            DUTY_PROFILE: self._profiler.measure,
            DUTY_REVEAL_PROFILE: self._profiler.reveal,
            DUTY_DISCLOSE: self._discloser.disclose,
            DUTY_REVEAL_CHALLENGE: self._whistleblower.reveal,
        }
        self._running: set[tuple[object, ...]] = set()
        self._scopes: dict[tuple[object, ...], trio.CancelScope] = {}
        self._obsolete_since: dict[tuple[object, ...], int] = {}
        self._retry_at: dict[tuple[object, ...], int] = {}
        self._registration_height = 0
        self._told_mask: int | None = None
        """The mask that was last brought to the ledger's knowledge, or is on the way there."""
        self._warm = False
        self._repeats: bool | None = None
        """Whether the vendor kernels keep what native tasks need; None before it was tried."""

    @property
    def role(self) -> str:
        """The word of the role in force."""
        return self._chooser.role

    @property
    def _mask(self) -> int:
        return self._chooser.mask

    @property
    def activity(self) -> str:
        """What the node does for others now, or why it is idle, in one sentence."""
        return self.progress.sentence

    @property
    def sandbox(self) -> tuple[Measure, ...]:
        """What holds the training process in; empty before it first ran."""
        return self._worker.sandbox

    async def set_role(self, role: str) -> str:
        """Change the role: present duties are finished, new ones come by the new role. `Rejection` if unknown."""
        self._chooser.want(role)
        self._registration_height = 0
        await trio.lowlevel.checkpoint()
        return role

    def report(self) -> RoleReport:
        """What is offered and why, what is still being finished, who waits for the accelerator."""
        kinds = sorted({str(key[0]) for key in self._scopes if key[0] in self._actions})
        draining = (kind for kind in kinds if not _ROLE_OF.get(kind, self._mask) & self._mask)
        turnstile = self._worker.turnstile
        return self._chooser.report(draining, turnstile.holder, turnstile.queue, self.progress.failures)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with trio.open_nursery() as nursery, self._chain.blocks() as heights:
                nursery.start_soon(self._worker.supervise)
                await self._new_block(nursery, self._chain.head_height())
                async for height in heights:
                    await self._new_block(nursery, height)
        finally:
            await self._worker.stop()

    async def _new_block(self, nursery: trio.Nursery, height: int) -> None:
        if self._chain.syncing():
            self.progress.now("catching up with the chain")
            return
        self._chooser.new_block(height, trio.current_time())
        if self._mask != self._told_mask:
            self._told_mask, self._registration_height = self._mask, 0
        if self._mask and not self._warm:
            self._warm = True
            self._start(nursery, height, ("warm-up",), self._worker.warm_up)
        if height >= self._registration_height:
            self._start(nursery, height, ("registration",), self._register)
        if self._mask and self._repeats is None and self._chain.parameters.native_profilers:
            self._start(nursery, height, ("native-test",), self._try_native)
        view, address = self._chain.view(), self._account.address
        found = [duty for duty in duties(view, address, height) if duty.kind in self._actions]
        for duty in found:
            self._start(nursery, height, _key(duty), partial(self._do, duty))
        self._give_up_obsolete(height, {_key(duty) for duty in found})
        self._look_around(nursery, height)
        await self._forget_ended()
        if not self._running:
            self.progress.now(self._why_idle())

    async def _register(self) -> None:
        """Bring the ledger's record of this node in line with what it offers."""
        self._registration_height = self._chain.head_height() + REGISTRATION_RETRY_BLOCKS
        view, address = self._chain.view(), self._account.address
        provider = queries.provider(view, address)
        if provider is None and not self._settings.register:
            return
        balance, offered = queries.account(view, address).balance_nano, self._offered(provider)
        message = registration(provider, offered, self._offer, self._chain.parameters, balance)
        if message is not None:
            await self._account.send(message)
            log.info("provider_record_sent", message=type(message).__name__, role=self.role)
        if offered == self._offered(provider) and (provider is not None or message is not None):
            # In line now: nothing to do until the offer changes.
            self._registration_height = 1 << 62

    def _offered(self, provider: Provider | None) -> int:
        """The roles, and native tasks where this machine's vendor kernels passed their test; untested, as before."""
        if not self._mask or not self._chain.parameters.native_profilers:
            return self._mask
        if self._repeats is None:
            return self._mask | (provider.roles & OFFERS_NATIVE if provider else 0)
        return self._mask | OFFERS_NATIVE if self._repeats else self._mask

    async def _try_native(self) -> None:
        """Test the vendor kernels once; nothing else waits for it, and the chain is told afterwards."""
        self._repeats = await repeats_itself(self._worker, self._settings.threads)
        self._registration_height = 0

    def _look_around(self, nursery: trio.Nursery, height: int) -> None:
        """Compare evidence on what this node verified; audit one instalment that others verified."""
        if not self._mask:
            return
        provider = queries.provider(self._chain.view(), self._account.address)
        if provider is None:
            return
        for task_id in dict.fromkeys(provider.work):
            task = queries.task(self._chain.view(), task_id)
            if task is None or task.state in TASK_ENDED or task.solver == self._account.address:
                continue
            for number in range(task.settled, task.committed):
                key = ("cross-check", task_id, number)
                self._start(nursery, height, key, partial(self._whistleblower.cross_check, task_id, number))
        if self._mask & ROLE_WHISTLEBLOWER and not self._worker.busy and not self._accelerator_is_wanted():
            look = self._whistleblower.next_look(self._chooser.machine, self._chooser.seen, height)
            if look is not None and not any(key[0] == "audit" for key in self._running):
                audited = ("audit", look.audit.task_id)  # Names the task: its files stay for as long.
                self._start(nursery, height, audited, partial(self._whistleblower.audit, look))

    def _accelerator_is_wanted(self) -> bool:
        """Whether a duty that needs it is under way, waiting included: audits are for idle hours."""
        return any(key[0] in NEED_ACCELERATOR for key in self._running)

    async def _do(self, duty: Duty) -> None:
        """One duty, with its claim on the accelerator."""
        task = queries.task(self._chain.view(), duty.task_id)
        CLAIM.set(claim_of(duty, task.gas_per_step if task else 0))
        await self._actions[duty.kind](duty)

    def _start(
        self,
        nursery: trio.Nursery,
        height: int,
        key: tuple[object, ...],
        action: Callable[[], Awaitable[None]],
    ) -> None:
        if key not in self._running and self._retry_at.get(key, 0) <= height:
            self._running.add(key)
            nursery.start_soon(self._attempt, key, action)

    async def _attempt(self, key: tuple[object, ...], action: Callable[[], Awaitable[None]]) -> None:
        """Do it; what goes wrong is shown and tried again, as long as it is due.

        An error of our own as well: a role works on what strangers made, beside a node that votes and has to stay up.
        """
        self._retry_at.pop(key, None)
        try:
            with trio.CancelScope() as self._scopes[key]:
                await action()
        except* (Rejection, Unconfirmed, OSError) as group:
            error = _first(group)
            self.progress.failed(str(key[0]), error)
            log.warning("duty_failed", duty=str(key[0]), error=str(error))
            self._retry_at[key] = self._chain.head_height() + RETRY_BLOCKS
        except* Exception as group:
            error = _first(group)
            self.progress.failed(str(key[0]), error)
            log.error("duty_crashed", duty=str(key[0]), exc_info=group)
            self._retry_at[key] = self._chain.head_height() + CRASH_RETRY_BLOCKS
        finally:
            self._running.discard(key)
            del self._scopes[key]

    def _give_up_obsolete(self, height: int, named: set[tuple[object, ...]]) -> None:
        """Stop work that nobody waits for any more; a few blocks' grace lets what is just done come to its end."""
        obsolete = {key for key in self._scopes if key[0] in self._actions and key not in named}
        self._obsolete_since = {key: self._obsolete_since.get(key, height) for key in obsolete}
        for key, since in self._obsolete_since.items():
            if height - since >= OBSOLETE_BLOCKS:
                log.info("duty_obsolete", duty=str(key[0]))
                self._scopes[key].cancel()

    async def _forget_ended(self) -> None:
        """Delete the working files of tasks that are over."""
        view = self._chain.view()
        for task_id in self._materials.tasks():
            task = queries.task(view, task_id)
            if task is not None and task.state in TASK_ENDED and not any(task_id in key for key in self._running):
                await self._values.forget(task_id)
                self._materials.forget(task_id)

    def _why_idle(self) -> str:
        if not self._mask and self._chooser.role == AUTO:
            return f"idle: auto offers nothing now: {self._chooser.why}"
        view, address = self._chain.view(), self._account.address
        provider = queries.provider(view, address)
        bond = bond_and_reserve(self._offer.bond_nano, self._chain.parameters)
        open_tasks = []
        if provider is not None:
            with suppress(Rejection):
                open_tasks = queries.why_provider(view, address)
        return why_idle(self._mask, provider, bond, queries.account(view, address).balance_nano, open_tasks)


_ROLE_OF = {
    DUTY_START: ROLE_SOLVER,
    DUTY_TRAIN: ROLE_SOLVER,
    DUTY_OPEN: ROLE_SOLVER,
    DUTY_UNSEAL: ROLE_SOLVER,
    DUTY_CONTEST: ROLE_VERIFIER,
    DUTY_VERIFY: ROLE_VERIFIER,
    DUTY_REVEAL: ROLE_VERIFIER,
    DUTY_PROFILE: ROLE_VERIFIER,
    DUTY_REVEAL_PROFILE: ROLE_VERIFIER,
    DUTY_DISCLOSE: ROLE_SOLVER,
    DUTY_REVEAL_CHALLENGE: ROLE_WHISTLEBLOWER,
}
"""The role that brings a duty; a dispute's moves belong to whoever is in it."""


def _key(duty: Duty) -> tuple[object, ...]:
    """Names one piece of work; a dispute's next move is another one, because its due height moves on."""
    due = duty.due_height if duty.kind == DUTY_MOVE else 0
    return duty.kind, duty.task_id, duty.attempt, duty.instalment, duty.dispute_id, due


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception of a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
