"""The audit of a log: a sound one holds, and of a damaged one the first record that is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from attrs import evolve

from model import lockstep
from model.audits import audit_tail
from model.audits.audit import Unsound, audit
from model.fuzzing import chance
from model.scenarios import script
from statemachine import HOST, Notice, Overflow, Session, SessionConfig
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    RECORDS,
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    Cause,
    LoadBegun,
    LoadEnded,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.log.recovery import restart
from statemachine.log.snapshot import AgentFacts, facts_of, ledger_of
from statemachine.stores.encoding import encode
from statemachine.stores.protocol import Entry, LogRecord

SMALL = SessionConfig(max_concurrent=2, overflow=Overflow.QUEUE)
LIFE = """
    spawn root a by host; loaded a; spawn a b; send host a; drain a; finished a; flushed a; loaded a/b; finished a/b;
    spawn root c by host; interrupt host c; close host c; resume host c; send host a/b
"""
Rows = dict[int, LogRecord]


class Log:
    """A log as a store keeps it: all records of a life by their positions, and snapshots of it after each."""

    def __init__(self, config: SessionConfig) -> None:
        self.config, self.session = config, Session(config)
        self.rows: Rows = {}
        self.facts: dict[int, tuple[list[AgentFacts], list[int]]] = {}
        self.snapshot()

    def play(self, event: lockstep.AnyEvent) -> None:
        self.session, step = lockstep.core_step(self.session, event)
        self.rows |= enumerate(step.records, len(self.rows) + 1)
        self.snapshot()

    def snapshot(self) -> None:
        ledger = self.session.ledger
        self.facts[len(self.rows)] = [facts_of(ledger, agent) for agent in ledger.agents], list(ledger.mail_states)

    def covered(self, cut: int) -> Rows:
        """What is kept once there is a snapshot at this position: of what it covers, the rollouts."""
        return {at: record for at, record in self.rows.items() if at > cut or encode(record)[1] is not None}


def life_of(program: str, config: SessionConfig = SMALL) -> Log:
    """The log of a program."""
    log = Log(config)
    for line in program.split(";"):
        log.play(script.parse(line.strip(), log.session))
    return log


def judged(log: Log, cut: int, rows: Rows | None = None, facts: Any = None) -> Unsound | None:
    """What the audit finds in the log, with a snapshot at this position."""
    agents, mail = log.facts[cut] if facts is None else facts
    found = log.covered(cut) if rows is None else rows
    try:
        audit(log.config, agents, mail, cut, sorted(found.items()))
    except Unsound as unsound:
        return unsound
    return None


# Sound logs


@pytest.mark.parametrize("seed", range(20))
def test_audit_of_a_random_life_with_a_snapshot_anywhere_finds_nothing(seed: int) -> None:
    random = Random(seed)
    log = Log(chance.config_of(random.randbytes(chance.CONFIG_BYTES)))
    for _ in range(200):
        code = random.randbytes(chance.BYTES)
        plays = random.choice((chance.ANYTHING, chance.TROUBLE, chance.PLENTY))
        calamity = random.random() < 0.02
        log.play(chance.calamity(code[0]) if calamity else chance.event_of(log.session, plays, code))
    for cut in random.sample(sorted(log.facts), min(8, len(log.facts))):
        assert judged(log, cut) is None, f"seed {seed}, snapshot at {cut}"


def test_lives_that_are_audited_have_every_kind_of_record() -> None:
    random = Random(2)
    log = Log(SessionConfig(max_concurrent=4, overflow=Overflow.QUEUE, notice=Notice.TRIGGER, max_attempts=2))
    for _ in range(1500):
        log.play(chance.event_of(log.session, chance.ANYTHING, random.randbytes(chance.BYTES)))
    shut_down = life_of("spawn root a by host; shutdown 5; loaded a")
    assert {type(record) for life in (log, shut_down) for record in life.rows.values()} == set(RECORDS)
    for life in (log, shut_down):
        assert judged(life, 0) is None
        assert judged(life, len(life.rows)) is None


def test_audit_of_a_turn_returned_after_a_session_that_kept_only_its_requests_finds_nothing() -> None:
    """Such a session has the default `max_attempts`; the next, which has more, finds no more than it kept."""
    log = life_of("spawn root a by host; send host a; loaded a; send host a")
    facts, mail_states = log.facts[len(log.rows)]
    log.config = evolve(SMALL, max_attempts=2)
    log.session, step = restart(log.config, ledger_of(log.config, facts, mail_states), 0.0)
    assert step.records[0] == TurnReturned(1, 1)
    assert [mail.mail for mail in log.session.agents[1].mailbox] == [0, 2]
    log.rows |= enumerate(step.records, len(log.rows) + 1)
    log.snapshot()
    assert judged(log, len(log.rows)) is None


# Damaged tails: nothing is covered by a snapshot


def outcome(agent: int, turn: int, status: TurnState = TurnState.COMPLETED) -> Outcome:
    """By a cause that allows of the turn to have started, and not to have."""
    causes = {TurnState.ERRORED: Cause.LOAD_FAILED, TurnState.INTERRUPTED: Cause.CLOSED}
    return Outcome(agent, turn, status, "result", causes.get(status, Cause.FINISHED))


def mail(number: int, target: int, sender: int = -1, text: str = "x", notice: Outcome | None = None) -> MailAccepted:
    return MailAccepted(number, sender, target, MailKind.QUEUE, text, notice)


NOT_TAKEN = Outcome(2, 1, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, HOST)
"""What answers requests of which no turn came."""

TAIL: dict[str, tuple[str, LogRecord, str]] = {
    "an id is left out": (LIFE, AgentSpawned(5, 0, "d", None), "agent 5 is spawned, the next one is 4"),
    "a child of a closed agent": (
        f"{LIFE}; close host c",
        AgentSpawned(4, 3, "d", None),
        "its parent 3 is not open",
    ),
    "a name that is none": (LIFE, AgentSpawned(4, 0, "Root!", None), "'Root!' is not a name"),
    "a path that is taken": (LIFE, AgentSpawned(4, 0, "a", None), "agent 1 is open at /root/a"),
    "a mail number is left out": (LIFE, mail(7, 1), "mail 7 is accepted, the next one is 6"),
    "mail for nobody": (LIFE, mail(6, 9), "does not begin with its first mail"),
    "mail for a closed agent": (f"{LIFE}; close host c", mail(6, 3), "its target 3 is not open"),
    "mail from a closed agent": (f"{LIFE}; close host c", mail(6, 1, 3), "its sender 3 is not open"),
    "mail without a text": (LIFE, mail(6, 1, text=""), "it has neither text nor outcome"),
    "a notice that is not true": (LIFE, mail(6, 1, 2, "", outcome(2, 7)), "the last turn of agent 2 did not end"),
    "a notice from another": (LIFE, mail(6, 3, 1, "", outcome(2, 1)), "it is not from agent 2, of which it tells"),
    "a notice with a text": (LIFE, mail(6, 1, 2, "x", outcome(2, 1)), "a notice has a text"),
    "a notice to itself": (LIFE, mail(6, 2, 2, "", outcome(2, 1)), "it is a notice to itself"),
    "a buried notice of an open agent": (LIFE, NoticeBuried(6, 1, outcome(2, 1)), "its target 1 is not closed"),
    "a buried notice out of order": (LIFE, NoticeBuried(5, 1, outcome(2, 1)), "mail 5 is accepted, the next one is 6"),
    "a buried notice that is not true": (
        f"{LIFE}; close host c",
        NoticeBuried(6, 3, outcome(2, 2)),
        "the last turn of agent 2 did not end",
    ),
    "a turn of a closed agent": (
        "spawn root a by host; spawn root c by host; interrupt host c; follow_up host c; close host c; resume host c; "
        "follow_up host c; interrupt host c; close host c",
        TurnStarted(2, 5),
        "turn 5 of agent 2 starts, its last one was",
    ),
    "a turn that nobody asked for": (LIFE, TurnStarted(2, 2), "no trigger mail was unread"),
    "a turn for mail that is a dead letter": (
        f"{LIFE}; follow_up host a/b; follow_up host a/b; close host a/b; resume host a/b",
        TurnStarted(2, 3),
        "no trigger mail was unread",
    ),
    "a turn number is left out": (f"{LIFE}; follow_up host c", TurnStarted(3, 3), "starts, its last one was 1"),
    "two turns at once": (
        f"{LIFE}; follow_up host a/b; follow_up host a/b",
        TurnStarted(2, 3),
        "turn 3 of agent 2 starts while its turn 2 runs",
    ),
    "mail read by no turn": (LIFE, MailDrained(2, 1), "turn 1 of agent 2 reads mail, and does not run"),
    "mail read twice": (
        f"{LIFE}; follow_up host a/b",
        MailDrained(2, 2),
        "turn 2 of agent 2 reads mail, and none was unread",
    ),
    "some mail read by no turn": (LIFE, MailRead(2, 1, (5,)), "turn 1 of agent 2 reads mail, and does not run"),
    "mail read that was not unread": (
        f"{LIFE}; follow_up host a/b",
        MailRead(2, 2, (5,)),
        "reads mails [5], and not all were unread",
    ),
    "mail withdrawn that was not unread": (
        LIFE,
        MailWithdrawn(2, 1, NOT_TAKEN),
        "mail 1 is withdrawn, and was not unread",
    ),
    "mail withdrawn with an answer that is none": (
        LIFE,
        MailWithdrawn(2, 5, outcome(2, 1)),
        "is not what answers that",
    ),
    "mail demoted that asks for nothing": (
        LIFE,
        MailDemoted(2, (5,), Outcome(2, 1, TurnState.INTERRUPTED, "demoted", Cause.NOT_STARTED, HOST)),
        "mails [5] are demoted, and not all were unread trigger mail",
    ),
    "a stop of no turn": (LIFE, TurnStopped(2, 1, Cause.INTERRUPTED, HOST), "turn 1 of agent 2 does not run"),
    "a stop for what stops no turn": (
        f"{LIFE}; follow_up host a/b",
        TurnStopped(2, 2, Cause.CRASHED),
        "no turn is asked to stop by CRASHED",
    ),
    "a stop by an agent that is not there": (
        f"{LIFE}; follow_up host a/b",
        TurnStopped(2, 2, Cause.INTERRUPTED, 9),
        "there is no agent 9",
    ),
    "a return of no turn": (LIFE, TurnReturned(2, 1), "turn 1 of agent 2 is returned, and does not run"),
    "a return of a turn that was asked to stop": (
        f"{LIFE}; follow_up host a/b; interrupt host a/b",
        TurnReturned(2, 2),
        "it was asked to stop",
    ),
    "a load of a closed agent": (f"{LIFE}; close host c", LoadBegun(3), "agent 3 is not open"),
    "an end of no load": (LIFE, LoadEnded(2), "no load of agent 2 has begun"),
    "an open agent that is forgotten": (LIFE, AgentsForgotten(3, (3,)), "agent 3 is not closed"),
    "an agent that is forgotten without its child": (
        f"{LIFE}; close host a",
        AgentsForgotten(1, (1,)),
        "it and those below it are [1, 2]",
    ),
    "an end of another turn": (LIFE, TurnEnded(outcome(2, 3)), "turn 3 of agent 2 ends, its last one was 1"),
    "an end of a later turn than runs": (
        f"{LIFE}; follow_up host a/b",
        TurnEnded(outcome(2, 3)),
        "turn 3 of agent 2 ends, its turn 2 runs",
    ),
    "a second end": (LIFE, TurnEnded(outcome(2, 1)), "turn 1 of agent 2 ends, its last one was 1"),
    "an end that is none": (
        f"{LIFE}; follow_up host a/b",
        TurnEnded(outcome(2, 2, TurnState.RUNNING)),
        "no turn ends running",
    ),
    "a completed turn that never started": (
        f"{LIFE}; follow_up host c",
        TurnEnded(outcome(3, 2)),
        "turn 2 of agent 3 is completed, and never started",
    ),
    "an end with another status than its cause leaves": (
        f"{LIFE}; follow_up host a/b",
        TurnEnded(Outcome(2, 2, TurnState.ERRORED, "error", Cause.INTERRUPTED, HOST)),
        "turn 2 of agent 2 ended errored by INTERRUPTED of -1",
    ),
    "an end that somebody asked for who cannot have": (
        f"{LIFE}; follow_up host a/b",
        TurnEnded(Outcome(2, 2, TurnState.ERRORED, "error", Cause.FAILED, 1)),
        "turn 2 of agent 2 ended errored by FAILED of 1",
    ),
    "an end that nobody there asked for": (
        f"{LIFE}; follow_up host a/b",
        TurnEnded(Outcome(2, 2, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, 9)),
        "it was ended by agent 9, which does not exist",
    ),
    "a running turn that never started": (
        f"{LIFE}; follow_up host a/b",
        TurnEnded(Outcome(2, 2, TurnState.INTERRUPTED, "interrupted", Cause.NOT_STARTED, HOST)),
        "turn 2 of agent 2 ended interrupted by NOT_STARTED, and had started",
    ),
    "a turn that fails and never started": (
        f"{LIFE}; follow_up host c",
        TurnEnded(Outcome(3, 2, TurnState.ERRORED, "error", Cause.FAILED)),
        "turn 2 of agent 3 ended errored by FAILED, and never started",
    ),
    "an end that nobody asked for": (
        LIFE,
        TurnEnded(outcome(2, 2, TurnState.ERRORED)),
        "it had not started, and nothing asked for it",
    ),
    "an end after the close": (
        f"{LIFE}; follow_up host a/b; close host a/b",
        TurnEnded(outcome(2, 3, TurnState.INTERRUPTED)),
        "agent 2 is closed, and has no turn",
    ),
    "a close that forgets a child": (LIFE, AgentsClosed(1, (1,)), "those open at and below it are [1, 2]"),
    "a close of others": (LIFE, AgentsClosed(1, (1, 2, 3)), "those open at and below it are [1, 2]"),
    "a close in another order": (LIFE, AgentsClosed(1, (2, 1)), "those open at and below it are [1, 2]"),
    "a close of nobody": (LIFE, AgentsClosed(1, ()), "those open at and below it are [1, 2]"),
    "a second close": (f"{LIFE}; close host c", AgentsClosed(3, (3,)), "agent 3 is the root, or not open"),
    "a close of the root": (LIFE, AgentsClosed(0, (0, 1, 2, 3)), "agent 0 is the root, or not open"),
    "a resume of an open agent": (LIFE, AgentResumed(1), "agent 1 is not closed"),
    "a resume of nobody": (LIFE, AgentResumed(9), "agent 9 is not closed"),
    "a resume under a closed parent": (f"{LIFE}; close host a", AgentResumed(2), "its parent 1 is not open"),
    "a resume at a path that is taken": (
        f"{LIFE}; close host c; spawn root c by host",
        AgentResumed(3),
        "agent 4 is open at /root/c",
    ),
    "an entry of a turn to come": (LIFE, Entry(2, 3, "x"), "turn 3 of agent 2 records an entry, its last one was 1"),
    "an entry of nobody": (LIFE, Entry(9, 1, "x"), "the rollout of agent 9 does not begin with its first mail"),
}
"""Damage -> a sound life, the record that cannot follow it, and what is said of that."""


@pytest.mark.parametrize("damage", TAIL)
def test_audit_names_the_record_that_cannot_stand_where_it_is(damage: str) -> None:
    program, wrong, text = TAIL[damage]
    log = life_of(program)
    assert judged(log, 0) is None
    end = len(log.rows) + 1
    unsound = judged(log, 0, {**log.rows, end: wrong, end + 1: AgentResumed(99)})
    assert unsound is not None
    assert (unsound.position, unsound.record) == (end, wrong)
    assert text in unsound.problem


def test_audit_of_tails_has_a_case_of_every_kind_of_record() -> None:
    assert {type(wrong) for _, wrong, _ in TAIL.values()} == {*RECORDS, Entry}
    assert set(audit_tail.IN_TAIL) == set(RECORDS)


@pytest.mark.parametrize("position", range(1, 21))
def test_audit_names_the_place_where_a_record_of_the_tail_is_missing(position: int) -> None:
    log = life_of(LIFE)
    assert len(log.rows) == 20
    del log.rows[position]
    unsound = judged(log, 0)
    if position == 20:  # a prefix of a log is a log
        assert unsound is None
        return
    assert unsound is not None
    assert unsound.position == position + 1
    assert unsound.problem == f"log position {position} is missing"


def test_audit_of_an_agent_without_its_first_mail_names_the_agent() -> None:
    log = life_of("spawn root a by host")
    del log.rows[2], log.rows[3]
    unsound = judged(log, 0)
    assert str(unsound) == "log position 1: agent 1 has no first mail"
    log.rows[2] = AgentSpawned(2, 0, "b", None)
    unsound = judged(log, 0)
    assert unsound is not None
    assert unsound.problem == "agent 1 was spawned, and this is not its first mail"


def test_audit_of_an_agent_whose_first_mail_is_a_notice_names_the_notice() -> None:
    log = life_of(LIFE)
    notice = MailAccepted(6, 2, 4, MailKind.TRIGGER, "", outcome(2, 1))
    unsound = judged(log, 0, {**log.rows, 21: AgentSpawned(4, 0, "d", None), 22: notice})
    assert unsound is not None
    assert (unsound.position, unsound.problem) == (22, "the first mail of agent 4 is a notice")


def test_audit_of_entries_from_the_first_load_to_the_last_words_finds_nothing() -> None:
    log = life_of(LIFE)
    rows: list[LogRecord] = []
    for record in log.rows.values():
        rows.append(record)
        if isinstance(record, TurnStarted | TurnEnded | AgentsClosed):
            rows += [Entry(1, 1, "of the turn, or its last words"), Entry(1, 0, "of a flush before it")]
    rows.append(Entry(1, 2, "of a flush while the next turn queues"))
    assert sum(isinstance(record, Entry) for record in rows) == 2 * 6 + 1
    assert judged(log, 0, dict(enumerate(rows, 1))) is None


def test_audit_of_a_closed_agent_whose_turn_never_ended_names_it() -> None:
    log = life_of("spawn root a by host; loaded a; close host a")
    assert isinstance(log.rows.pop(6), TurnEnded)
    assert str(judged(log, 0)) == "log position 5: agent 1 is closed, and its turn 1 has not ended"


# Damaged rollouts, and snapshots that are not what they come to


def without(*positions: int) -> Callable[[Rows, Any], None]:
    """Records are missing."""

    def change(rows: Rows, _: Any) -> None:
        for position in positions:
            del rows[position]

    return change


def stranger(rows: Rows, _: Any) -> None:
    """In the place of an agent's rollout there is another's."""
    rows[15] = MailAccepted(4, -1, 9, MailKind.TRIGGER, "x")
    rows[17] = TurnEnded(outcome(9, 1, TurnState.ERRORED))


def with_facts(agent: int, **changes: Any) -> Callable[[Rows, Any], None]:
    """The snapshot says something else of an agent."""

    def change(_: Rows, facts: Any) -> None:
        facts[0][agent] = evolve(facts[0][agent], **changes)

    return change


def with_mail(*states: int) -> Callable[[Rows, Any], None]:
    """The snapshot counts mail otherwise."""
    return lambda _, facts: facts[1].__setitem__(slice(None), states)


def forgotten(rows: Rows, facts: Any) -> None:
    """An open agent has lost its unread mail, and the counts agree with that."""
    with_facts(2, mailbox=())(rows, facts)
    with_mail(1, 4, 1)(rows, facts)


def replaced(position: int, record: LogRecord) -> Callable[[Rows, Any], None]:
    """A record stands where it should not."""
    return lambda rows, _: rows.update({position: record})


COVERED: dict[str, tuple[Callable[[Rows, Any], None], int, str]] = {
    "the first mail is missing": (without(2), 4, "the rollout of agent 1 does not begin with its first mail"),
    "the start of a turn is missing": (without(4), 8, "turn 1 of agent 1 reads mail, and does not run"),
    "mail is missing that was read": (without(7), 8, "reads mail, and none was unread"),
    "the end of a turn is missing": (without(9), 20, "of agent 1 it says turn 1 is COMPLETED"),
    "the start of a completed turn is missing": (without(11), 12, "turn 1 of agent 2 is completed, and never started"),
    "unread mail is missing": (without(20), 20, "of agent 2 it says that mails [5] are unread, its rollout []"),
    "mail comes twice": (replaced(21, mail(5, 2)), 21, "mail 5 comes after mail 5"),
    "mail in another order": (replaced(7, mail(3, 1)), 13, "mail 3 comes after mail 3"),
    "a rollout of nobody": (stranger, 20, "of agent 9, which the snapshot does not know"),
    "an agent without a rollout": (without(15, 17), 20, "agent 3 has no rollout"),
    "another outcome": (
        with_facts(2, outcome=outcome(2, 1, TurnState.ERRORED)),
        20,
        "its turn 1 cannot be COMPLETED after",
    ),
    "another end": (
        with_facts(2, status=TurnState.ERRORED, outcome=outcome(2, 1, TurnState.ERRORED)),
        20,
        "of agent 2 it says turn 1 is ERRORED",
    ),
    "another status": (with_facts(2, status=TurnState.RUNNING), 20, "its turn 1 cannot be RUNNING after"),
    "another turn": (with_facts(2, turn=2), 20, "its turn 2 cannot be COMPLETED after"),
    "another turn that ended": (with_facts(2, turn=2, outcome=outcome(2, 2)), 20, "it says turn 2 is COMPLETED"),
    "unread mail is forgotten": (with_facts(2, mailbox=()), 20, "the snapshot cannot be"),
    "unread mail is forgotten, and counted as read": (forgotten, 20, "2 mails are in no rollout, or neither read nor"),
    "more mail than rollouts have": (with_mail(2, 6, 1), 20, "mails are in no rollout"),
    "less mail than rollouts have": (with_mail(2, 1, 0), 20, "there never was a mail 3: there are 3"),
    "two agents at a path": (with_facts(3, name="a"), 20, "are both open at /root/a"),
    "a parent that comes later": (with_facts(2, parent=3), 20, "cannot come after"),
    "a closed parent": (
        with_facts(1, identity=Identity.CLOSED, closed_by=1),
        20,
        "it is closed, and has unread mail or a turn",
    ),
}
"""Damage to a log with a snapshot at its end -> how it is done, where it is noticed, and what is said."""


@pytest.mark.parametrize("damage", COVERED)
def test_audit_names_what_a_snapshot_and_the_rollouts_before_it_do_not_agree_on(damage: str) -> None:
    do, position, text = COVERED[damage]
    log = life_of(LIFE)
    end = len(log.rows)
    assert judged(log, end) is None
    rows, (agents, mail_states) = log.covered(end), log.facts[end]
    facts = [*agents], [*mail_states]
    do(rows, facts)
    unsound = judged(log, end, rows, facts)
    assert unsound is not None
    assert unsound.position == position
    assert text in unsound.problem
