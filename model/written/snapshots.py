"""Judges snapshots: for any run and any cut, the facts so far and the fold of the rest are the fold of all; and facts
that no log has are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import attrs

from statemachine.core.config import Notice, SessionConfig, SlotPolicy
from statemachine.core.events import HOST, ROOT, Close, Spawn
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, MailState, TurnState
from statemachine.core.records import MailAccepted, MailKind, Record
from statemachine.core.session import Session
from statemachine.log.recovery import apply, durable_facts, fold, forget, recover, restart
from statemachine.log.snapshot import AgentFacts, WrongFacts, facts_of, ledger_of, touched

from .lives import life

ABOUT_THREADS = ("residency", "generation")
"""What a fold does not know of an agent."""
other: Any = attrs.evolve  # which asks for more than type checkers know of facts


def everything(ledger: Ledger) -> tuple[Any, ...]:
    """Returns all that a fold sets, field by field, whatever `durable_facts` says of it."""
    agents = [attrs.asdict(a, recurse=False, filter=lambda f, _: f.name not in ABOUT_THREADS) for a in ledger.agents]
    return agents, {name: getattr(ledger, name) for name in Ledger.__slots__ if name != "agents"}


class Keeper:
    """What a store keeps: facts of agents, and the records since the last snapshot.

    `late` looks for the touched agents only when the snapshot is taken, with the ledger of that moment.
    """

    def __init__(self, config: SessionConfig, late: bool = False) -> None:
        self.config, self.late = config, late
        self.facts: dict[int, AgentFacts] = {}
        self.mail_states = (0,) * len(MailState)
        self.tail: list[Record] = []
        self.touched: set[int] = set()

    def take(self, records: tuple[Record, ...], ledger: Ledger) -> None:
        """Keeps the records of a step."""
        self.tail += records
        if not self.late:
            self.touched |= touched(records, ledger)

    def snapshot(self, ledger: Ledger) -> None:
        """Keeps the facts of the agents that were touched, and no records."""
        self.touched |= touched(self.tail if self.late else (), ledger)
        self.facts |= {agent: facts_of(ledger, ledger.agents[agent]) for agent in self.touched}
        self.mail_states = tuple(ledger.mail_states)
        self.tail.clear()
        self.touched.clear()

    def recovered(self) -> Ledger:
        """Returns what facts and records come to."""
        ledger = ledger_of(self.config, [self.facts[agent] for agent in sorted(self.facts)], self.mail_states)
        for record in self.tail:
            apply(ledger, record)
        return ledger


def changes(ledger: Ledger, record: Record) -> tuple[set[int], set[int], set[int]]:
    """Returns whose facts the record changes, and who is said to be touched, before and after it is applied."""
    old, before = {agent.id: facts_of(ledger, agent) for agent in ledger.agents}, touched((record,), ledger)
    apply(ledger, record)
    changed = {agent.id for agent in ledger.agents if old.get(agent.id) != facts_of(ledger, agent)}
    return changed, before, touched((record,), ledger)


def lives_fold(seeds: Iterable[int]) -> Iterator[str]:
    """Yields what is wrong with snapshots of random lives, at random moments."""
    for seed in seeds:
        rnd = Random(seed)
        lived = life(rnd)
        s, _, _ = next(lived)
        whole, keeper = fold(s.config, ()), Keeper(s.config, late=bool(seed % 2))
        for number, (s, _, step) in enumerate(lived):
            assert step is not None
            for record in step.records:
                changed, before, after = changes(whole, record)
                if not changed <= before & after:
                    yield f"seed {seed}, event {number}: {record} is not said to touch {changed}"
            keeper.take(step.records, s.ledger)
            if rnd.random() < 0.15:
                keeper.snapshot(s.ledger)
            if number % 5 == 0:
                found = keeper.recovered()
                if durable_facts(found) != durable_facts(s.ledger) or everything(found) != everything(whole):
                    yield f"seed {seed}, event {number}: snapshot and rest are not the whole"


def logs_are_recovered(seeds: Iterable[int]) -> Iterator[str]:
    """Yields which logs of random lives are recovered otherwise than what their sessions know, or at another time."""
    for seed in seeds:
        log: list[Record] = []
        for number, (s, _, step) in enumerate(life(Random(seed))):
            log += () if step is None else step.records
            if number % 10 == 0:
                now = float(number)
                found, said = recover(s.config, log, now)
                meant, expected = restart(s.config, forget(s.ledger), now)
                if (said.records, said.effects, found.now) != (expected.records, expected.effects, now):
                    yield f"seed {seed}, event {number}: recovery comes to {said!r:.200}, not {expected!r:.200}"
                if (found.fingerprint(), durable_facts(found.ledger)) != (
                    meant.fingerprint(),
                    durable_facts(meant.ledger),
                ):
                    yield f"seed {seed}, event {number}: another session is recovered"


# Facts that no log has

MAIL = MailAccepted(0, HOST, 1, MailKind.TRIGGER, "work")
A = AgentFacts(1, ROOT, "a", None, Identity.OPEN, -1, TurnState.NEW, 0, None, (), ())
B = other(A, agent=2, name="b")
WRONG: tuple[tuple[str, tuple[AgentFacts, ...], tuple[int, ...], int | None], ...] = (
    ("a gap", (other(A, agent=2),), (0, 0, 0), 1),
    ("a gap behind others", (A, other(B, agent=3)), (0, 0, 0), 2),
    ("a gap before a forgotten agent", (other(A, agent=2, identity=Identity.FORGOTTEN),), (0, 0, 0), 1),
    ("an agent twice", (A, A), (0, 0, 0), 1),
    ("the root after others", (A, other(A, agent=ROOT)), (0, 0, 0), 0),
    ("an agent that is its own parent", (other(A, parent=1),), (0, 0, 0), 1),
    ("an agent without a parent", (other(A, parent=-1),), (0, 0, 0), 1),
    ("a parent that comes later", (other(A, parent=2), B), (0, 0, 0), 1),
    ("two open agents at a path", (A, other(A, agent=2)), (0, 0, 0), 2),
    ("mail that is not counted", (other(A, mailbox=(MAIL,)),), (0, 1, 0), None),
    ("mail that is counted and not there", (A,), (1, 0, 0), None),
    ("too few states of mail", (A,), (0, 0), None),
    ("too many states of mail", (A,), (0, 0, 0, 0), None),
    ("fewer mails than none", (A,), (0, -1, 0), None),
    ("unread mail of another", (other(A, mailbox=(other(MAIL, target=0),)),), (1, 0, 0), 1),
    ("read mail of another", (other(A, taken=(other(MAIL, target=0),)),), (0, 1, 0), 1),
    ("mail of an agent that is not there", (other(A, mailbox=(other(MAIL, target=7),)),), (1, 0, 0), 1),
)
"""What is wrong, the facts, how many mails are in which state, and the agent that the error names (None: none)."""


def wrong_is_refused() -> Iterator[str]:
    """Yields which facts that no log has are taken, or refused with another agent's number."""
    for what, facts, states, agent in WRONG:
        try:
            ledger_of(SessionConfig(), facts, states)
        except WrongFacts as error:
            if error.agent != agent or not str(error):
                yield f"{what} is said of agent {error.agent}: {error}"
        except ValueError as error:
            if agent is not None or not str(error):
                yield f"{what} is said of no agent: {error}"
        else:
            yield f"{what} is taken"


