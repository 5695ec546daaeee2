"""Gathers what is known of a node and of a task, for the reasons why nothing happens."""

from __future__ import annotations

from consensus.ledger import life, queries, stake_queries, why
from consensus.ledger.records import TASK_ENDED
from consensus.ledger.view import State
from gensyn_node.app import why_words
from gensyn_node.app.node import Node
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.policy import AUTO, bond_and_reserve, mask_of
from gensyn_node.rpc.backend import WhyView
from gensyn_node.rpc.reasons import NOT_FOUND

OPEN_LOOKED_AT = 256


def task_why(node: Node, task_id: bytes) -> WhyView:
    """Why a task has nobody. Raises Rejection NOT_FOUND."""
    view = node.ledger.view()
    task = queries.task(view, task_id)
    if task is None:
        raise Rejection(NOT_FOUND, f"there is no task {task_id.hex()}")
    found, state = why.why_task(view, task_id), State(view)
    instalments = [state.instalment(task_id, number) for number in life.unsettled(task)]
    return WhyView(
        sentence=why_words.task_sentence(found, task, instalments),
        causes=(),
        wanted=found.wanted,
        eligible=found.eligible,
        standings=tuple(why_words.standing_text(one) for one in found.standings),
        changes=tuple(why_words.change_text(one) for one in found.changes),
    )


def node_why(node: Node) -> WhyView:
    """Why this node has no work."""
    facts = _facts(node)
    found = facts.found
    return WhyView(
        sentence=why_words.node_sentence(facts, node.roles.activity if node.roles else ""),
        causes=tuple(why_words.causes(facts)),
        wanted=found.draws if found else 0,
        eligible=found.eligible if found else 0,
        standings=tuple(why_words.standing_text(one) for one in found.standings) if found else (),
        changes=tuple(why_words.change_text(one) for one in found.changes) if found else (),
    )


def _facts(node: Node) -> why_words.NodeFacts:
    view, address = node.ledger.view(), node.settings.account_key.address
    config, parameters = node.settings.config, queries.parameters(view)
    provider = queries.provider(view, address)
    report = node.roles.report() if node.roles else None
    role = node.roles.role if node.roles else why_words.NONE
    reasons = report.reasons if report else ()
    offered = sum(mask_of(name) for name in report.offered.split(", ")) if report else 0
    own = node.settings.consensus_key.address
    jailed = [one.unjail_height for one in stake_queries.candidates(view) if one.address == own]
    return why_words.NodeFacts(
        syncing=node.sync.syncing,
        peers=len(node.network.peers.connected()),
        disk_tight=node.room.tight,
        role=role,
        offered=offered,
        auto_why="; ".join(f"{one.role}: {one.why}" for one in reasons if not one.offered) if role == AUTO else "",
        register=config.provider.register,
        provider=provider,
        balance_nano=queries.account(view, address).balance_nano,
        needed_nano=bond_and_reserve(config.provider.bond_nano, parameters),
        jailed_until=max(jailed, default=0),
        failures=report.failures if report else (),
        found=why.why_provider(view, address) if provider is not None else None,
        open_tasks=sum(task.state not in TASK_ENDED for task in queries.tasks(view, OPEN_LOOKED_AT)),
    )
