"""Recovery: a session from its log (`statemachine/log/recovery.py`; semantics.md section 5, decisions D13, D14 and
D17).

Random runs (bytes made events by `model/fuzzing/chance.py`) show that the log says all that is durable, and nothing
else. Named scenarios show what a crash ends, whom it tells, what is asked for again and in which order, and which
configurations a log is not opened with. `crash` recovers from the records alone, and the reference model judges what
comes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from model.fuzzing import chance
from model.lockstep import AnyEvent, Restart, of_session
from model.scenarios import script
from statemachine.checking import properties
from statemachine.core import effects as fx
from statemachine.core.agents import Agent
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.effects import Load, Step
from statemachine.core.events import HOST, ROOT, Resume, Send, Start
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, SessionState, TurnState
from statemachine.core.records import Cause, LoadBegun, MailAccepted, MailKind, Outcome, Record, TurnEnded
from statemachine.core.refusals import InvalidConfig
from statemachine.core.session import Session
from statemachine.log.recovery import apply, durable_facts, fold, forget, recover, restart
from tests.core.scenario import LIVE, Scenario, idle, running

QUEUE = Overflow.QUEUE


def crash(s: Scenario) -> Scenario:
    """The process is lost, and the session comes back from its records alone."""
    again, step = recover(s.session.config, s.log, s.session.now)
    s.rush("restart")
    assert step == s.step, "recover and restart differ"
    assert of_session(again) == of_session(s.session), "recover and restart differ"
    return s


# Random runs

EVENTS = 120
CALAMITIES = (20, 39, 60, 79, 100, 113, 117)
CRASHES = (39, 79, 113, 117)
"""After which events something happens that should once in a long while, and after which a crash comes on top."""
PLAYS = (chance.ANYTHING, chance.TROUBLE, chance.PLENTY)
configs = st.binary(min_size=chance.CONFIG_BYTES, max_size=chance.CONFIG_BYTES)
lives = st.binary(min_size=chance.BYTES * EVENTS, max_size=chance.BYTES * EVENTS)

QUICK = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
"""Nothing is shrunk, which would take minutes: `statemachine fuzz` does that."""
FORGOTTEN = ("residency", "generation")
"""What an agent has that is about its thread."""
NO_FACTS = (*FORGOTTEN, "children")
"""Children follow from parents."""


def facts(ledger: Ledger) -> tuple[Any, ...]:
    """All that is durable, field by field. A turn that has not begun is as if nobody had asked for it, and one that
    waits or was asked to stop is as if it ran.
    """
    rows = [attrs.asdict(agent, recurse=False, filter=lambda f, _: f.name not in FORGOTTEN) for agent in ledger.agents]
    for row in rows:
        ended: Outcome | None = row["outcome"]
        if row["status"] in (TurnState.QUEUED, TurnState.STARTING):
            row["turn"] -= 1
            row["status"] = ended.status if ended is not None and ended.turn == row["turn"] else TurnState.NEW
        elif row["status"] in (TurnState.STOPPING, TurnState.WAITING, TurnState.RETURNING):
            row["status"] = TurnState.RUNNING
    return rows, [getattr(ledger, name) for name in Ledger.__slots__ if name != "agents"]


LENDING = ("spawn root a by host", "loaded a", "wait a 3", "spawn root b by host", "loaded b")
BEGINNINGS = (
    (),
    (*LENDING, "send host a", "restart"),
    (*LENDING, "spawn root/a c by b", "interrupt host a subtree", "restart"),
    (),
)
"""How a life may begin, so that a crash finds what chance alone seldom brings about."""


class Run:
    """A session and its log, folded as it grows. A crash leaves the log and nothing else."""

    def __init__(self, config: SessionConfig) -> None:
        self.session = Session(config)
        self.log: list[Record] = []
        self.folded = fold(config, ())
        self.lost: Counter[str] = Counter()

    def feed(self, event: AnyEvent) -> Step:
        """One event, after which the records so far must say what the session holds."""
        step = self.crash() if isinstance(event, Restart) else self.session.handle(event)
        self.log += step.records
        for record in step.records:
            apply(self.folded, record)
        assert facts(self.folded) == facts(self.session.ledger)
        return step

    def begin(self, program: tuple[str, ...]) -> None:
        """A program, as far as the configuration lets it come."""
        for line in program:
            try:
                event = script.parse(line, self.session)
            except script.BadScript:
                return
            self.feed(event)

    def crash(self) -> Step:
        """From the log; and the same from the facts alone, which is how explorers and replay restart."""
        lost = self.session
        assert durable_facts(self.folded) == durable_facts(lost.ledger)
        self.lost.update(worth_losing(lost))
        self.session, step = recover(lost.config, self.log, lost.now)
        other, same_step = restart(lost.config, forget(lost.ledger), lost.now)
        assert (same_step, of_session(other)) == (step, of_session(self.session))
        properties.check(self.session)
        return step


def worth_losing(s: Session) -> set[str]:
    """What a crash finds."""
    at_work = [a for a in s.agents if a.status >= TurnState.RUNNING]
    found = {
        "late trigger mail": any(a.triggers for a in at_work),
        "request of an agent": any(m.sender != HOST for a in at_work for m in a.taken),
        "closed agent": any(a.identity is not Identity.OPEN for a in s.agents),
        "promise": any(a.promised for a in s.agents),
        "late mail to the root": s.agents[ROOT].triggers > 0,
        "wait": bool(s.waits.pending),
        "lent slot": bool(s.slots.lent),
        "attempt": bool(s.ledger.attempts),
        "last attempt": any(n + 1 >= s.config.max_attempts > 1 for n in s.ledger.attempts.values()),
        "lost load": any(n > 1 for n in s.ledger.loads.values()),
        "forgotten agent": any(a.identity is Identity.FORGOTTEN for a in s.agents),
        "interrupted subtree": any(stop.below is not None for stop in s.ledger.stops.values()),
        "timed-out turn": any(stop.cause is Cause.TIMED_OUT for stop in s.ledger.stops.values()),
    }
    kinds = {s.state.name, s.config.slot_policy.name, s.config.notice.name, *[a.status.name for a in s.agents]}
    return kinds | {name for name, is_there in found.items() if is_there}


TO_LOSE = {
    *(member.name for kind in (TurnState, SessionState, SlotPolicy, Notice) for member in kind),
    *("late trigger mail", "request of an agent", "closed agent", "promise", "late mail to the root"),
    *("wait", "lent slot", "attempt", "last attempt", "lost load", "forgotten agent", "interrupted subtree"),
    "timed-out turn",
}


def any_run(examples: int, judge: Callable[[Run], object]) -> None:
    """Random lives, each to be judged at its end; together they have lost all that is worth losing."""
    lost: Counter[str] = Counter()

    @settings(QUICK, max_examples=examples)
    @given(configs, lives)
    def one(config: bytes, life: bytes) -> None:
        run = Run(chance.config_of(config))
        run.begin(BEGINNINGS[config[0] % len(BEGINNINGS)])
        for number in range(EVENTS):
            code = life[number * chance.BYTES : (number + 1) * chance.BYTES]
            run.feed(chance.event_of(run.session, PLAYS[code[2] % len(PLAYS)], code))
            if number in CALAMITIES:
                run.feed(chance.calamity(code[1] % 20))
            if number in CRASHES:
                run.feed(Restart())
        judge(run)
        lost.update(run.lost)

    one()
    assert TO_LOSE - lost.keys() == set()


def test_log_of_any_run_folds_to_the_facts_after_every_step_and_is_opened_again_with_its_configuration() -> None:
    def judge(run: Run) -> None:
        run.feed(Restart())
        assert run.session.state is SessionState.OPEN

    any_run(60, judge)


def but_for_loads(s: Session) -> tuple[Any, ...]:
    """The state, without how many loads were lost."""
    fork = s.fork()
    fork.ledger.loads.clear()
    return of_session(fork)


def test_second_crash_at_once_ends_no_turn_tells_nobody_and_asks_for_the_same_again() -> None:
    seen: Counter[bool] = Counter()

    def judge(run: Run) -> None:
        first = run.feed(Restart())
        if run.session.agents[ROOT].status is TurnState.RUNNING:
            return  # the root is in memory and needs no slot, so its turn has begun already, and can be interrupted
        if max(run.session.ledger.loads.values(), default=0) >= 3:
            return  # a load that was the last to be tried
        state = but_for_loads(run.session)
        second = run.feed(Restart())
        assert but_for_loads(run.session) == state
        loads = [effect for effect in first.effects if isinstance(effect, Load)]
        assert second == Step(tuple([LoadBegun(load.agent) for load in loads]), fx.Noted(), tuple(loads))
        seen.update([first.records != (), bool(loads)])

    any_run(60, judge)
    assert set(seen) == {True, False}


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Agent) if field.name not in NO_FACTS])
def test_facts_that_judge_a_fold_notice_whatever_is_wrong_with_an_agent(name: str) -> None:
    ledger = running().session.ledger
    before = durable_facts(ledger)
    setattr(ledger.agents[1], name, TurnState.ERRORED if name == "status" else 7)
    assert durable_facts(ledger) != before


def test_empty_log_is_that_of_a_new_session() -> None:
    config = SessionConfig()
    again, step = recover(config, (), 7.0)
    assert of_session(again) == of_session(Session(config, 7.0))
    assert (again.now, step) == (7.0, Step((), fx.Noted(), ()))


@pytest.mark.parametrize("what", [None, "TurnEnded", TurnState.RUNNING, fx.Noted(), Restart()])
def test_record_that_is_none_is_refused_with_its_name(what: Any) -> None:
    with pytest.raises(TypeError, match="is not a record of"):
        recover(SessionConfig(), [what])
    with pytest.raises(TypeError, match="is not a record of"):
        apply(fold(SessionConfig(), ()), what)


# What a crash ends, and who is told


def asked_by_both(**config: Any) -> Scenario:
    """`b` runs for the root, for the host, and for itself; `c` runs for the root, and is being stopped."""
    s = Scenario(**config).rush("start root", "spawn root b", "loaded b", "follow_up host b", "follow_up b b")
    return s.rush("drain b", "spawn root c", "loaded c", "interrupt host c", "finished root")


def ended(agent: int, cause: Cause = Cause.CRASHED, by: int | None = None) -> Outcome:
    """How a crash ends the first turn of this agent."""
    return Outcome(agent, 1, TurnState.INTERRUPTED, "interrupted by a crash", cause, by)


@pytest.mark.parametrize("config", [{}, {"notify_interrupted": True}, {"notice": Notice.NONE}])
def test_turn_at_work_is_interrupted_by_a_crash_and_its_requesters_are_told_as_after_an_error(config: Any) -> None:
    s = asked_by_both(**config)
    told = [] if "notice" in config else ["b=interrupted"]
    if "notify_interrupted" in config:  # c was being stopped, so its requesters are told as that stop would have
        told.append("c=interrupted")
    crash(s).see(f"""
        /root    completed 1{f", unread {' '.join(told)}" if told else ""}
        /root/b  interrupted 1
        /root/c  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    b, c = ended(1), ended(2, Cause.INTERRUPTED, HOST)
    s.asks(fx.Answer((1, 2, 3), b), fx.Answer((4,), c))
    answers = ((1,), (4,))
    notices = [
        MailAccepted(4 + end.agent, end.agent, ROOT, MailKind.QUEUE, "", end, None, requests)
        for end, requests in zip((b, c), answers, strict=True)
    ]
    assert s.step is not None
    assert s.step.records == (TurnEnded(b), TurnEnded(c), *notices[: len(told)])


