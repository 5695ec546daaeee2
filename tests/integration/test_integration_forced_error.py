"""A result shown with an error on purpose, on a real network: who looks takes the jackpot, who does not is slashed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from integration_net import Told

from consensus.ledger.parameters import devnet_parameters

pytestmark = [pytest.mark.integration, pytest.mark.soak]


def test_a_lazy_verifier_approves_a_forced_error_and_an_honest_one_takes_the_jackpot(
    story: Callable[[str], Told],
) -> None:
    told = story("forced-error")
    ending, record, spec = told.ending, told.certificate.record, told.certificate.spec
    assert ending.failures == () and ending.state == "finished" and ending.money_conserved
    assert ending.slashed == ending.cheaters == ("node3",)
    assert len(ending.jackpots) == 1 and ending.jackpots[0] not in ending.cheaters + ending.solvers
    assert ending.disputes == (), "nobody has to argue about an error that was made on purpose"
    assert record.taxed_nano == record.solver_paid_nano * devnet_parameters().forced_tax_bps // 10_000
    paid = record.solver_paid_nano + record.verifiers_paid_nano + record.taxed_nano + record.refunded_nano
    assert paid == spec.max_price_nano
    assert {verdict.state for verdict in record.instalments[0].verdicts} == {"paid"}
