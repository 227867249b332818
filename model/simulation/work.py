"""Plays the work of agents in a simulation: all that the documentation of threads and turns allows or forbids.

Work is drawn as it goes. It raises, hangs, ignores its cancellation, loses its thread, returns what is not a result,
keeps its turn after the end, and in between calls every verb of a turn. When all is calm it answers at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import anyio

from statemachine.core.deadlines import Bound
from statemachine.core.effects import ClosedAgents
from statemachine.core.events import ROOT
from statemachine.core.records import Cause, TurnStarted
from statemachine.core.refusals import NotRunning, Refusal, SessionClosed, StoreFailed
from statemachine.runtime import AgentInfo, NotJson, Thread, ThreadLost, Turn
from statemachine.runtime.threads import Work
from statemachine.stores.protocol import LogRecord

from . import delegation
from .delegation import tree_below, within_time
from .observed import at_work, check_slots, said, waiting
from .world import DAWDLE_MAX_S, Told, World, ask, dawdle, refusable

if TYPE_CHECKING:
    from statemachine.runtime.turn import Mail


class Broken(Exception):
    """Raised by simulated work."""


class Valueless:
    """Is not a JSON value. Its text has no address, which would be another one in every run of a seed."""

    def __repr__(self) -> str:
        return "valueless"


class Panicked(BaseException):
    """Raised by simulated work that would end a program."""


NOT_CAUGHT = (SystemExit, Panicked)
"""Exceptions that `except Exception` does not catch, and that are the work's own nevertheless."""

# A turn

NO_JSON = b"no JSON"
NO_JSON_SAID = (
    "ValueError: a turn returned a value of class bytes, which is not a JSON value: "
    "Object of type bytes is not JSON serializable"
)


async def work(world: World, turn: Turn) -> Any:
    """Plays one turn: a few actions, then an end. Notes its result, so that outcomes can be compared with it."""
    key = (turn.agent.id, turn.number)
    world.note("turn")
    if key in world.ran:
        world.blame(f"turn {key} was run twice")
    world.ran.add(key)
    if key not in world.disk.started:
        world.blame(f"turn {key} runs, and the log does not say so")
    check_attempt(world, turn)
    see(world, key, turn.mail)
    check_agent(world, turn.agent)
    with at_work(world, turn):
        return await act(world, turn, key)


async def act(world: World, turn: Turn, key: tuple[int, int]) -> Any:
    """What the turn does, and what comes of it."""
    try:
        await tree_below(world, turn)
        for _ in range(world.choose((0, 1, 1, 2, 3))):
            if world.calm.is_set():
                break
            check_slots(world, turn)
            await world.choose(ACTIONS)(world, turn)
        check_slots(world, turn)
        result = await finish(world, turn)
    except anyio.get_cancelled_exc_class():
        world.note("turn cancelled")
        if world.chance(10):
            await ignore(world, turn)
        if world.chance(5):
            world.came_to[key] = (Cause.FAILED, "Broken: in the face of cancellation")
            raise Broken("in the face of cancellation") from None
        raise
    except (Exception, *NOT_CAUGHT) as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        is_lost = isinstance(error, ThreadLost) or (
            isinstance(error, ExceptionGroup) and error.subgroup(ThreadLost) is not None
        )
        world.came_to[key] = (Cause.THREAD_DIED, f"its thread died: {text}") if is_lost else (Cause.FAILED, text)
        raise
    finally:
        if world.chance(10):
            world.old_turns.append(turn)
    world.came_to[key] = (Cause.FAILED, NO_JSON_SAID) if result is NO_JSON else (Cause.FINISHED, result)
    return result


async def finish(world: World, turn: Turn) -> Any:
    """Ends a turn that was not stopped."""
    if world.chance(8):
        world.note("turn raised")
        raise Broken(f"turn {turn.number}")
    if world.chance(3):
        world.note("turn raised what would end a program")
        raise world.choose(NOT_CAUGHT)(f"turn {turn.number}")
    if world.chance(4):
        world.note("thread lost in a turn")
        raise ThreadLost("in a turn") if world.chance(50) else ThreadLost
    if world.chance(3):
        world.note("turn returned no JSON")
        return NO_JSON
    if world.chance(6):
        world.note("turn hung")
        await world.calm.wait()
    number = world.rng.random()
    values: tuple[Any, ...] = (None, None, {"r": [turn.agent.id, turn.number]}, [], number, turn.number, number < 0.55)
    return values[int(number * 10)] if number < 0.7 else f"r{turn.agent.id}.{turn.number}"


async def ignore(world: World, turn: Turn | None) -> None:
    """Goes on in spite of its cancellation, sometimes for longer than any bound."""
    world.note("work ignored its cancellation")
    if turn is not None:
        world.deaf.add((turn.agent.id, turn.number))
    with anyio.CancelScope(shield=True):
        await anyio.sleep(world.choose((0.01, 0.3, 1.0, 6.0)))
        if turn is not None and turn.over and world.chance(70):
            await late(world, turn)


