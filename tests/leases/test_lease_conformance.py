"""The statements of leases and the model go the same way, and a statement with a defect is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from attrs import frozen

from model.leases.conformance import Diverged, cover, follow, wander
from model.leases.defects import ForgetsAsks
from model.leases.explore import explore
from model.leases.fleet import Fleet
from model.leases.scopes import find
from model.leases.world import NONE, Event, Scope
from model.postgres_server import Server
from statemachine.hosting import leases
from statemachine.stores.postgres import statements
from tests.stores.databases import sql

CALM = Scope("calm", (1, 1), 1, "one session, and nothing fails")
TWO = Scope(
    "two", (1, 1), 2, "two sessions with open work, and processes are killed", asks=False, faults=frozenset({"crash"})
)
ALL = Scope(
    name="all",
    capacities=(2, 2, 3),
    sessions=3,
    meaning="every fault",
    faults=frozenset({"crash", "pause", "cut", "drain", "restart", "late"}),
)


@pytest.fixture
def fleet(postgres: Server, numbers: Iterator[int]) -> Iterator[Callable[[Scope], Fleet]]:
    """Makes the workers of a scope, in a database of their own."""
    name, made = f"conformance_{next(numbers)}", list[Fleet]()
    sql(postgres.dsn("x"), f"CREATE DATABASE {name}")

    def make(scope: Scope) -> Fleet:
        made.append(Fleet(postgres.dsn(database=name), scope))
        return made[-1]

    yield make
    for each in made:
        each.close()
    sql(postgres.dsn("x"), f"DROP DATABASE {name} WITH (FORCE)")


LATE = find("late")
NIGHTLY = [find(name) for name in ("restart", "late", "crash")]


@pytest.mark.parametrize("scope", [CALM, TWO], ids=lambda scope: scope.name)
def test_every_step_of_a_scope_is_the_same_in_the_database(fleet: Callable[[Scope], Fleet], scope: Scope) -> None:
    found, steps = cover(fleet(scope)), steps_of(scope)
    assert (found.steps + found.unchosen, found.unmapped) == (steps, 0)
    assert found.unchosen == 0 or scope.sessions > 1


@pytest.mark.nightly
@pytest.mark.parametrize("scope", NIGHTLY, ids=lambda scope: scope.name)
def test_every_step_of_a_larger_scope_is_the_same_in_the_database(
    fleet: Callable[[Scope], Fleet], scope: Scope
) -> None:
    found = cover(fleet(scope))
    assert (found.steps, found.unchosen, found.unmapped) == (steps_of(scope), 0, 0)


def test_walks_of_chance_with_every_fault_are_the_same_in_the_database(fleet: Callable[[Scope], Fleet]) -> None:
    found = wander(fleet(ALL), seed=7, walks=6)
    assert found.walks == 6
    assert {"poll", "balance", "open", "append", "commit", "crash", "cut", "pause", "drain"} <= set(found.events)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_many_walks_of_chance_are_the_same_in_the_database(fleet: Callable[[Scope], Fleet], seed: int) -> None:
    wander(fleet(ALL), seed, walks=40)


def steps_of(scope: Scope) -> int:
    """The steps of the graph of a scope: from where, by an event of which name, to where."""
    graph = explore(scope).graph
    return len({(n, step.event.name, step.to) for n, steps in enumerate(graph.steps) for step in steps})


# Defects

ASK = Event("ask", NONE, 0)
TICK = Event("tick")
OPENED = (ASK, Event("poll", 0), Event("balance", 0), Event("open", 0, 0))
"""A worker has the session open."""
BEGINS = Event("append", 0, 0)
WRITTEN = (BEGINS, Event("commit", 0, 0))
"""The first append makes work of asks, the second ends that, and each is another statement."""
TAKEN = (TICK, TICK, Event("poll", 1))
"""The other worker takes it for dead."""


@frozen
class Defect:
    """A statement in other words, of which the walks must notice that they are wrong."""

    meaning: str
    name: str
    right: str
    wrong: str
    scope: Scope
    way: int | tuple[Event, ...]
    """The seed of a walk that notices it, or the events, where chance seldom goes."""
    module: ModuleType = leases

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Has the product make this statement."""
        whole: str = getattr(self.module, self.name)
        assert whole.count(self.right) == 1, f"{self.name} is said otherwise"
        monkeypatch.setattr(self.module, self.name, whole.replace(self.right, self.wrong))


