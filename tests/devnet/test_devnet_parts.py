"""Local networks without starting one: genesis, homes, process files, scenario files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from consensus.ledger.genesis import check_genesis, genesis_hash
from consensus.ledger.parameters import devnet_parameters
from gensyn_node.config.genesis import genesis_validators, read_genesis
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import read_config
from gensyn_node.devnet import layout, processes
from gensyn_node.devnet.account_book import Book, Line, rewards_between, whole
from gensyn_node.devnet.crowd import fairness_of
from gensyn_node.devnet.genesis import derive_keys, make_genesis, patient_parameters
from gensyn_node.devnet.scenario import Network, find_scenario, parse_scenario, read_scenario, scenario_names
from gensyn_node.devnet.story import parameters_of, plans_of
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk.task_file import read_task_file

SCENARIOS = Path(__file__).parents[2] / "devnet" / "scenarios"
SEED = b"\x07" * 32


def test_genesis_is_a_function_of_its_seed() -> None:
    made = [make_genesis(derive_keys(seed, 4), "devnet-x", 1_700_000_000_000) for seed in (SEED, SEED, b"\x08" * 32)]
    assert genesis_hash(made[0]) == genesis_hash(made[1]) != genesis_hash(made[2])
    check_genesis(made[0])
    assert genesis_validators(made[0]).total_power == 4000


def test_all_keys_differ() -> None:
    keys = derive_keys(SEED, 3)
    everyone = [key.public for node in keys.nodes for key in (node.account, node.consensus, node.p2p)]
    assert len({*everyone, keys.client.public, keys.faucet.public}) == 11
    assert derive_keys(SEED, 5).nodes[:3] == keys.nodes


def test_some_nodes_may_only_follow() -> None:
    genesis = make_genesis(derive_keys(SEED, 4), "devnet-x", 1, validators=3)
    assert (len(genesis.validators), len(genesis.accounts)) == (3, 6)


@pytest.mark.parametrize(("block_ms", "scale"), [(1000, 1), (500, 2), (200, 5), (3000, 1)])
def test_time_outs_last_as_long_in_seconds(block_ms: int, scale: int) -> None:
    plain, patient = devnet_parameters(), patient_parameters(block_ms)
    assert patient.verify_blocks_base == scale * plain.verify_blocks_base
    assert patient.window_blocks == plain.window_blocks


def test_peer_id_is_libp2p_s() -> None:
    # The public key of seed 0 … 0 and its name, as libp2p's own libraries print it.
    assert layout.peer_id(SecretKey(bytes(32))) == "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


def test_homes_are_complete(tmp_path: Path) -> None:
    plans = layout.plans_with_cheats(3, ("flip-bit@step=37",))
    devnet = layout.create_devnet(tmp_path, plans, seed=SEED)
    assert devnet.chain_id.startswith("devnet-")
    assert layout.open_devnet(tmp_path) == devnet
    configs = [read_config(home) for home in devnet.homes]
    assert [config.devnet.cheat for config in configs] == ["", "", "flip-bit@step=37"]
    assert len({config.rpc.port for config in configs} | {config.p2p.listen for config in configs}) == 6
    assert all(len(config.p2p.seeds) == 2 for config in configs)
    assert len({genesis_hash(read_genesis(home.genesis)) for home in (*devnet.homes, devnet.client)}) == 1
    assert not list(tmp_path.glob("**/rpc.token"))
    with pytest.raises(Rejection) as error:
        layout.create_devnet(tmp_path, plans)
    assert error.value.reason.code == "E1872"
    layout.remove_devnet(devnet)
    assert list(tmp_path.iterdir()) == []


def test_a_cheater_asks_less_than_the_honest() -> None:
    honest, _, _, flips = layout.plans_with_cheats(4, ("flip-bit@step=1",))
    assert flips.ask_nano_per_gigagas * 1000 < honest.ask_nano_per_gigagas
    assert layout.plans_with_cheats(4, ("lazy-verifier",))[3].role == "verifier"
    assert {plan.ask_nano_per_gigagas for plan in layout.plans_with_cheats(4, ())} == {0}


@pytest.mark.parametrize("cheats", [("lazy-verifier",) * 2, ("steal",), ("flip-bit@step=x",)])
def test_impossible_cheats_are_refused(tmp_path: Path, cheats: tuple[str, ...]) -> None:
    with pytest.raises(Rejection):
        layout.create_devnet(tmp_path, layout.plans_with_cheats(2, cheats))


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[Home, subprocess.Popen[bytes]]]:
    """A home whose process is one that only sleeps, with a child that sleeps as well."""
    home = Home(tmp_path / "node0")
    home.make()
    child = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    process = subprocess.Popen([sys.executable, "-c", child + "print('up', flush=True)\ntime.sleep(600)"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield home, process
    finally:
        for one in (*psutil.Process(process.pid).children(), process) if process.poll() is None else ():
            one.kill()
        process.wait()
        process.stdout.close()


def write_pid(home: Home, pid: int, started: float) -> None:
    (home.path / processes.PID_FILE).write_text(json.dumps({"pid": pid, "started": started}))


def test_stopping_ends_a_node_and_its_children(sleeper: tuple[Home, subprocess.Popen[bytes]]) -> None:
    home, process = sleeper
    started = psutil.Process(process.pid)
    family = [started, *started.children(recursive=True)]
    write_pid(home, process.pid, started.create_time())
    assert len(family) == 2
    processes.stop_homes((home,))
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)
    assert not (home.path / processes.PID_FILE).exists()


def test_a_stale_file_stops_no_stranger(sleeper: tuple[Home, subprocess.Popen[bytes]]) -> None:
    home, process = sleeper
    write_pid(home, process.pid, psutil.Process(process.pid).create_time() - 5)
    processes.stop_homes((home,))
    assert process.poll() is None
    (home.path / processes.PID_FILE).write_text("junk")
    processes.stop_homes((home,))
    assert process.poll() is None


def test_a_dead_node_is_told_with_its_log(tmp_path: Path) -> None:
    devnet = layout.create_devnet(tmp_path, layout.plans_with_cheats(1, ()), seed=SEED)
    (devnet.homes[0].log / processes.LOG_FILE).write_text("first\nlast words\n")
    with pytest.raises(Rejection) as error:
        processes.check_alive(devnet)
    assert error.value.reason.code == "E1874"
    assert "last words" in error.value.message


def test_a_node_that_cannot_start_is_noticed_and_nothing_stays(tmp_path: Path) -> None:
    devnet = layout.create_devnet(tmp_path, layout.plans_with_cheats(1, ()), seed=SEED)
    devnet.homes[0].genesis.write_bytes(b"junk")
    with pytest.raises(Rejection) as error, processes.running(devnet):
        pass
    assert error.value.reason.code == "E1874", "not that it took too long"
    assert processes.node_states(devnet)[0].pid is None


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_scenario_files_are_valid(path: Path) -> None:
    if path.stem.startswith("digits-task"):
        assert read_task_file(path).train.steps >= (40 if path.stem.endswith("-small") else 600)
        return
    scenario = read_scenario(path)
    assert scenario.name == path.stem
    layout.plans_with_cheats(scenario.network.nodes, scenario.network.cheats)
    assert (SCENARIOS / scenario.task).is_file()
    parameters_of(scenario.network)
    assert find_scenario(path.stem) == path and path.stem in scenario_names()


def test_unknown_scenarios_and_parameters_are_named() -> None:
    with pytest.raises(Rejection, match=r"known: .*flip-bit"):
        find_scenario("flip")
    with pytest.raises(Rejection, match="no parameter 'luck'"):
        parameters_of(Network(parameters={"luck": 1}))
    assert parameters_of(Network(parameters={"window_blocks": 3})).window_blocks == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "Bad Name"\n', "line 1, name"),
        ('name = "a"\ntitle = "t"\ntask = "t"\ndata = "mnist"\n', "line 4, data"),
        ('name = "a"\ntitle = "t"\ntask = "t"\ndata = "digits"\n[network]\nnodes = 0\n', "line 6, network.nodes"),
        ('name = "a"\ntitle = "t"\ntask = "t"\ndata = "digits"\n[expect]\nluck = 1\n', "line 6, expect.luck"),
    ],
)
def test_bad_scenarios_name_the_line(text: str, said: str) -> None:
    with pytest.raises(Rejection) as error:
        parse_scenario(text)
    assert error.value.reason.code == "E1876"
    assert said in error.value.message


def line(part: str, before_nano: int, after_nano: int, earned_nano: int, slashed_nano: int, noted_nano: int) -> Line:
    return Line("node", part, before_nano, after_nano, earned_nano, slashed_nano, noted_nano)


def test_liars_have_to_lose_and_the_honest_must_not() -> None:
    good = (line("honest", 10, 11, 2, 0, 0), line("flip-bit@step=37", 10, 5, 1, 5, 5), line("killed", 10, 9, 0, 1, 1))
    assert whole((*good, line("client", 10, 1, 0, 0, 0), line("faucet", 10, 10, 0, 0, 0))) == []
    for bad, said in (
        (line("honest", 10, 9, 0, 1, 1), "is honest, lost 1 nano of bond, 0 otherwise"),
        (line("honest", 10**9, 1, 0, 0, 0), "is honest, lost 0 nano of bond, 999999999 otherwise"),
        (line("honest", 10, 13, 2, 0, 0), "is honest, lost 0 nano of bond, -1 otherwise"),
        (line("lazy-verifier", 10, 15, 6, 1, 1), "earned 6 nano and lost 1"),
        (line("lazy-verifier", 10, 10, 0, 0, 0), "earned 0 nano and lost 0"),
        (line("lazy-verifier", 10, 5, 0, 5, 4), "fell by 5 nano, slashed were 4"),
    ):
        assert said in " ".join(whole((*good, bad)))


def test_fairness_is_one_when_all_do_as_much() -> None:
    assert fairness_of([5, 5, 5]) == fairness_of([0, 0]) == 1.0
    assert fairness_of([9, 0, 0]) == pytest.approx(1 / 3)


def test_roles_of_liars_fit_their_lies() -> None:
    cheats = ("colluder@step=1", "colluder@step=1", "equivocation", "false-accuser@step=1", "withheld-data")
    roles = [plan.role for plan in layout.plans_with_cheats(6, cheats)]
    assert roles == ["auto", "solver", "verifier", "none", "verifier", "solver"]


@pytest.mark.parametrize("ends", [Network(kill_solver_after=1), Network(restart_solver=True)])
def test_the_node_that_tells_a_story_is_not_the_one_that_is_killed(ends: Network) -> None:
    """Drawn to solve, it would be ended, and with it the story: as often as one in `nodes`."""
    assert [plan.role for plan in plans_of(ends)] == ["verifier", "auto", "auto", "auto"]
    assert plans_of(Network()) == layout.plans_with_cheats(4, ())


def test_a_book_notices_lost_money() -> None:
    assert Book({}, {"balances": 5, "burnt": 2, "minted": 7}).conserved
    assert not Book({}, {"balances": 5, "burnt": 1, "minted": 7}).conserved


def test_new_money_between_two_books_is_whole_block_rewards() -> None:
    before, after = (Book({}, {"balances": minted, "minted": minted}, 3) for minted in (7, 13))
    assert rewards_between(before, after) == 6
    assert rewards_between(after, after) == 0
    assert rewards_between(after, before) is None
    assert rewards_between(before, Book({}, {"balances": 12, "minted": 12}, 3)) is None