async def late(world: World, turn: Turn) -> None:
    """Calls a turn that has ended, as abandoned code may: it is refused, and nothing changes."""
    world.note("call after the turn's end")
    number = world.number()
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: turn.record({"n": number}),
        turn.drain,
        lambda: turn.wait(1.0),
        lambda: turn.send(0, f"m{number}"),
        lambda: turn.follow_up(0, f"m{number}"),
        lambda: turn.spawn("late", f"m{number}"),
        lambda: turn.close(1),
        turn.history,
        turn.list,
    )
    try:
        await world.choose(calls)()
    except NotRunning:
        return
    except Refusal as refusal:
        if world.inside.requests.has_ended and isinstance(refusal, StoreFailed | SessionClosed):
            return
    world.blame(f"turn {turn.number} of agent {turn.agent.id} had ended, and its late call was answered")


def check_attempt(world: World, turn: Turn) -> None:
    """S17: a turn knows how many attempts there were before it, and has all the mail that the last one had read."""
    agent, disk = turn.agent.id, world.disk
    if turn.attempt != disk.in_a_row[agent] + 1 or turn.attempt > world.config.max_attempts:
        world.blame(f"{said(turn)} is attempt {turn.attempt}, and {disk.in_a_row[agent]} were returned before it")
    world.note("attempt after a returned turn", turn.attempt > 1)
    ended = max([number for who, number in disk.ended if who == agent and (who, number) in disk.started], default=0)
    returned = {turn for turn in disk.returned if turn[0] == agent and turn[1] > ended}
    due = {mail for mail, seen in world.read.items() if seen[-1] in returned}
    missing = due - disk.dead - {mail.number for mail in turn.mail}
    if missing:
        world.blame(f"{said(turn)} does not read {sorted(missing)}, which a returned turn before it had read")


def see(world: World, key: tuple[int, int], mails: tuple[Mail, ...]) -> None:
    """The turn reads these mails: it is the only one that ever does, but for turns before it that were returned."""
    disk = world.disk
    for mail in mails:
        seen = world.read.setdefault(mail.number, [])
        if seen and seen[-1] not in disk.returned:
            world.blame(f"turn {key} reads mail {mail.number}, which turn {seen[-1]} had read")
        seen.append(key)
        if mail.number in disk.dead:
            world.blame(f"turn {key} reads mail {mail.number}, which was withdrawn or a dead letter")
        durable = disk.mails.get(mail.number)
        if (
            durable is None
            or durable.target != key[0]
            or (durable.message, durable.notice) != (mail.text, mail.outcome)
        ):
            world.blame(f"turn {key} reads {mail}, the log has {durable}")
            continue
        for request in durable.answers:
            told = world.awaited.get((key[0], request))
            if told is not None and told not in disk.returned:
                world.blame(f"turn {key} reads of request {request} in mail {mail.number}, turn {told} had awaited it")


def check_agent(world: World, agent: AgentInfo) -> None:
    """Checks S11: an agent has its own settings at every load."""
    if agent.id == 0:
        return
    first = world.disk.first_mail.get(agent.id)
    request = None if first is None else world.by_text.get(first.message)
    if agent.id not in world.disk.spawned or request is None:
        world.blame(f"agent {agent.id} works, and the log does not know it")
    elif (request.role, request.settings) != (agent.role, agent.settings):
        world.blame(f"agent {agent.id} was spawned as {request.role} {request.settings}, and is {agent}")


# Actions


async def sleeps(world: World, _: Turn) -> None:
    await dawdle(world.rng)


async def sleeps_long(world: World, _: Turn) -> None:
    with anyio.move_on_after(world.choose((0.5, 2.0))):
        await world.calm.wait()


async def waits(world: World, turn: Turn) -> None:
    targets = tuple([world.target(turn.agent.id) for _ in range(world.choose((0, 0, 1, 2)))])
    await wait_once(world, turn, targets)


async def waits_in_vain(world: World, turn: Turn) -> None:
    """Waits, is cancelled, and waits again."""
    scope = anyio.CancelScope(deadline=anyio.current_time() + world.choose((0.0, 0.001, 0.05, 0.5)))
    with scope:
        await wait_once(world, turn, ())
    if scope.cancelled_caught:
        world.note("wait cancelled")
        await wait_once(world, turn, ())


async def wait_once(world: World, turn: Turn, targets: tuple[Any, ...]) -> None:
    try:
        with waiting(world, turn, "mail"):
            end = await turn.wait(world.choose((0.0, 0.2, 1.0, 4.0)), targets)
    except Refusal as refusal:
        world.note(f"refused {type(refusal).__name__}")
    else:
        world.note(f"wait ended by {end.name}")


