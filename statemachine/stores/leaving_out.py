"""Opens a session without agents whose rows are damaged: what else is in its log is folded as if they were forgotten.

An agent that is left out, and all below it, is as after `forget`: its id is not given again, and mail that it sent to
others stays. Its own mail counts as dead letters. What asked it for a turn is not answered, because how that turn ended
is not known; a handle or key of such a request raises `UnknownAgent`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import attrs
from attrs import frozen

from statemachine.core import exact
from statemachine.core.agents import Agent
from statemachine.core.events import ROOT
from statemachine.core.ledger import ACCEPTED, BURY, Ledger
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import AgentsClosed, AgentsForgotten, AgentSpawned, MailAccepted, NoticeBuried
from statemachine.core.residency import NO_AGENT
from statemachine.log.snapshot import TOUCHED, AgentFacts
from statemachine.sinks import log
from statemachine.stores.encoding import EncodingError
from statemachine.stores.errors import StoreError

LEFT_OUT = "%s is opened without agents %s, as asked: they and all below them are forgotten"
SPAWN = AgentSpawned.__name__
MAILS = (MailAccepted.__name__, NoticeBuried.__name__)
"""The records by which a mail gets its number."""


@frozen
class Unreadable:
    """A record that cannot be read, but for its class and whose rollout it belongs to, if to any."""

    kind: str
    agent: int | None
    error: EncodingError


def asked_ids(without: object) -> frozenset[int]:
    """Returns the ids of agents to be left out. Raises `TypeError` for what is not an id, and for the root's."""
    shown = exact.shown(without)
    found: tuple[object, ...] = tuple(cast("Iterable[object]", without)) if isinstance(without, Iterable) else (None,)
    if any(type(agent) is not int or agent <= ROOT for agent in found):
        raise TypeError(f"without has ids of agents other than the root, as [1, 2], not {shown}")
    return frozenset(cast("tuple[int, ...]", found))


def check_left_out(path: str, without: Iterable[int], ledger: Ledger) -> None:
    """Raises `StoreError` if one that is to be left out never was."""
    never = sorted(agent for agent in without if agent >= len(ledger.agents))
    if never:
        raise StoreError(path, f"there never was an agent {never[0]} to be left out")


def warn(path: str, left_out: Iterable[int]) -> None:
    """Names in the log the agents without which a session is opened."""
    named = ", ".join(map(str, sorted(left_out)))
    if named:
        log.warning(LEFT_OUT, path, named)


def gone(agent: int) -> AgentFacts:
    """Returns the facts of an agent of which nothing is known."""
    return AgentFacts(agent, NO_AGENT, "", None, Identity.FORGOTTEN, NO_AGENT, TurnState.NEW, 0, None, (), ())


def without(facts: Iterable[AgentFacts], left_out: set[int]) -> list[AgentFacts]:
    """Returns the facts without those of the agents that are left out, which then are all that are below them too.
    Theirs may be missing.
    """
    kept: list[AgentFacts] = []
    expected = ROOT
    for f in facts:
        kept += [gone(missing) for missing in range(expected, f.agent) if missing in left_out]
        expected = f.agent + 1
        if f.parent in left_out:
            left_out.add(f.agent)
        kept.append(gone(f.agent) if f.agent in left_out else f)
    return kept


def counts(facts: Iterable[AgentFacts], mail_states: Iterable[int]) -> Sequence[int]:
    """Returns the counts of mails: what was unread of agents that are left out is a dead letter."""
    states = list(mail_states)
    lost = states[ACCEPTED] - sum(len(f.mailbox) for f in facts)
    if lost > 0:
        states[ACCEPTED] -= lost
        states[BURY[ACCEPTED]] += lost
    return states


def whose(record: Any, ledger: Ledger) -> int | None:
    """Returns the one agent that a record is about, in a ledger of what came before; None: it is not about one."""
    kind, known = record.__class__, len(ledger.agents)
    agent: Any
    if kind is Unreadable:
        agent = known if record.kind == SPAWN else record.agent
    else:
        touched = TOUCHED.get(kind)
        agent = None if touched is None else touched(record)
    is_spawned = kind is AgentSpawned or (kind is Unreadable and record.kind == SPAWN)
    # What says whose it is may be damaged, too: one that never was cannot be left out.
    return agent if type(agent) is int and 0 <= agent < known + is_spawned else None


def seen_without(record: Any, ledger: Ledger, left_out: set[int]) -> Any:
    """Returns what a record says of the other agents; None: nothing."""
    kind = record.__class__
    if kind is AgentsClosed or kind is AgentsForgotten:
        others = tuple([agent for agent in record.agents if agent not in left_out])
        return attrs.evolve(record, agents=others) if others else None
    if kind is AgentSpawned and record.parent in left_out:
        left_out.add(record.agent)
    agent = whose(record, ledger)
    if agent not in left_out:
        return record
    name = record.kind if kind is Unreadable else kind.__name__
    if name == SPAWN:
        ledger.agents.append(Agent(len(ledger.agents), NO_AGENT, "", 0, None, Identity.FORGOTTEN))
    elif name in MAILS:
        ledger.bury_notice()
    return None