def right_is_taken() -> Iterator[str]:
    """Yields which facts, as they may be, are refused or come to something else."""
    for notice in Notice:
        config = SessionConfig(notice=notice)
        if everything(ledger_of(config, (), (0, 0, 0))) != everything(Session(config).ledger):
            yield f"no facts are not a new session, with {notice}"
    if ledger_of(SessionConfig(), (A, B), (0, 2, 1)).next_mail != 3:
        yield "mails are not counted on"
    s = Session(SessionConfig(max_concurrent=6, slot_policy=SlotPolicy.LIVE_THREADS))
    for parent, name in ((0, "a"), (1, "b"), (2, "c"), (3, "d"), (1, "e")):
        s.handle(Spawn(parent, name, "work", None, HOST))
    s.handle(Close(HOST, 4))
    s.handle(Close(HOST, 5))
    s.handle(Close(HOST, 1))
    now: list[Any] = [facts_of(s.ledger, agent) for agent in s.agents]
    earlier = [other(f, closed_by={1: 1, 2: 1, 3: 1, 4: 4, 5: 5}.get(f.agent, -1)) for f in now]
    for known in (now, earlier):
        ledger = ledger_of(s.config, known, s.ledger.mail_states)
        if [agent.closed_by for agent in ledger.agents] != [-1, 1, 1, 2, 4, 5]:
            yield f"closed by {[f.closed_by for f in known]} is read as {[a.closed_by for a in ledger.agents]}"