async def drains(world: World, turn: Turn) -> None:
    mails = await refusable(world, turn.drain)
    if mails is not None:
        see(world, (turn.agent.id, turn.number), mails)


async def spawns(world: World, turn: Turn) -> None:
    r = world.request("spawn", turn.agent.id, turn.agent.id, world.chance(30))
    handle = await ask(world, r, lambda: turn.spawn(r.name, r.text, r.settings, role=r.role, key=r.key))
    if handle is not None and world.chance(40):
        await within_time(world, turn, [handle])


async def sends(world: World, turn: Turn) -> None:
    r = world.request("send", turn.agent.id, world.target(turn.agent.id), world.chance(30))
    await ask(world, r, lambda: turn.send(r.target, r.text, key=r.key))


async def follows_up(world: World, turn: Turn) -> None:
    r = world.request("follow_up", turn.agent.id, world.target(turn.agent.id), world.chance(30))
    await ask(world, r, lambda: turn.follow_up(r.target, r.text, key=r.key))


async def interrupts(world: World, turn: Turn) -> None:
    await refusable(world, lambda: turn.interrupt(world.target(turn.agent.id)))


async def closes(world: World, turn: Turn) -> None:
    closed = await refusable(world, lambda: turn.close(world.target(turn.agent.id)))
    note_closed(world, closed)


def note_closed(world: World, reply: ClosedAgents | None) -> None:
    """Notes the answer of a close."""
    closed = () if reply is None else reply.agents
    if closed:
        world.closed[closed] += 1
        if world.disk.closed[closed] < world.closed[closed]:
            world.blame(f"a close was told {closed}, and the log does not say so")


async def resumes(world: World, turn: Turn) -> None:
    await refusable(world, lambda: turn.resume(world.target(turn.agent.id)))


async def records(world: World, turn: Turn) -> None:
    number = world.number()
    agent, count = turn.agent.id, turn.number
    world.entries[number] = (agent, count, Told.NOTHING)
    try:
        await turn.record({"n": number})
    except StoreFailed:
        return
    except (NotRunning, SessionClosed):
        if not world.crashed:
            world.entries[number] = (agent, count, Told.NO)
        return
    world.note("entry recorded")
    world.entries[number] = (agent, count, Told.YES)
    if number not in world.disk.entries:
        world.blame(f"entry {number} of agent {agent} was acknowledged, and is not in the log")


async def records_nonsense(world: World, turn: Turn) -> None:
    try:
        await turn.record(Valueless())
    except NotJson:
        world.note("entry that is not JSON refused")
    except NotRunning:
        pass


async def reads_history(world: World, turn: Turn) -> None:
    history = await refusable(world, turn.history)
    if history is not None:
        check_history(world, turn.agent.id, history)
        if not any(isinstance(r, TurnStarted) and r.turn == turn.number for r in history):
            world.blame(f"turn {turn.number} of agent {turn.agent.id} does not find itself in its history")


def check_history(world: World, agent: int, history: tuple[LogRecord, ...]) -> None:
    """Checks that the history that was read is the beginning of the rollout."""
    now = rollout(world, agent)
    if list(history) != now[: len(history)]:
        world.blame(f"agent {agent} reads {history}, its rollout is {now}")


def rollout(world: World, agent: int) -> list[LogRecord]:
    """Returns the agent's records, from the log."""
    found: list[LogRecord] = []
    for record in world.disk.records:
        owner = ROLLOUT.get(record.__class__.__name__)
        if owner is not None and owner(record) == agent:
            found.append(record)
    return found


ROLLOUT: dict[str, Callable[[Any], int]] = {
    "MailAccepted": lambda r: r.target,
    "TurnStarted": lambda r: r.agent,
    "MailDrained": lambda r: r.agent,
    "MailRead": lambda r: r.agent,
    "MailWithdrawn": lambda r: r.agent,
    "MailDemoted": lambda r: r.agent,
    "TurnStopped": lambda r: r.agent,
    "TurnReturned": lambda r: r.agent,
    "TurnEnded": lambda r: r.outcome.agent,
    "Entry": lambda r: r.agent,
}
"""Class of a record that belongs to a rollout -> the agent whose it is."""


async def ignores(world: World, turn: Turn) -> None:
    await ignore(world, turn)


async def looks(world: World, turn: Turn) -> None:
    await refusable(world, turn.list)
    await refusable(world, lambda: turn.status(turn.agent.id))


async def leaves_code_behind(world: World, turn: Turn) -> None:
    world.old_turns.append(turn)


