"""Places in an instalment's verification: whoever is drawn binds a bond and a duty to one."""

from __future__ import annotations

from consensus.ledger import money
from consensus.ledger.providers import add_duty
from consensus.ledger.records import VERIFICATION_DRAWN, Instalment, Provider, Verification
from consensus.ledger.schedule import slot_bond
from consensus.ledger.view import State


def fill_slot(
    state: State,
    height: int,
    instalment: Instalment,
    provider: Provider,
    segments: tuple[int, ...],
    *,
    watch: bool = False,
    refusals: int = 0,
) -> Instalment:
    """Give a drawn provider a slot over these segments, at its own ask, under the key that is drawn now."""
    task_id, number, ask = instalment.task_id, instalment.number, provider.ask_price_nano
    task, spec = state.task(task_id), state.spec(task_id)
    bond = slot_bond(spec, task.gas_per_step, number, ask, task.solver_bond_nano, state.parameters)
    money.lock(state, provider.address, bond)
    add_duty(state, provider.address, task_id, verifying=1)
    slot = Verification(
        verifier=provider.address,
        state=VERIFICATION_DRAWN,
        segments=segments,
        price_nano=ask,
        bond_nano=bond,
        drawn_height=height,
        commitment=b"",
        findings=(),
        initial_root=b"",
        fee_nano=0,
        watch=watch,
        evidence_beacon=instalment.evidence_beacon,
        refusals=refusals,
    )
    return state.change_instalment(task_id, number, verifications=(*instalment.verifications, slot))
