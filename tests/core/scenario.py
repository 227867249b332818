"""Scenarios for tests: lines of the language of `model/scenarios/script.py`, played on the core and on the reference at
once.

    s = Scenario(max_concurrent=2)
    s.play("spawn root a").asks(Load(1, 1, "settings of a")).see("...")   the whole view, as `checking/view.py` has it
    s.play("spawn root b").refused("ExecutionFull", 1, (1,))              refused so, and nothing at all has changed

Every step is compared with the reference (reply, effects, state), its records are folded and compared with the live
facts, and every property is checked. Every step must also be looked at, by `see`, `same` or `refused`, before the next
one is played; `rush` is for set-ups and long programs, of which only the end of each stage is looked at.
"""

from __future__ import annotations

from typing import Any, Self

from model import lockstep, reference
from model.lockstep import AnyEvent, Restart
from model.scenarios import script
from statemachine.checking import properties
from statemachine.checking.view import lines
from statemachine.core.config import Overflow, SessionConfig, SlotPolicy
from statemachine.core.effects import AgentStatus, Answer, Effect, Listing, Refused, Reply, Step
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, Outcome, Record
from statemachine.core.session import Session
from statemachine.log.recovery import durable_facts, fold

LIVE = SlotPolicy.LIVE_THREADS
REFERENCE_STEP: Any = reference.step


def tight(**config: Any) -> SessionConfig:
    """A configuration. Unless given, there are as many residency slots as execution slots, so that agents must make
    room for each other and no slot is lent to the ready queue; and what finds no slot is refused.
    """
    ordinary = {"overflow": Overflow.REJECT, "max_resident": config.get("max_concurrent", 4) - 1}
    return SessionConfig(**{**ordinary, **config})


class Scenario:
    """A session under test. The arguments are those of `tight`."""

    def __init__(self, **config: Any) -> None:
        self.session, self.world = lockstep.start(tight(**config))
        self.step: Step | None = None
        self.log: list[Record] = []
        self.before: tuple[Any, ...] = ()
        self.looked_at = True

    # Playing

    def play(self, line: str) -> Self:
        """One line of the language."""
        self.feed(script.parse(line, self.session))
        return self

    def feed(self, event: AnyEvent) -> Step:
        """One event, for what the language cannot say."""
        assert self.looked_at, "look at each step, by see, same or refused, before you play the next"
        self.looked_at = False
        self.before = everything(self.session)
        fork = self.session.fork()
        self.session, step = lockstep.core_step(self.session, event)
        self.step = step
        self.log += step.records
        if lockstep.asks_reference(event, step):
            self.world, reply, effects = REFERENCE_STEP(self.world, lockstep.TRANSLATE[event.__class__](event))
            lockstep.compare_step(step, reply, effects)
        lockstep.compare_states(self.session, self.world)
        folded = fold(self.session.config, self.log)
        assert durable_facts(folded) == durable_facts(self.session.ledger), "the log folds to other facts"
        properties.check(self.session)
        if not isinstance(event, Restart):
            properties.check_step(fork, event, step, self.session)
        return step

    def rush(self, *program: str) -> Self:
        """Several lines, of which only the last is looked at afterwards."""
        for line in program:
            self.looked_at = True
            self.play(line)
        return self

    # Looking

    def see(self, view: str) -> Self:
        """The whole view, however it is indented and aligned."""
        expected = [words(line) for line in view.strip().splitlines()]
        assert [words(line) for line in lines(self.session)] == expected
        self.looked_at = True
        return self

    def same(self) -> Self:
        """Nothing at all has changed, been recorded, or been asked for."""
        assert everything(self.session) == self.before
        assert self.step is not None
        assert (self.step.records, self.step.effects) == ((), ())
        self.looked_at = True
        return self

    def refused(self, cause: str, *facts: Any) -> Self:
        """Refused for this cause with these facts, and nothing has changed."""
        assert self.step is not None
        assert isinstance(self.step.reply, Refused), f"not refused: {self.step.reply}"
        assert self.step.reply.refusal.facts == (cause, *facts)
        return self.same()

    def says(self, reply: Reply) -> Self:
        """The reply."""
        assert self.step is not None
        assert self.step.reply == reply
        return self

    def asks(self, *effects: Effect) -> Self:
        """All effects, in their order."""
        assert self.step is not None
        assert self.step.effects == effects
        return self

    def status(self, name: str) -> AgentStatus:
        """What `status` says of the agent; asking changes nothing."""
        self.play(f"status {name}").same()
        assert self.step is not None
        assert isinstance(self.step.reply, AgentStatus)
        return self.step.reply

    def lists(self, prefix: str, *names: str) -> Self:
        """What `list` says: the status of each of these agents, in this order. Asking changes nothing."""
        expected = tuple([self.status(name) for name in names])
        return self.play(f"list {prefix}").says(Listing(expected)).same()


def everything(s: Session) -> tuple[Any, ...]:
    """The state as a value: fingerprint, view, and what the reference knows, with numbers and times."""
    return s.fingerprint(), lines(s), repr(lockstep.of_session(s))


def words(line: str) -> str:
    """The line without indentation and alignment."""
    return " ".join(line.split())


def answered(agent: int, turn: int, *mails: int) -> Answer:
    """What those who asked with these mails are told when this turn returns."""
    return Answer(mails, Outcome(agent, turn, TurnState.COMPLETED, "result", Cause.FINISHED))


# Where many scenarios begin: with the agent `a`, that the host asked for


def running(**config: Any) -> Scenario:
    """`a` runs its first turn."""
    s = Scenario(**config)
    caps = s.session.config
    cap, most = caps.execution_cap, caps.max_resident
    s.play("spawn root a by host").see(f"""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/{cap}, residency 1/{most}, ready -, idle -""")
    s.play("loaded a").see(f"""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/{cap}, residency 1/{most}, ready -, idle -""")
    return s


def idle(**config: Any) -> Scenario:
    """`a` has completed its first turn, and is resident."""
    s = running(**config)
    caps = s.session.config
    cap, most = caps.execution_cap, caps.max_resident
    if caps.slot_policy is LIVE:
        return s.play("finished a").see(f"""
            /root    new
            /root/a  completed 1, resident, slot reserved
            session  open, slots 1/{cap}, residency 1/{most}, ready -, idle -""")
    return s.play("finished a").see(f"""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/{cap}, residency 1/{most}, ready -, idle a""")


def unloaded(**config: Any) -> Scenario:
    """`a` has completed its first turn, and was unloaded after ten idle seconds."""
    s = idle(idle_ttl=10, **config)
    caps = s.session.config
    cap, most = caps.execution_cap, caps.max_resident
    s.play("tick 10").see(f"""
        /root    new
        /root/a  completed 1, unloading
        session  open, slots 0/{cap}, residency 1/{most}, ready -, idle -""")
    return s.play("flushed a").see(f"""
        /root    new
        /root/a  completed 1
        session  open, slots 0/{cap}, residency 0/{most}, ready -, idle -""")
