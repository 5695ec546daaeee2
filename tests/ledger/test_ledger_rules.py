"""Envelopes, money, stake, providers and submission: what is applied, what is refused, and with which code."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from ledger_world import CHAIN, DATASET, GSN, PROGRAM, Actor, World, key, spec

from consensus.ledger import keys, queries, stake_queries
from consensus.ledger.block import Misbehaviour
from consensus.ledger.duties import duties
from consensus.ledger.execute import check_transaction, dry_run, execute_block
from consensus.ledger.fees import fee_for
from consensus.ledger.genesis import check_parameters, genesis_delta
from consensus.ledger.invariants import check_invariants
from consensus.ledger.messages import (
    Bond,
    CancelTask,
    CommitInstalment,
    Heartbeat,
    Message,
    PauseProvider,
    PublishProgram,
    RegisterProvider,
    ResumeProvider,
    StartTask,
    SubmitTask,
    Transfer,
    Unbond,
    UpdateProvider,
    VerdictCommit,
    WithdrawProvider,
    decode_transaction,
    encode_transaction,
    sign_transaction,
    validator_key_proof_bytes,
)
from consensus.ledger.parameters import devnet_parameters, mainnet_parameters
from consensus.ledger.records import Genesis, GenesisAccount, GenesisValidator
from consensus.ledger.schedule import instalment_segments, instalment_steps, segment_count, segment_span
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection

TO_BOB = Transfer(key("bob").address, 5 * GSN)

# --- envelopes


def test_a_transfer_moves_money_and_its_fee_goes_into_the_blocks_rewards() -> None:
    world = World()
    result = world.do("alice", TO_BOB)
    assert world.balance("bob") == 1_005 * GSN
    assert world.balance("alice") == 995 * GSN - result.fee_nano
    treasury = result.fee_nano // 10
    assert queries.supply(world.ledger).treasury_nano == treasury
    assert queries.supply(world.ledger).fees_nano == result.fee_nano - treasury
    world.block()
    assert queries.supply(world.ledger).rewards_nano >= result.fee_nano - treasury
    assert queries.account(world.ledger, key("alice").address).nonce == 1


def signed(
    world: World, message: Message = TO_BOB, *, chain: str = CHAIN, nonce: int = 0, fee: int | None = None
) -> bytes:
    alice = key("alice")
    fee = fee_for(world.parameters, chain, alice, nonce, message) if fee is None else fee
    return encode_transaction(sign_transaction(alice, chain, nonce, fee, message))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda world: b"\x00", "E1002"),
        (lambda world: b"", "E1002"),
        (lambda world: bytes(400_000), "E1001"),
        (lambda world: signed(world) + b"\x00", "E1002"),
        (lambda world: signed(world)[:-1] + b"\x00", "E1005"),
        (lambda world: signed(world, chain="other"), "E1201"),
        (lambda world: signed(world, nonce=1), "E1202"),
        (lambda world: signed(world, fee=10), "E1203"),
        (lambda world: signed(world, fee=2_000 * GSN), "E1204"),
    ],
)
def test_a_refused_envelope_changes_nothing_at_all(make: Callable[[World], bytes], code: str) -> None:
    world = World()
    root = world.ledger.root
    (result,) = world.raw_block(make(world))
    assert (result.code, result.fee_nano) == (code, 0)
    assert world.ledger.root == root and world.deltas[-1].writes == ()


def test_a_replayed_transaction_is_refused() -> None:
    world = World()
    data = signed(world)
    assert [result.code for result in world.raw_block(data, data)] == ["", "E1202"]
    assert world.raw_block(data)[0].code == "E1202"
    assert world.balance("bob") == 1_005 * GSN


def test_a_refused_message_costs_nonce_and_fee_only() -> None:
    world = World()
    assert world.refused("alice", Transfer(key("bob").address, 5_000 * GSN)) == "E1204"
    assert queries.account(world.ledger, key("alice").address).nonce == 1
    assert world.balance("alice") < 1_000 * GSN and world.balance("bob") == 1_000 * GSN


def test_a_block_has_room_for_its_units_only_and_the_rest_is_not_charged() -> None:
    parameters = msgspec.structs.replace(devnet_parameters(), block_units_max=500)
    world = World(parameters)
    results = world.block(*[("alice", TO_BOB)] * 4)
    codes = [result.code for result in results]
    assert codes.count("") == 500 // results[0].units and codes[-1] == "E1205"
    assert results[-1].fee_nano == 0


def test_the_mempools_check_accepts_later_nonces_and_a_dry_run_tells_the_reason() -> None:
    world = World()
    later = signed(world, nonce=3)
    check_transaction(world.ledger, decode_transaction(later), len(later))
    world.do("alice", TO_BOB)
    used = signed(world, nonce=0)
    with pytest.raises(Rejection, match="bad_nonce"):
        check_transaction(world.ledger, decode_transaction(used), len(used))
    hopeless = signed(world, CancelTask(bytes(32)), nonce=1)
    result = dry_run(world.ledger, world.context(world.height + 1), hopeless)
    assert result.code == "E1311" and bytes(32).hex() in result.message
    assert queries.account(world.ledger, key("alice").address).nonce == 1


def test_known_signatures_are_not_checked_again_and_unknown_ones_always() -> None:
    world = World()
    data = signed(world)
    bad = data[:-1] + bytes([data[-1] ^ 1])
    context = world.context(1)
    assert execute_block(world.ledger, context, [bad]).results[0].code == "E1005"
    first = execute_block(world.ledger, context, [data])
    known = {first.results[0].transaction_id}
    assert execute_block(world.ledger, context, [data], known).app_hash == first.app_hash


# --- stake


def test_bonding_a_new_validator_changes_the_set_and_unbonding_pays_out_later() -> None:
    world = World()
    new = key("second validator")
    proof = new.sign(validator_key_proof_bytes(CHAIN, key("alice").address))
    assert world.refused("alice", Bond(new.public, 5 * GSN, bytes(64))) == "E1208"
    assert world.refused("bob", Bond(new.public, 5 * GSN, proof)) == "E1208", "the proof names its operator"
    world.do("alice", Bond(new.public, 5 * GSN, proof))
    assert [(u.public_key, u.power) for u in world.deltas[-1].validator_updates] == [(new.public, 5)]
    assert world.refused("bob", Bond(new.public, 5 * GSN, b"")) == "E1207"
    assert world.refused("alice", Unbond(new.address, 6 * GSN)) == "E1206"
    assert world.refused("alice", Unbond(new.address, 5 * GSN - 1)) == "E1206", "neither zero nor the least stake"
    assert world.refused("bob", Unbond(new.address, GSN)) == "E1207"
    assert world.refused("alice", Unbond(bytes(20), GSN)) == "E1210"
    world.do("alice", Unbond(new.address, 5 * GSN))
    assert world.deltas[-1].validator_updates[0].power == 0
    waiting = world.balance("alice")
    for _ in range(world.parameters.unbonding_blocks + 2):
        assert world.balance("alice") == waiting
        world.block()
    assert world.balance("alice") == waiting + 5 * GSN


def test_the_last_validator_cannot_leave() -> None:
    world = World()
    assert world.refused("operator", Unbond(key("validator").address, 100 * GSN)) == "E1209"


def test_the_only_validator_pays_for_voting_twice_but_the_chain_goes_on() -> None:
    world = World()
    misbehaviour = Misbehaviour(key("validator").address, 1)
    delta = execute_block(world.ledger, msgspec.structs.replace(world.context(1), misbehaviours=(misbehaviour,)), [])
    assert [update.power for update in delta.validator_updates] == [95]


def test_voting_twice_costs_a_share_of_stake_and_of_what_is_leaving_once() -> None:
    world = World()
    other = key("other validator")
    proof = other.sign(validator_key_proof_bytes(CHAIN, key("alice").address))
    world.do("alice", Bond(other.public, 100 * GSN, proof))
    world.do("alice", Unbond(other.address, 40 * GSN))
    twice = (Misbehaviour(other.address, 1), Misbehaviour(other.address, 1))
    before = world.balance("operator")
    for _ in range(2):
        world.block_in(msgspec.structs.replace(world.context(world.height + 1), misbehaviours=twice))
        supply = queries.supply(world.ledger)
        assert world.balance("operator") - before == 3 * GSN * 40 // 100, "the proposer's operator found it"
        assert (supply.jackpot_nano, supply.burnt_nano) == (3 * GSN * 20 // 100, 3 * GSN * 40 // 100)
        assert stake_queries.delegations(world.ledger, key("alice").address)[0].unbonding[0].amount_nano == 38 * GSN
    assert queries.validators(world.ledger)[0].tombstoned or queries.validators(world.ledger)[1].tombstoned
    assert world.refused("alice", Bond(other.public, GSN, b"")) == "E1206"


# --- providers

OFFER = RegisterProvider(7, "cpu", 1 << 30, 10_000, 20 * GSN, (), "alice")
CHANGE = UpdateProvider(1, "cpu", 1 << 20, 20_000, GSN, (), "a")


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (msgspec.structs.replace(OFFER, roles=0), "E1301"),
        (msgspec.structs.replace(OFFER, roles=8), "E1301"),
        (msgspec.structs.replace(OFFER, ask_price_nano=1), "E1301"),
        (msgspec.structs.replace(OFFER, bond_nano=GSN), "E1301"),
        (msgspec.structs.replace(OFFER, bond_nano=2_000 * GSN), "E1204"),
    ],
)
def test_offers_out_of_bounds_are_refused(offer: RegisterProvider, code: str) -> None:
    assert World().refused("alice", offer) == code


def test_a_providers_life() -> None:
    world = World()
    for message in (CHANGE, PauseProvider(), ResumeProvider(), WithdrawProvider()):
        assert world.refused("alice", message) == "E1302"
    world.do("alice", OFFER)
    assert world.refused("alice", OFFER) == "E1303"
    assert world.refused("alice", ResumeProvider()) == "E1304"
    world.do("alice", CHANGE)
    provider = queries.provider(world.ledger, key("alice").address)
    assert provider is not None and (provider.bond_nano, provider.ask_price_nano) == (21 * GSN, 20_000)
    world.do("alice", PauseProvider())
    assert world.refused("alice", PauseProvider()) == "E1304"
    world.do("alice", ResumeProvider())
    world.do("alice", WithdrawProvider())
    assert queries.provider(world.ledger, key("alice").address) is None
    for _ in range(world.parameters.unbonding_blocks):
        world.block()
    assert world.balance("alice") > 999 * GSN
    world.do("alice", OFFER)


def test_a_provider_at_work_leaves_only_when_its_last_duty_is_over() -> None:
    world = World()
    world.crew("alice", "bob", "carol")
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.do(solver.name, WithdrawProvider())
    assert queries.provider(world.ledger, solver.address) is not None
    assert world.finish(task_id).state == "finished"
    assert queries.provider(world.ledger, solver.address) is None
    assert "provider_left" in world.kinds()


def test_a_provider_that_misses_duties_in_a_row_is_paused_and_may_resume() -> None:
    world = World()
    world.crew("alice", mute=("start",))
    for number in range(world.parameters.misses_until_paused):
        task_id = world.submit(spec(deadline_blocks=60, name=f"t{number}"))
        world.finish(task_id)
    provider = queries.provider(world.ledger, key("alice").address)
    assert provider is not None and provider.state == "paused"
    world.do("alice", ResumeProvider())


def test_the_registry_is_bounded() -> None:
    world = World(msgspec.structs.replace(devnet_parameters(), providers_max=1))
    world.do("alice", OFFER)
    assert world.refused("bob", OFFER) == "E1305"


# --- programs and submission


def test_programs_are_validated_and_published_once() -> None:
    world = World()
    bad = msgspec.structs.replace(PROGRAM, state_outputs=(0, 0))
    assert world.refused("alice", PublishProgram(encode(bad))).startswith("E15")
    assert world.refused("alice", PublishProgram(b"\x90")) == "E1002"
    assert world.refused("alice", SubmitTask(spec())) == "E1307"
    world.do("alice", PublishProgram(encode(PROGRAM)))
    assert world.refused("bob", PublishProgram(encode(PROGRAM))) == "E1306"


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"steps": 0}, "E1308", "steps"),
        ({"segment_steps": 0}, "E1308", "segment_steps"),
        ({"segment_steps": 2_000}, "E1308", "segment_steps"),
        ({"instalments": 0}, "E1308", "instalments"),
        ({"instalments": 7}, "E1308", "instalments"),
        ({"steps": 10_000}, "E1308", "instalments"),
        ({"arithmetic": "rep-v2"}, "E1308", "arithmetic"),
        ({"arithmetic": "native", "segment_steps": 11}, "E1308", "segment_steps"),
        ({"verifiers": 0}, "E1308", "verifiers"),
        ({"verifiers": 17}, "E1308", "verifiers"),
        ({"samples": 0}, "E1308", "samples"),
        ({"deadline_blocks": 1}, "E1308", "deadline_blocks"),
        ({"dataset_manifest": b"x"}, "E1308", "dataset_manifest"),
        ({"checkpoint_root": bytes(32)}, "E1308", "checkpoint_root"),
        ({"dataset": ()}, "E1309", "dataset"),
        ({"dataset": (msgspec.structs.replace(DATASET[0], name="y"),)}, "E1309", "dataset"),
        ({"dataset": (msgspec.structs.replace(DATASET[0], records=0),)}, "E1309", "dataset"),
        ({"dataset": (msgspec.structs.replace(DATASET[0], root=b""),)}, "E1309", "dataset"),
        ({"max_price_nano": 0}, "E1310", "max_price_nano"),
        ({"max_price_nano": 2_000 * GSN}, "E1204", ""),
    ],
)
def test_specs_out_of_bounds_are_refused_by_field(changes: dict[str, object], code: str, names: str) -> None:
    world = World()
    world.do("alice", PublishProgram(encode(PROGRAM)))
    assert world.refused("submitter", SubmitTask(spec(**changes))) == code
    assert names in world.deltas[-1].results[0].message


def test_solvers_messages_are_refused_from_others_and_at_other_times() -> None:
    world = World()
    world.crew("alice", "bob", "carol", mute=("start", "train"))
    assert world.refused("alice", StartTask(bytes(32))) == "E1311"
    task_id = world.submit()
    solver = world.solver_of(task_id)
    stranger = next(name for name in ("alice", "bob", "carol") if name != solver.name)
    empty = CommitInstalment(task_id, 0, bytes(32), (bytes(32),) * 3, (), (), ())
    for message in (StartTask(task_id), Heartbeat(task_id, 0, 0, b""), empty):
        assert world.refused(stranger, message) == "E1314"
    for message in (Heartbeat(task_id, 0, 0, b""), empty):
        assert world.refused(solver.name, message) == "E1312"
    world.do(solver.name, StartTask(task_id))
    assert world.refused(solver.name, StartTask(task_id)) == "E1312"
    assert world.refused(solver.name, Heartbeat(task_id, 13, 0, b"")) == "E1316"
    for changes in (
        {"instalment": 1},
        {"segment_roots": (bytes(32),) * 2},
        {"state_blobs": (bytes(32),)},
        {"losses": (1,)},
        {"initial_root": b""},
    ):
        assert world.refused(solver.name, msgspec.structs.replace(empty, **changes)) == "E1316"
    world.do(solver.name, Heartbeat(task_id, 2, 99, b""))
    assert (world.task(task_id).step, world.task(task_id).loss_bits) == (2, 99)
    assert world.refused(stranger, CancelTask(task_id)) == "E1313"
    world.do(solver.name, empty)
    assert world.refused(stranger, VerdictCommit(task_id, 1, 1, bytes(32))) == "E1317"
    assert world.refused("submitter", VerdictCommit(task_id, 0, 1, bytes(32))) == "E1318"
    world.do("submitter", CancelTask(task_id))
    assert world.refused("submitter", CancelTask(task_id)) == "E1312"


# --- schedule, genesis, queries


@pytest.mark.parametrize(("steps", "k", "instalments"), [(12, 2, 2), (13, 2, 3), (7, 3, 1), (600, 20, 4), (5, 5, 1)])
def test_segments_and_instalments_cover_every_step_once(steps: int, k: int, instalments: int) -> None:
    order = spec(steps=steps, segment_steps=k, instalments=instalments)
    spans = [segment_span(order, segment) for segment in range(segment_count(order))]
    assert [step for first, count in spans for step in range(first, first + count)] == list(range(steps))
    dealt = [segment for n in range(instalments) for segment in instalment_segments(order, n)]
    assert dealt == list(range(segment_count(order)))
    assert sum(instalment_steps(order, n)[1] for n in range(instalments)) == steps


def test_parameter_presets_are_valid_and_nonsense_is_refused() -> None:
    for parameters in (mainnet_parameters(), devnet_parameters()):
        check_parameters(parameters)
        for changes in ({"winner_bps": 9_000}, {"retry_blocks": 0}, {"miss_slash_bps": 10_001}):
            with pytest.raises(Rejection, match="bad_genesis"):
                check_parameters(msgspec.structs.replace(parameters, **changes))


def test_a_genesis_that_cannot_start_is_refused() -> None:
    validator = GenesisValidator(key("v").public, key("o").address, 10 * GSN, "v")
    account = GenesisAccount(key("a").address, GSN)
    good = Genesis(CHAIN, 0, (validator,), (account,), devnet_parameters())
    assert genesis_delta(good).validator_updates[0].power == 10
    for changes in (
        {"validators": ()},
        {"validators": (validator, validator)},
        {"accounts": (account, account)},
        {"chain_id": ""},
        {"validators": (msgspec.structs.replace(validator, stake_nano=1),)},
        {"accounts": (GenesisAccount(key("a").address, (1 << 63) - 1),)},
    ):
        with pytest.raises(Rejection, match="bad_genesis"):
            genesis_delta(msgspec.structs.replace(good, **changes))


def test_why_says_what_excludes_whom() -> None:
    world = World()
    world.register(Actor("alice"), ask=10**18)
    world.register(Actor("bob"), bond=10 * GSN, ask=10**16)
    world.do("carol", RegisterProvider(2, "cpu", 1 << 30, 10**13, 50 * GSN, (), "carol"))
    world.do("dave", RegisterProvider(7, "cpu", 1 << 10, 10**13, 50 * GSN, (), "dave"))
    world.do("erin", RegisterProvider(7, "cpu", 1 << 30, 10**13, 50 * GSN, (), "erin"))
    world.do("erin", PauseProvider())
    task_id = world.submit(spec(max_price_nano=30 * GSN))
    world.block()
    why = {entry.provider: entry for entry in queries.why_task(world.ledger, task_id)}
    words = {name: why[key(name).address].why for name in ("alice", "bob", "carol", "dave", "erin")}
    assert words == {"alice": "price", "bob": "bond", "carol": "role", "dave": "memory", "erin": "state"}
    dave = why[key("dave").address]
    assert (dave.have, dave.need) == (1 << 10, world.task(task_id).memory_bytes)
    assert queries.why_provider(world.ledger, key("dave").address) == [dave]
    world.do("erin", ResumeProvider())
    world.until(lambda: world.task(task_id).solver == key("erin").address)
    assert queries.why_task(world.ledger, task_id) == []


def test_duties_say_all_that_a_role_needs() -> None:
    world = World()
    world.crew("alice", "bob", "carol", patient=True, mute=("start", "train", "verify"))
    task_id = world.submit()
    solver = world.solver_of(task_id)

    def of(actor: Actor) -> dict[str, object]:
        return {duty.kind: duty for duty in duties(world.ledger, actor.address, world.height)}

    assert set(of(solver)) == {"start"}
    solver.mute = ()
    world.step()
    train = of(solver)["train"]
    assert (train.instalment, train.first_step, train.steps, train.start_root) == (0, 0, 6, b"")  # type: ignore[attr-defined]
    world.step()
    world.step()
    assert set(of(solver)) == {"serve", "train"}
    slot = world.instalment(task_id).verifications[0]
    verify = of(world.actors[world.name_of(slot.verifier)])["verify"]
    assert tuple(work.segment for work in verify.segments) == slot.segments  # type: ignore[attr-defined]
    assert verify.check_initial and verify.endpoints == (solver.name,)  # type: ignore[attr-defined]
    assert duties(world.ledger, key("nobody").address, world.height) == []


def test_lists_are_paged_newest_first() -> None:
    world = World()
    ids = [world.submit(spec(name=str(number), deadline_blocks=20)) for number in range(70)]
    assert [task.task_id for task in queries.tasks(world.ledger, 5)] == ids[:-6:-1]
    assert [task.task_id for task in queries.tasks(world.ledger, 10, before=2)] == ids[-3:-13:-1]
    assert len(queries.tasks(world.ledger, 100)) == 70


def test_broken_books_are_noticed() -> None:
    world = World()
    forged = dict(world.ledger.items())
    account = msgspec.structs.replace(queries.account(world.ledger, key("alice").address), balance_nano=1)
    forged[keys.account(key("alice").address)] = encode(account)
    with pytest.raises(InvariantViolation, match="balances_nano"):
        check_invariants(forged.items(), world.height)
