"""Incremental snapshots: for any run and any cut, the facts so far and the fold of the rest are the fold of all."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import attrs
import pytest

from model.fuzzing import chance
from model.lockstep import core_step
from model.scenarios import script
from model.written.lives import happening
from model.written.snapshots import Keeper, changes, everything
from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig, SlotPolicy
from statemachine.core.events import HOST, ROOT, Close, Spawn
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import AgentsClosed, Cause, MailAccepted, MailKind, Outcome, Record
from statemachine.core.session import Session
from statemachine.log.recovery import durable_facts, fold
from statemachine.log.snapshot import TOUCHED, AgentFacts, facts_of, ledger_of, touched


def play(seed: int, late: bool, seen: Counter[str]) -> None:
    """One random run, with snapshots at random moments."""
    rnd = Random(seed)
    config = chance.config_of(rnd.randbytes(chance.CONFIG_BYTES))
    s, whole, keeper = Session(config), fold(config, ()), Keeper(config, late)
    for number in range(150):
        s, step = core_step(s, happening(rnd, s))
        for record in step.records:
            changed, before, after = changes(whole, record)
            assert changed <= before & after, f"seed {seed}, event {number}, {record}"
            seen[record.__class__.__name__] += 1
        keeper.take(step.records, s.ledger)
        if rnd.random() < 0.15:
            keeper.snapshot(s.ledger)
            seen.update([f"{agent.status.name} {agent.identity.name}" for agent in s.agents])
        if number % 5 == 0:
            found = keeper.recovered()
            assert durable_facts(found) == durable_facts(s.ledger), f"seed {seed}, event {number}"
            assert everything(found) == everything(whole), f"seed {seed}, event {number}"


@pytest.mark.parametrize("late", [False, True])
def test_snapshots_and_tail_of_a_random_run_give_what_the_whole_log_gives(late: bool) -> None:
    seen: Counter[str] = Counter()
    for seed in range(80):
        play(seed, late, seen)
    wanted = {kind.__name__ for kind in TOUCHED} | {f"{status.name} OPEN" for status in TurnState}
    assert wanted - set(seen) == set()
    assert {"COMPLETED CLOSED", "INTERRUPTED CLOSED"} <= set(seen)


def played(config: SessionConfig, *lines: str) -> tuple[Session, list[Record]]:
    s = Session(config)
    log: list[Record] = []
    for line in lines:
        s, step = core_step(s, script.parse(line, s))
        log += step.records
    return s, log


def test_touched_by_a_second_close_names_those_that_stay_closed_when_the_target_is_resumed() -> None:
    config = SessionConfig()
    before = ("spawn root a", "loaded a", "spawn a b", "close host a", "resume host a")
    s, _ = played(config, *before)
    assert s.agents[2].closed_by == 1
    after, log = played(config, *before, "close host a")
    record = log[-1]
    assert record == AgentsClosed(1, (1,))
    assert after.agents[2].closed_by == 2
    assert touched((record,), s.ledger) == touched((record,), after.ledger) == {1, 2}
    resumed, _ = played(config, *before, "close host a", "resume host a")
    assert touched((record,), resumed.ledger) == {1, 2}


@pytest.mark.parametrize("status", [status for status in TurnState if status >= TurnState.QUEUED])
@pytest.mark.parametrize("ended", [None, TurnState.ERRORED])
def test_facts_of_a_turn_that_a_crash_would_forget_are_those_of_after_the_crash(
    status: TurnState, ended: TurnState | None
) -> None:
    outcome = None if ended is None else Outcome(1, 3, ended, "why", Cause.FAILED)
    agent = Agent(1, 0, "/root/a", 1, None, status=status, turn=4, outcome=outcome)
    facts = facts_of(Session().ledger, agent)
    if status > TurnState.STARTING:
        assert (facts.status, facts.turn) == (TurnState.RUNNING, 4)
    else:
        assert (facts.status, facts.turn) == (ended or TurnState.NEW, 3)
    assert facts.name == "a"


def test_facts_of_a_turn_that_was_returned_and_asked_for_again_are_those_of_after_the_return() -> None:
    ledger = Session(SessionConfig(max_attempts=3)).ledger
    ledger.attempts[1] = 1
    outcome = Outcome(1, 3, TurnState.ERRORED, "why", Cause.FAILED)
    facts = facts_of(ledger, Agent(1, 0, "/root/a", 1, None, status=TurnState.STARTING, turn=5, outcome=outcome))
    assert (facts.status, facts.turn, facts.outcome, facts.attempts) == (TurnState.NEW, 4, outcome, 1)


def test_ledger_of_facts_keeps_of_a_turn_what_its_configuration_may_return() -> None:
    program = ("spawn root a by host", "send host a", "loaded a")
    s, _ = played(SessionConfig(max_attempts=2), *program)
    facts = [facts_of(s.ledger, agent) for agent in s.agents]
    assert [mail.mail for mail in ledger_of(s.config, facts, s.ledger.mail_states).agents[1].taken] == [0, 1]
    once = ledger_of(SessionConfig(max_attempts=1), facts, s.ledger.mail_states)
    assert [mail.mail for mail in once.agents[1].taken] == [0]


def test_ledger_of_nothing_is_that_of_a_new_session() -> None:
    config = SessionConfig(notice=Notice.NONE)
    assert everything(ledger_of(config, (), (0, 0, 0))) == everything(Session(config).ledger)


def test_ledger_of_facts_follows_the_configuration_in_who_is_promised_a_notice() -> None:
    s, _ = played(SessionConfig(slot_policy=SlotPolicy.LIVE_THREADS), "spawn root a", "loaded a", "follow_up root a")
    facts = [facts_of(s.ledger, agent) for agent in s.agents]
    states = tuple(s.ledger.mail_states)
    assert ledger_of(s.config, facts, states).agents[ROOT].promised == s.agents[ROOT].promised == 2
    assert ledger_of(SessionConfig(notice=Notice.NONE), facts, states).agents[ROOT].promised == 0


other: Any = attrs.evolve  # which asks for more than type checkers know of facts

MAIL = MailAccepted(0, HOST, 1, MailKind.TRIGGER, "work")
A = AgentFacts(1, ROOT, "a", None, Identity.OPEN, -1, TurnState.NEW, 0, None, (), ())


@pytest.mark.parametrize(
    ("facts", "mail_states"),
    [
        ([other(A, agent=2)], (0, 0, 0)),
        ([A, A], (0, 0, 0)),
        ([other(A, parent=1)], (0, 0, 0)),
        ([other(A, parent=-1)], (0, 0, 0)),
        ([A, other(A, agent=2)], (0, 0, 0)),
        ([other(A, mailbox=(MAIL,))], (0, 1, 0)),
        ([A], (1, 0, 0)),
        ([A], (0, 0)),
        ([A], (0, -1, 0)),
        ([other(A, mailbox=(other(MAIL, target=0),))], (1, 0, 0)),
        ([other(A, taken=(other(MAIL, target=0),))], (0, 1, 0)),
    ],
    ids=[
        *("gap", "twice", "own parent", "no parent", "path twice", "mail not counted", "no mail counted", "two states"),
        *("negative", "mail of another", "taken of another"),
    ],
)
def test_ledger_of_facts_that_no_log_has_is_refused(facts: list[AgentFacts], mail_states: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ledger_of(SessionConfig(), facts, mail_states)


def test_facts_of_earlier_versions_say_the_target_of_the_close_and_are_read_as_closed_together() -> None:
    s = Session(SessionConfig(max_concurrent=5, slot_policy=SlotPolicy.LIVE_THREADS))
    for parent, name in ((0, "a"), (1, "b"), (2, "c"), (3, "d")):
        s.handle(Spawn(parent, name, "work", None, HOST))
    s.handle(Close(HOST, 4))
    s.handle(Close(HOST, 1))
    facts: list[Any] = [facts_of(s.ledger, agent) for agent in s.agents]
    earlier = [attrs.evolve(f, closed_by={1: 1, 2: 1, 3: 1, 4: 4}.get(f.agent, -1)) for f in facts]
    assert earlier != facts
    for known in (facts, earlier):
        ledger = ledger_of(s.config, known, s.ledger.mail_states)
        assert [agent.closed_by for agent in ledger.agents] == [-1, 1, 1, 2, 4]