EPOCH = "AND s.epoch = $2"
LOCK = "FOR SHARE OF s SKIP LOCKED"
DEFECTS = (
    Defect("a burial does not raise the epoch", "BURY", "epoch = s.epoch + 1", "epoch = s.epoch", ALL, 2),
    Defect(
        "a burial waits for an append", "BURY", "FOR UPDATE SKIP LOCKED", "FOR UPDATE", LATE, (*OPENED, BEGINS, *TAKEN)
    ),
    Defect("a burial leaves the owner", "BURY", "worker = NULL", "worker = worker", ALL, 2),
    Defect(
        "a burial says that the session needs no owner",
        "BURY",
        "worker = NULL",
        "worker = NULL, wanted = false",
        ALL,
        2,
    ),
    Defect(
        "the row of a dead worker goes while it owns a session",
        "BURIED",
        "AND NOT EXISTS",
        "AND 1 = 1 OR NOT EXISTS",
        LATE,
        4,
    ),
    Defect(
        "silence is not looked at",
        "DEAD",
        "beat < clock_timestamp()",
        "beat < '-infinity'::timestamptz + '1s' AND beat < clock_timestamp()",
        LATE,
        4,
    ),
    Defect("connections are not looked at", "DEAD", " OR pg_try_advisory_xact_lock_shared(id)", "", ALL, 2),
    Defect("who speaks is dead", "DEAD", "beat < clock", "beat > clock", LATE, 4),
    Defect("the ttl is half as long", "DEAD", "secs => %(ttl)s", "secs => %(ttl)s / 2", LATE, 1),
    Defect("a claim does not raise the epoch", "CLAIM", "epoch = s.epoch + 1", "epoch = s.epoch", ALL, 2),
    Defect("a claim takes what another worker has", "CLAIM", "AND s.worker IS NULL ", "", ALL, 3),
    Defect("a claim takes what needs no owner", "CLAIM", "s.wanted AND ", "", ALL, 2),
    Defect(
        "a worker that was buried claims",
        "CLAIM",
        "SELECT id FROM statemachine.workers WHERE id = %(me)s AND NOT draining FOR UPDATE",
        "SELECT %(me)s::bigint AS id",
        LATE,
        (ASK, Event("poll", 0), *TAKEN, Event("balance", 0)),
    ),
    Defect("a claim takes one too many", "CLAIM", "LIMIT %(most)s", "LIMIT %(most)s + 1", ALL, 3),
    Defect("a claim takes the last ones", "CLAIM", "ORDER BY s.id", "ORDER BY s.id DESC", ALL, 3),
    Defect(
        "what was asked for meanwhile is unloaded",
        "UNLOAD",
        "AND asked = %(asked)s",
        "AND %(asked)s = %(asked)s",
        LATE,
        (ASK, *OPENED, *WRITTEN, *WRITTEN, ASK, Event("unload", 0, 0)),
    ),
    Defect("what has a request is unloaded", "UNLOAD", "AND NOT EXISTS", "AND true OR NOT EXISTS", ALL, 2),
    Defect(
        "what another worker has is unloaded",
        "UNLOAD",
        "AND worker = %(me)s AND epoch = %(epoch)s",
        "AND %(epoch)s > 0",
        LATE,
        (*OPENED, *WRITTEN, *WRITTEN, *TAKEN, Event("unload", 0, 0)),
    ),
    Defect("what is unloaded still needs an owner", "UNLOAD", "wanted = false", "wanted = true", LATE, 4),
    Defect(
        "a handover says that the session needs no owner",
        "RELEASE",
        "worker = NULL",
        "worker = NULL, wanted = false",
        ALL,
        3,
        statements,
    ),
    Defect("a handover leaves the owner", "RELEASE", "worker = NULL", "worker = worker", LATE, 4, statements),
    Defect(
        "a session that was not opened is given back without being wanted",
        "GIVE_BACK",
        "worker = NULL",
        "worker = NULL, wanted = false",
        ALL,
        4,
    ),
    Defect("a session that was not opened is not given back", "GIVE_BACK", "worker = NULL", "worker = worker", ALL, 4),
    Defect(
        "an ask of a session that is there is forgotten",
        "ASK",
        "SET wanted = true",
        "SET wanted = sessions.wanted",
        ALL,
        2,
    ),
    Defect("the first ask of a session is forgotten", "ASK", "true, 1)", "false, 1)", LATE, 2),
    Defect("asks are not counted", "ASK", "sessions.asked + 1", "sessions.asked", ALL, 2),
    Defect(
        "an ask takes the session from its owner",
        "ASK",
        "SET wanted = true",
        "SET worker = NULL, wanted = true",
        LATE,
        2,
    ),
    Defect(
        "a worker that leaves stays in the table",
        "LEAVE",
        "DELETE FROM statemachine.workers WHERE",
        "DELETE FROM statemachine.workers WHERE false AND",
        ALL,
        1,
    ),
    Defect(
        "a worker that drains does not say so",
        "BEAT",
        "draining = %(draining)s",
        "draining = %(draining)s AND false",
        ALL,
        1,
    ),
    Defect("a heartbeat is not written", "BEAT", "beat = clock_timestamp(), ", "", LATE, 1),
    Defect(
        "free sessions are counted alone",
        "COUNTS",
        "(SELECT count(*) FROM statemachine.sessions WHERE wanted),",
        "(SELECT count(*) FROM statemachine.sessions WHERE wanted AND worker IS NULL),",
        LATE,
        2,
    ),
    Defect("workers that drain count", "COUNTS", "WHERE NOT draining", "", ALL, 3),
    Defect(
        "a poll frees what the worker has",
        "STRAY",
        "AND id <> ALL (%(held)s)",
        "AND %(held)s::bigint[] IS NOT NULL",
        LATE,
        2,
    ),
    Defect(
        "requests of other sessions are found",
        "ASKS",
        "session = ANY (%(held)s)",
        "%(held)s::bigint[] IS NOT NULL",
        LATE,
        2,
    ),
    Defect("requests that are done stay", "DONE", "id = ANY", "false AND id = ANY", LATE, 2),
    Defect(
        "an append of one session does not compare the epoch",
        "ONE",
        EPOCH,
        "AND %(epoch)b > 0",
        LATE,
        (*OPENED, *TAKEN, BEGINS),
        statements,
    ),
    Defect(
        "an append of several sessions does not compare the epoch",
        "PLAIN",
        "AND s.epoch = mine.epoch",
        "",
        LATE,
        (*OPENED, *WRITTEN, *TAKEN, BEGINS),
        statements,
    ),
    Defect(
        "an append with a receipt does not compare the epoch",
        "WHOLE",
        "AND s.epoch = mine.epoch",
        "",
        LATE,
        (*OPENED, *WRITTEN, *WRITTEN, *TAKEN, BEGINS),
        statements,
    ),
    Defect("an append of one session locks nothing", "ONE", LOCK, "", LATE, (*OPENED, BEGINS, *TAKEN), statements),
    Defect(
        "an append of several sessions locks nothing",
        "PLAIN",
        LOCK,
        "",
        LATE,
        (*OPENED, *WRITTEN, BEGINS, *TAKEN),
        statements,
    ),
    Defect("an append is never written", "ONE", EPOCH, "AND s.epoch > $2", LATE, 2, statements),
)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.meaning.replace(" ", "-"))
def test_statement_with_a_defect_parts_from_the_model(
    fleet: Callable[[Scope], Fleet], monkeypatch: pytest.MonkeyPatch, defect: Defect
) -> None:
    defect.plant(monkeypatch)
    with pytest.raises(Diverged):
        go(fleet(defect.scope), defect.way)


def go(fleet: Fleet, way: int | tuple[Event, ...]) -> None:
    """Takes a way."""
    if isinstance(way, int):
        wander(fleet, way, walks=1)
    else:
        follow(fleet, way)


@pytest.mark.parametrize("defect", [defect for defect in DEFECTS if isinstance(defect.way, tuple)], ids=str)
def test_events_that_notice_a_defect_are_the_same_on_both_sides_without_it(
    fleet: Callable[[Scope], Fleet], defect: Defect
) -> None:
    assert isinstance(defect.way, tuple)
    follow(fleet(defect.scope), defect.way)


def test_model_that_decides_otherwise_parts_from_the_statements(fleet: Callable[[Scope], Fleet]) -> None:
    with pytest.raises(Diverged, match="model and database differ") as found:
        follow(fleet(LATE), (ASK, *OPENED, *WRITTEN, *WRITTEN, ASK, Event("unload", 0, 0)), ForgetsAsks)
    said = str(found.value).splitlines()
    assert said[-3] == "  worker 0 leaves session 0, which is idle"
    assert "s0 idle" in said[-2]
    assert "s0 owned by w0" in said[-1]
