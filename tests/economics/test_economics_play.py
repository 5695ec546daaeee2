"""One task of the simulation: money is conserved, and each cheat meets what the ledger has for it."""

from __future__ import annotations

import random

import pytest

from consensus.ledger.parameters import Parameters, mainnet_parameters
from consensus.ledger.schedule import solver_bond
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.fate import Chance
from gensyn_node.economics.play import Play
from gensyn_node.economics.population import Population, populate
from gensyn_node.economics.shape import shape
from gensyn_node.economics.simulate import campaign
from gensyn_node.economics.strategies import BY_NAME, CHEATS, HONEST_ROLES

PARAMETERS = mainnet_parameters()
SHAPE = shape(8, 2)
FREE = Assumptions(margin_bps=1 << 80, capital_bps_per_year=0, value_bps=0)
"""Nothing costs anything but what the ledger takes."""


def crowd(name: str, bad_bps: int = 5_000) -> Population:
    return populate(40, bad_bps, (BY_NAME[name],), random.Random(name))


def free_of_fees(parameters: Parameters) -> Parameters:
    fields = {name: getattr(parameters, name) for name in parameters.__struct_fields__}
    return Parameters(**{**fields, "fee_base_nano": 0, "fee_per_unit_nano": 0})


@pytest.mark.parametrize("strategy", CHEATS, ids=lambda one: one.name)
def test_money_is_neither_made_nor_lost(strategy: object) -> None:
    name = getattr(strategy, "name", "")
    agents = crowd(name)
    play = Play(agents, SHAPE, free_of_fees(PARAMETERS), FREE, Chance(agents, FREE, random.Random(3)))
    for _ in range(40):
        result = play.task()
        earned = sum(duty.profit_nano for duty in result.duties)
        assert earned + result.submitter_nano + result.burnt_nano + result.jackpot_nano == 0
        assert result.settled == SHAPE.spec.instalments or result.expired


def test_who_trains_nothing_loses_its_bond_whatever_is_drawn() -> None:
    agents = crowd("skip all")
    play = Play(agents, SHAPE, free_of_fees(PARAMETERS), FREE, Chance(agents, FREE, random.Random(5)))
    result = play.task(cheat_first=True)
    cheat = next(duty for duty in result.duties if duty.label == "skip all")
    ask = play.population.providers[cheat.agent].ask_price_nano
    assert cheat.profit_nano == -solver_bond(SHAPE.spec, SHAPE.gas_per_step, ask, PARAMETERS)
    assert result.attempts > 1 and result.wrong == 0


def test_every_strategy_and_honest_role_is_counted() -> None:
    for strategy in CHEATS:
        found = campaign((strategy,), 3_000, 60, PARAMETERS, Assumptions(), agents=100, cheat_first=True)
        assert found.tally(strategy.name).count > 0, strategy.name
        assert found.tasks == 60
        assert found.unfinished <= (6 if strategy.verifier in ("silent", "unrevealing") else 0), strategy.name
    crowd_of_all = campaign(CHEATS, 3_000, 60, PARAMETERS, Assumptions(), agents=100)
    for role in HONEST_ROLES:
        assert crowd_of_all.tally(role).count > 0, role


def test_the_same_seed_plays_the_same() -> None:
    first, second = (campaign(CHEATS, 3_000, 30, PARAMETERS, Assumptions(), agents=100, seed=7) for _ in range(2))
    assert first == second