def test_turn_at_work_that_took_no_request_ends_by_a_crash_without_an_answer() -> None:
    s = Scenario(notice=Notice.TRIGGER).rush("spawn root b", "loaded b", "finished b")
    assert s.session.agents[ROOT].status is TurnState.RUNNING  # by the notice
    crash(s).asks().see("""
        /root    interrupted 1
        /root/b  completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_notice_of_kind_trigger_that_a_crash_causes_starts_its_requester() -> None:
    s = crash(asked_by_both(notice=Notice.TRIGGER, notify_interrupted=True)).see("""
        /root    running 2, slot active
        /root/b  interrupted 1
        /root/c  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    b, c = ended(1), ended(2, Cause.INTERRUPTED, HOST)
    assert s.step is not None
    assert s.step.effects[-1] == fx.StartTurn(
        *(ROOT, 2, 0),
        (
            MailAccepted(5, 1, ROOT, MailKind.TRIGGER, "", b, None, (1,)),
            MailAccepted(6, 2, ROOT, MailKind.TRIGGER, "", c, None, (4,)),
        ),
    )


def test_mail_that_a_turn_had_read_is_not_read_again_after_a_crash() -> None:
    s = running().rush("send host a", "drain a", "send host a")
    crash(s).see("""
        /root    new
        /root/a  interrupted 1, unread host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    assert [mail.mail for mail in s.session.agents[1].mailbox] == [2]


def test_closed_agent_stays_closed_after_a_crash_and_resume_still_knows_what_was_open_at_the_close() -> None:
    s = running(slot_policy=LIVE).rush("spawn root/a b by host", "spawn root/a c by host", "close host a/c")
    crash(s.rush("close host a")).see("""
        /root      new
        /root/a    closed, interrupted 1
        /root/a/b  closed with a, interrupted 1
        /root/a/c  closed, interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")
    only_a = fx.Resumed((1,), (2,), ("/root/a",), ("/root/a/b",))
    s.rush("spawn root x by host", "spawn root y by host", "resume host a").says(only_a)
    crash(s.rush("close host a", "close host x", "close host y"))
    s.rush("resume host a").says(fx.Resumed((1,), (), ("/root/a",), ()))


# What is asked for again


def test_turns_that_had_not_begun_are_asked_for_again_in_the_order_of_their_oldest_trigger_mail() -> None:
    s = Scenario(max_concurrent=3, overflow=QUEUE)
    for name in ("b", "c"):
        s.rush(f"spawn root {name} by host", f"loaded {name}", f"finished {name}")
    s.rush("spawn root a by host", "flushed b", "loaded a", "send host b")  # older than all triggers, and no trigger
    s.rush("follow_up host a", "spawn root d by host", "follow_up host c", "follow_up host b")
    s.rush("follow_up host c").see("""
        /root    new
        /root/b  queued 2, unread host host!
        /root/c  queued 2, unloading, unread host! host!, makes room for d
        /root/a  running 1, resident, slot active, asked by host, unread host!
        /root/d  starting 1, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready c b, idle -""")
    crash(s).see("""
        /root    new
        /root/b  queued 2, unread host host!
        /root/c  queued 2, unread host! host!
        /root/a  starting 2, loading, slot reserved, unread host!
        /root/d  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready c b, idle -""")
    s.asks(fx.Answer((2,), ended(3)), Load(3, 1, "settings of a"), Load(4, 1, "settings of d"))


def test_requester_that_a_crash_wakes_comes_after_those_that_had_asked_before() -> None:
    s = idle(max_concurrent=2, max_resident=2, overflow=QUEUE, notice=Notice.TRIGGER)
    s.rush("spawn root b by host", "loaded b", "follow_up a b", "drain b", "spawn root c by host").see("""
        /root    new
        /root/a  completed 1, resident, owed 1
        /root/b  running 1, resident, slot active, asked by host a
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 2/2, ready c, idle a""")
    crash(s).see("""
        /root    new
        /root/a  queued 2, unread b=interrupted!
        /root/b  interrupted 1
        /root/c  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/2, ready a, idle -""")


def test_demoted_mail_asks_for_nothing_after_a_crash() -> None:
    s = Scenario().rush("spawn root a by host", "interrupt host a")
    crash(s).asks().see("""
        /root    new
        /root/a  interrupted 1, unread host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


@pytest.mark.parametrize("then", [[], ["finished a"], ["finished a", "flushed root", "flushed a"], ["write_failed"]])
def test_session_that_was_on_its_way_out_is_open_after_a_crash_and_late_mail_is_asked_for(then: list[str]) -> None:
    s = running().rush("follow_up host a", "shutdown 5", *then)
    ended = "interrupted" if then in ([], ["write_failed"]) else "completed"
    assert s.session.state is not SessionState.OPEN
    crash(s).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.session.agents[1].outcome is not None
    assert s.session.agents[1].outcome.status.name.lower() == ended


def test_waits_and_deadlines_are_forgotten_by_a_crash() -> None:
    s = running(idle_ttl=60).rush("wait a 50", "start root", "interrupt host root", "tick 2")
    assert s.session.deadlines.next() == 5
    crash(s).see("""
        /root    interrupted 1
        /root/a  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    assert (s.session.now, s.session.deadlines.next()) == (2, None)


# LIVE_THREADS


def test_live_threads_that_are_open_have_their_slots_again_after_a_crash_and_closed_ones_have_none() -> None:
    s = Scenario(slot_policy=LIVE, max_concurrent=5, max_queued=1)  # nobody queues: each has its slot
    s.rush("spawn root z by host", "close host z", "spawn root a by host", "loaded a", "finished a")
    s.rush("spawn root b by host", "loaded b", "spawn root c by host", "spawn root d by host")
    crash(s).see("""
        /root    new
        /root/z  closed, interrupted 1
        /root/a  completed 1, slot reserved
        /root/b  interrupted 1, slot reserved
        /root/c  starting 1, loading, slot reserved, unread host!, loads lost 1
        /root/d  starting 1, slot reserved, unread host!, loads lost 1
        session  open, slots 4/4, residency 1/4, ready -, idle -""")
    s.play("spawn root e").refused("LiveThreadsFull", 4, (2, 3, 4, 5))


# A configuration that the log exceeds (D17)

TOO_SMALL: list[tuple[str, int, dict[str, Any], list[str]]] = [
    # limit, the least that will do, configuration and program
    ("max_agents", 2, {}, ["spawn root a", "spawn root b", "spawn root c", "close host c"]),
    ("max_depth", 2, {}, ["spawn root a", "spawn root/a b", "spawn root/a/b c by host", "close host a/b/c"]),
    ("max_concurrent", 2, {}, ["spawn root a"]),  # whose turn is still to come
    ("max_concurrent", 3, {"slot_policy": LIVE}, ["spawn root a", "spawn root b", "spawn root c", "close host c"]),
]


def with_limit(s: Scenario, limit: str, value: Any) -> SessionConfig:
    """The configuration of the session with another limit."""
    return attrs.evolve(s.session.config, **{limit: value})


@pytest.mark.parametrize(("limit", "least", "config", "program"), TOO_SMALL)
def test_log_is_not_opened_with_a_limit_that_it_exceeds_but_with_one_that_it_just_reaches(
    limit: str, least: int, config: dict[str, Any], program: list[str]
) -> None:
    s = Scenario(**config).rush(*program)
    properties.check(recover(with_limit(s, limit, least), s.log)[0])
    with pytest.raises(InvalidConfig) as refused:
        recover(with_limit(s, limit, least - 1), s.log)
    need = f"the log needs {limit} of at least {least}, the configuration has {least - 1}; raise it"
    assert str(refused.value) == need


def test_log_with_more_unread_mail_than_is_allowed_is_opened_and_no_more_is_accepted() -> None:
    s = Scenario().rush("send host root", "send host root", "send host root")
    again, _ = recover(with_limit(s, "max_unread", 2), s.log)
    properties.check(again)
    step = again.handle(Send(HOST, ROOT, "more"))
    assert isinstance(step.reply, fx.Refused)
    assert step.reply.refusal.facts == ("MailboxFull", ROOT, 3, 0, 2)


def test_log_with_more_turns_to_queue_than_are_allowed_is_opened_and_no_more_are_accepted() -> None:
    s = Scenario(max_concurrent=2, overflow=QUEUE).rush("spawn root z by host", "load_failed z")
    s.rush("spawn root a by host", "spawn root b by host", "spawn root c by host")
    again, _ = recover(with_limit(s, "max_queued", 1), s.log)
    properties.check(again)
    assert len(again.slots.ready) == 2
    step = again.handle(Start(1, "more"))
    assert isinstance(step.reply, fx.Refused)
    assert step.reply.refusal.facts == ("QueueFull", 1, (3, 4))


TIGHT = [
    SessionConfig(max_concurrent=2, max_queued=1, max_depth=1, max_attempts=9),
    SessionConfig(max_concurrent=3, max_unread=2, notice=Notice.TRIGGER, max_queued=2, max_attempts=9),
    SessionConfig(max_concurrent=7, max_agents=5, slot_policy=LIVE, max_attempts=9),
]


def test_log_of_any_run_is_refused_by_a_tighter_configuration_or_never_exceeds_it_whoever_is_resumed() -> None:
    opened: Counter[bool] = Counter()

    def judge(run: Run) -> None:
        for config in TIGHT:
            try:
                again, _ = recover(config, run.log)
            except InvalidConfig:
                opened[False] += 1
                continue
            opened[True] += 1
            for closed in [a.id for a in again.agents if a.identity is Identity.CLOSED]:
                again.handle(Resume(HOST, closed))
            properties.check(again)

    any_run(60, judge)
    assert min(opened[True], opened[False]) > 10


def test_notice_that_a_crash_causes_asks_for_no_turn_where_sub_agents_have_no_slot() -> None:
    s = running().rush("spawn root/a b", "loaded a/b", "finished a")
    again, _ = recover(SessionConfig(max_concurrent=1, notice=Notice.TRIGGER), s.log)
    properties.check(again)


def test_closed_agent_that_exceeds_a_limit_of_the_new_configuration_is_not_open_after_resume() -> None:
    s = Scenario().rush("spawn root a by host", "spawn root/a b by host", "close host a/b")
    again, _ = recover(SessionConfig(max_depth=1), s.log)
    before = of_session(again)
    step = again.handle(Resume(HOST, 2))
    assert isinstance(step.reply, fx.Refused)
    assert step.reply.refusal.facts == ("DepthExceeded", 2, 1)
    assert (step.records, step.effects, of_session(again)) == ((), (), before)