ACTIONS: tuple[Callable[[World, Turn], Awaitable[None]], ...] = (
    *(sleeps, sleeps, sleeps_long, waits, waits, waits_in_vain, waits_in_vain, drains, drains, spawns, spawns, spawns),
    *(sends, follows_up, follows_up, interrupts, closes, resumes, records, records, records_nonsense, reads_history),
    *(ignores, looks, leaves_code_behind, *delegation.ACTIONS),
)


# Threads


class SimulatedThread(Thread):
    """A thread that checks how it is treated: one method at a time, load first, close once and last."""

    world: ClassVar[World]

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self.busy: str | None = None
        self.is_loaded = False
        self.closed = 0
        self.abandoned = False
        """Whether it ignored its cancellation: then it may never be closed."""
        world = self.world
        if world.chance(2):
            world.note("constructor raised")
            raise world.choose((Broken, *NOT_CAUGHT))("constructor")
        check_agent(world, agent)
        self.opening = world.opening
        world.threads.append(self)

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        self._begin("load")
        world = self.world
        try:
            world.note("load of a thread")
            if has_time_to_load(world, self.agent.id):
                world.loads.add((self.agent.id, world.inside.session.agents[self.agent.id].turn))
            check_history(world, self.agent.id, history)
            for number, (agent, opening) in world.flushed.items():
                if agent == self.agent.id and opening == world.opening and number not in world.disk.entries:
                    world.blame(f"agent {agent} is loaded, and what its last thread flushed ({number}) is not durable")
            await self._trouble("load")
            self.is_loaded = True
        finally:
            self.busy = None

    async def run(self, turn: Turn) -> Any:
        if not self.is_loaded:
            self.world.blame(f"agent {self.agent.id} runs on a thread that was not loaded")
        self._begin("run")
        try:
            return await work(self.world, turn)
        finally:
            self.abandoned |= (self.agent.id, turn.number) in self.world.deaf
            self.busy = None

    async def flush(self) -> Any:
        self._begin("flush")
        world = self.world
        try:
            world.note("flush of a thread")
            await self._trouble("flush")
            if world.chance(3):
                world.note("flush gave no JSON")
                return Valueless()
            if world.rng.random() < 0.4:
                return None
            number = world.number()
            if anyio.current_effective_deadline() > anyio.current_time():
                world.flushed[number] = (self.agent.id, world.opening)
            return {"n": number}
        finally:
            self.busy = None

    async def close(self) -> None:
        self.closed += 1
        if self.closed > 1:
            self.world.blame(f"a thread of agent {self.agent.id} was closed twice")
        self._begin("close")
        self.closed = max(self.closed, 1)
        if self.world.chance(5):
            self.world.note("close raised")
            raise self.world.choose((Broken, *NOT_CAUGHT))("close")

    def _begin(self, what: str) -> None:
        if self.busy is not None:
            self.world.blame(f"a thread of agent {self.agent.id} is to {what} while it is busy with {self.busy}")
        if self.closed and what != "close":
            self.world.blame(f"a thread of agent {self.agent.id} is to {what} after it was closed")
        if self.opening != self.world.opening:
            self.world.blame(f"a thread of agent {self.agent.id} is to {what} in a later opening")
        self.busy = what if what != "close" else None

    async def _trouble(self, what: str) -> None:
        """Answers late, badly or never."""
        world = self.world
        try:
            if world.chance(40):
                await dawdle(world.rng)
            if world.chance(8):
                world.note(f"{what} raised")
                raise world.choose((Broken, *NOT_CAUGHT))(what)
            if world.chance(4):
                world.note(f"thread lost in {what}")
                raise ThreadLost(what)
            if world.chance(8):
                world.note(f"{what} hung")
                world.slow_loads.add(self.agent.id)
                await world.calm.wait()
        except anyio.get_cancelled_exc_class():
            world.note(f"{what} cancelled")
            if world.chance(15):
                self.abandoned = True
                if self.agent.id == ROOT:  # its turn loads it
                    world.deaf.add((ROOT, max([turn for agent, turn in world.disk.started if agent == ROOT])))
                await ignore(world, None)
            raise


def has_time_to_load(world: World, agent: int) -> bool:
    """Is the load's bound far enough away for a thread that dawdles? It is near, or over, if the thread had to wait for
    room in memory that code takes which does not stop. The root has no load of its own.
    """
    if agent == ROOT:
        return True
    at, _ = world.inside.session.deadlines.pending.get((Bound.LOAD, agent), (0.0, 0))
    return at - world.inside.engine.now() > DAWDLE_MAX_S


def roles_of(world: World) -> dict[str, Work]:
    """Returns the work of all roles. The default one is that of the root."""

    async def function(turn: Turn) -> Any:
        return await work(world, turn)

    keeper: Work = type("Keeper", (SimulatedThread,), {"world": world})
    return {"default": world.choose((function, keeper)), "work": function, "keep": keeper}
