"""A list, and the way from a path to an agent, look at what they are about and at nothing else (harm)."""

from __future__ import annotations

import random
from collections import Counter
from operator import attrgetter
from typing import Any

import pytest

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.events import HOST, ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity
from statemachine.core.session import Session
from statemachine.log.recovery import fold
from statemachine.log.snapshot import facts_of, ledger_of

CONFIG = SessionConfig(overflow=Overflow.QUEUE, max_depth=None)


class Counted(list[Any]):
    """The agents of a session, and how many of them were looked at."""

    looked_at = 0

    def __getitem__(self, index: Any) -> Any:
        self.looked_at += 1
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        for member in super().__iter__():
            self.looked_at += 1
            yield member


def spawned(session: Session, parent: int, name: str) -> int:
    reply = session.handle(ev.Spawn(parent, name, "x", sender=HOST)).reply
    assert isinstance(reply, fx.Spawned)
    return reply.agent


def listed(session: Session, prefix: str, closed: bool = False) -> list[str]:
    reply = session.handle(ev.ListAgents(prefix, closed)).reply
    assert isinstance(reply, fx.Listing)
    return [f"{agent.path} {agent.agent}" for agent in reply.agents]


def crowd() -> tuple[Session, Counted]:
    """Five hundred agents below one, three below another, and one of these closed."""
    session = Session(CONFIG)
    many, few = spawned(session, ROOT, "many"), spawned(session, ROOT, "few")
    for number in range(500):
        agent = spawned(session, many, f"m{number}")
        if number % 2:
            session.handle(ev.Close(HOST, agent))
    last = [spawned(session, few, f"f{number}") for number in range(3)][-1]
    session.handle(ev.Close(HOST, last))
    agents = Counted(session.agents)
    session.agents = session.ledger.agents = agents
    return session, agents


@pytest.mark.parametrize(
    ("prefix", "closed", "paths"),
    [
        ("/root/few", False, ["few", "few/f0", "few/f1"]),
        ("/root/few/", True, ["few", "few/f0", "few/f1", "few/f2"]),
        ("/root/few/f0", True, ["few/f0"]),
        ("/root/few/f2", True, ["few/f2"]),
        ("/root/few/f2", False, []),
        ("/root/fe", True, []),
        ("/root/gone", True, []),
    ],
)
def test_list_of_a_subtree_looks_at_that_subtree_alone(prefix: str, closed: bool, paths: list[str]) -> None:
    session, agents = crowd()
    assert [path.split()[0] for path in listed(session, prefix, closed)] == [f"/root/{path}" for path in paths]
    assert agents.looked_at <= len(paths) + 1


def test_path_is_found_or_unknown_without_looking_at_any_agent() -> None:
    session, agents = crowd()
    assert session.find_last("/root/many/m1") == 4
    assert session.find_last("/root/many/m2") == session.find("/root/many/m2") == 5
    assert session.find_last("/root/many/gone") is None
    assert agents.looked_at == 0


def by_definition(session: Session, prefix: str, closed: bool) -> list[str]:
    """What the specification says of a list."""
    known = [a for a in session.agents if a.identity is Identity.OPEN or (closed and a.identity is Identity.CLOSED)]
    found = [a for a in known if f"{a.path}/".startswith(f"{prefix}/")]
    return [f"{agent.path} {agent.id}" for agent in sorted(found, key=attrgetter("path", "id"))]


def closed_of(ledger: Ledger) -> dict[str, list[int]]:
    """The closed agents by path."""
    found = dict[str, list[int]]()
    for agent in ledger.agents:
        if agent.identity is Identity.CLOSED:
            found.setdefault(agent.path, []).append(agent.id)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_lists_and_paths_are_those_of_the_agents_whatever_was_opened_closed_and_forgotten(seed: int) -> None:
    rnd = random.Random(seed)
    session, records, seen, most_at_a_path = Session(CONFIG), list[Any](), Counter[str](), 0
    for _ in range(500):
        agent = rnd.randrange(len(session.agents))
        events: list[ev.Event] = [ev.Spawn(agent, rnd.choice("abc"), "x", sender=HOST)] * 3
        events += [ev.Close(HOST, agent), ev.Resume(HOST, agent)]
        if rnd.random() < 0.4:
            events.append(ev.Forget(agent))
        event = rnd.choice(events)
        step = session.handle(event)
        records += step.records
        if not isinstance(step.reply, fx.Refused):
            seen[type(event).__name__] += 1
        path = rnd.choice(session.agents).path or "/root/none"
        for closed in (False, True):
            assert listed(session, path, closed) == by_definition(session, path, closed)
        at = [a for a in session.agents if a.path == path]
        newest = max(at, key=lambda a: (a.identity is Identity.OPEN, a.id), default=None)
        assert session.find_last(path) == (None if newest is None else newest.id)
        most_at_a_path = max(most_at_a_path, len(at))
    assert min(seen[name] for name in ("Spawn", "Close", "Resume", "Forget")) > 5
    ledger = session.ledger
    assert most_at_a_path > 1
    folded = fold(CONFIG, records)
    facts = ledger_of(CONFIG, [facts_of(ledger, agent) for agent in ledger.agents], ledger.mail_states)
    for one in (ledger, ledger.copy(), session.fork().ledger, folded, facts):
        assert one.closed_at == closed_of(ledger)


def test_copy_of_a_ledger_keeps_its_own_closed_agents() -> None:
    session = Session(CONFIG)
    agent = spawned(session, ROOT, "a")
    session.handle(ev.Close(HOST, agent))
    copy = session.fork()
    session.handle(ev.Resume(HOST, agent))
    assert (session.ledger.closed_at, copy.ledger.closed_at) == ({}, {"/root/a": [agent]})
