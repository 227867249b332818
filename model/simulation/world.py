"""Keeps what a simulation knows and the runtime under it does not: what was drawn, requested, told, seen and done.

One `World` is one seed. Everything in it survives the crashes of the simulated process. A fault is noted with `blame`,
and the run goes on: the next fault often explains more.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, field

from statemachine.core.config import SessionConfig
from statemachine.core.records import Cause, Outcome
from statemachine.core.refusals import AgentClosed, Refusal, SessionClosed, StoreFailed, UnknownAgent
from statemachine.core.session import Session
from statemachine.runtime import AgentControl, AgentRef, Handle, KeyReused, Turn, UnknownPath
from statemachine.runtime.control import Inside, inside
from statemachine.runtime.handles import Target
from statemachine.stores.errors import StoreError

from .schedule import CancelledPastShields, past_shields
from .store import Disk, End, SimulatedStore

T = TypeVar("T")

NAMES = ("a", "b", "c", "d")
DAWDLE_MAX_S = 0.2


class Told(Enum):
    """What the caller was told."""

    NOTHING = 0
    """The answer was lost by a cancellation, a crash, or a failure of the store. The request may have been made or not.
    """
    YES = 1
    NO = 2


@define(eq=False)
class Request:
    """One request to accept a mail. Its text is unique, so it can be found in the log."""

    text: str
    verb: str
    sender: int
    target: Target
    name: str
    role: str
    settings: Any
    key: str | None
    told: Told = Told.NOTHING
    ref: AgentRef | None = None
    """The answer."""
    tries: int = 0
    asked_now: int = 0
    """Number of callers that make it now."""

    @property
    def is_trigger(self) -> bool:
        return self.verb != "send"


@define(eq=False)
class World:
    """One seed: its chance, its disk, and its notes."""

    seed: int
    rng: random.Random
    config: SessionConfig
    disk: Disk
    notes: Counter[str] = field(factory=Counter[str])
    """What happened -> count."""
    blames: list[str] = field(factory=list[str])
    """The faults."""
    calm: anyio.Event = field(factory=anyio.Event)
    """Set: from now on threads answer at once and well."""
    crashed: bool = False
    """Whether the present opening was abandoned."""
    opening: int = 0
    control: AgentControl | None = None
    """The control of the present opening, or of the last."""
    requests: list[Request] = field(factory=list[Request])
    by_text: dict[str, Request] = field(factory=dict[str, Request])
    lost: list[Request] = field(factory=list[Request])
    """Requests with a key whose answer was lost."""
    closed: Counter[tuple[int, ...]] = field(factory=Counter[tuple[int, ...]])
    """The agents that a close was told -> count."""
    entries: dict[int, tuple[int, int, Told]] = field(factory=dict[int, tuple[int, int, Told]])
    """Entry -> agent, turn, and what the code that recorded it was told."""
    flushed: dict[int, tuple[int, int]] = field(factory=dict[int, tuple[int, int]])
    """Entry that a flush gave back -> agent and opening."""
    ran: set[tuple[int, int]] = field(factory=set[tuple[int, int]])
    """Turns that work has seen, by agent and turn."""
    read: dict[int, list[tuple[int, int]]] = field(factory=dict[int, list[tuple[int, int]]])
    """Mail -> the turns that have seen it: one, and before it those that were returned."""
    awaited: dict[tuple[int, int], tuple[int, int]] = field(factory=dict[tuple[int, int], tuple[int, int]])
    """Agent and request that it made -> the turn that was told of its outcome by awaiting it."""
    withdrawn: set[int] = field(factory=set[int])
    """Mail whose withdrawal was answered."""
    at_turn: list[Turn] = field(factory=list[Turn])
    """Turns of the present opening whose code runs."""
    waits: list[tuple[Turn, str]] = field(factory=list[tuple[Turn, str]])
    """What the tasks of these turns wait for in the session."""
    came_to: dict[tuple[int, int], tuple[Cause, Any]] = field(factory=dict[tuple[int, int], tuple[Cause, Any]])
    """Turn -> what its work returned ("completed") or raised ("errored")."""
    deaf: set[tuple[int, int]] = field(factory=set[tuple[int, int]])
    """Turns whose work ignored its cancellation."""
    loads: set[tuple[int, int]] = field(factory=set[tuple[int, int]])
    """Turns, by agent and turn, for which a load has begun in time, in the opening in which they ended."""
    slow_loads: set[int] = field(factory=set[int])
    """Agents with a load that did not answer in time."""
    outcomes: list[tuple[AgentRef, Outcome]] = field(factory=list[tuple[AgentRef, Outcome]])
    """Outcomes that handles gave."""
    handles: list[Handle] = field(factory=list[Handle])
    """Handles of the present opening."""
    old_turns: list[Any] = field(factory=list[Any])
    """Turns that have ended, kept by code that should have forgotten them."""
    at_work: dict[int, str] = field(factory=dict[int, str])
    """Host -> the verb that it calls now."""
    threads: list[Any] = field(factory=list[Any])
    """Threads of the present opening."""
    numbers: int = 0

    def blame(self, text: str) -> None:
        """Notes a fault."""
        self.blames.append(f"opening {self.opening}: {text}")

    def note(self, what: str, count: int = 1) -> None:
        """Counts something that happened."""
        self.notes[what] += count

    def chance(self, percent: float) -> bool:
        """Draws True with this probability, for things that go wrong; never when all is calm."""
        return not self.calm.is_set() and self.rng.random() * 100 < percent

    def choose(self, what: Sequence[T]) -> T:
        """Draws one of these."""
        return what[int(self.rng.random() * len(what))]

    def number(self) -> int:
        """Returns a new number."""
        self.numbers += 1
        return self.numbers

    async def pause(self) -> None:
        """A little time: a few rounds of the scheduler, or a little of the clock."""
        await dawdle(self.rng)

    def request(self, verb: str, sender: int, target: Target, keyed: bool, tree: int = 0) -> Request:
        """A new request. The agent that it spawns is to delegate to a tree of so many levels below it."""
        number = self.number()
        key = f"k{number}" if keyed else None
        role, settings = self.choose((("work", None), ("work", {"n": number}), ("keep", None), ("keep", [number])))
        settings = {"tree": tree} if tree else settings
        made = Request(f"m{number}", verb, sender, target, self.choose(NAMES), role, settings, key)
        self.requests.append(made)
        self.by_text[made.text] = made
        return made

    @property
    def inside(self) -> Inside:
        """The parts of the session that is open, or was last."""
        assert self.control is not None
        return inside(self.control)

    def target(self, sender: int = -1) -> Target:
        """Draws an agent, mostly an open one, by id, path or reference."""
        session = self.inside.session
        agents = session.agents
        agent = agents[int(self.rng.random() * len(agents))]
        if self.rng.random() < 0.5 and session.ledger.by_path:
            agent = agents[self.choose(list(session.ledger.by_path.values()))]
        if agent.id == sender and self.rng.random() < 0.8:
            agent = agents[0] if sender else agents[-1]
        draw = self.rng.random()
        if draw < 0.6:
            return agent.id
        if draw < 0.9 or (agent.id and agent.id not in self.disk.spawned):  # whose reference no host has yet
            return agent.path
        return AgentRef(agent.id, agent.path, 0)


@define(eq=False)
class Opening:
    """One opening of the session, for the judge."""

    end: End
    trace: Path
    store: SimulatedStore
    session: Session | None = None
    """The session; None: never opened."""
    control: AgentControl | None = None
    stream: list[object] = field(factory=list[object])
    """The events that `events()` gave."""
    trace_failed: bool = False
    """Whether the trace could not be written any more from some moment on."""
    lost: bool = False
    """Whether the stream's reader was too slow once."""


async def dawdle(rng: random.Random) -> None:
    """A little time: a few rounds of the scheduler, or a little of the clock."""
    draw = rng.random()
    if draw < 0.6:
        for _ in range(int(draw * 10)):
            await checkpoint()
    else:
        await anyio.sleep((0.001, 0.01, 0.05, DAWDLE_MAX_S)[int(rng.random() * 4)])


async def cancelled_past_shields(world: World, call: Coroutine[Any, Any, None]) -> bool:
    """Cancels the call of a host as asyncio itself can, past every shield. False: too late.

    Not for a turn's code: to the runtime, which looks for cancellations there, this one is none of trio's.
    """
    try:
        await past_shields(call, 1 + int(world.rng.random() * 4))
    except (CancelledPastShields, BaseExceptionGroup) as error:
        rest = None
        if isinstance(error, BaseExceptionGroup):
            rest = error.subgroup(lambda one: not isinstance(one, CancelledPastShields | BaseExceptionGroup))
        if rest is not None:
            await checkpoint()  # if the host itself is cancelled, it is by that
            raise rest from None
        return True
    return False


async def cancelled_at_random(world: World, call: Callable[[], Awaitable[None]]) -> bool:
    """Cancels the call: after some rounds of the scheduler, or some time. False: too late."""
    rounds, seconds = int(world.rng.random() * 12), world.choose((0.0005, 0.005, 0.02, 0.1))
    by_time = world.rng.random() < 0.4
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def cancel() -> None:
            if by_time:
                await anyio.sleep(seconds)
            for _ in range(rounds):
                await checkpoint()
            scope.cancel()

        tasks.start_soon(cancel)
        with scope:
            await call()
        tasks.cancel_scope.cancel()
    return scope.cancelled_caught


async def ask(world: World, request: Request, call: Callable[[], Awaitable[Handle | int]]) -> Handle | None:
    """Makes a request, and notes what was told. Returns the handle, if there is one. Does not raise refusals."""
    request.tries += 1
    request.asked_now += 1
    heard = False
    try:
        result = await call()
        heard = True
    except StoreError:  # nothing was asked: the store was read for the key's receipt before
        world.note("request met a store that cannot be read")
        return None
    except KeyReused:
        world.note("key reused")
        if not isinstance(request.target, str):  # a path may mean another agent by now, and then so does the request
            world.blame(f"{request.verb} {request.text} was asked as before with its key, and told that it was not")
        return None
    except Refusal as refusal:
        world.note(f"refused {type(refusal).__name__}")
        if isinstance(refusal, StoreFailed) or (isinstance(refusal, SessionClosed) and world.crashed):
            world.note("request had no answer because the session failed")
            return None
        heard = True
        if isinstance(refusal, SessionClosed) and request.tries > 1 and world.inside.requests.is_left:
            world.note("repeated key of a session that was left")  # the store is closed: what was made is not told
            return None
        if is_forgotten(world, request, refusal):
            world.note("repeated key of a forgotten agent")
            return None
        if request.told is Told.YES:
            world.blame(f"{request.verb} {request.text} was answered before, and now refused: {refusal!r}")
        request.told = Told.NO
        return None
    finally:
        request.asked_now -= 1
        if not heard and request.key is not None and request not in world.lost:
            world.lost.append(request)
    world.note(f"accepted {request.verb}")
    accept(world, request, result)
    return result if isinstance(result, Handle) else None


def is_forgotten(world: World, request: Request, refusal: Refusal) -> bool:
    """Was the request made before, and the agent that it was made of, or that it names, is forgotten since?"""
    if isinstance(refusal, UnknownAgent):
        is_gone = refusal.agent in world.disk.forgotten
    else:
        is_gone = isinstance(refusal, UnknownPath) and bool(world.disk.forgotten)
    return is_gone and request.tries > 1


def accept(world: World, request: Request, result: Handle | int) -> None:
    """Notes the answer of a request: what was told has to be durable by now."""
    if isinstance(result, Handle):
        ref = result.ref
        world.handles.append(result)
    else:
        mail = world.disk.mails.get(result)
        agents = world.inside.session.agents
        ref = AgentRef(-1, "", result) if mail is None else AgentRef(mail.target, agents[mail.target].path, result)
    if request.told is Told.YES and request.ref is not None:
        world.note("repeated key gave the first answer")
        if (ref.id, ref.mail) != (request.ref.id, request.ref.mail):
            world.blame(f"{request.verb} {request.text} was answered with {request.ref}, and now with {ref}")
    elif request.tries > 1:
        world.note("repeated key after a lost answer")
    if request.told is Told.NO:
        world.blame(f"{request.verb} {request.text} was refused before, and now answered with {ref}")
    request.told, request.ref = Told.YES, ref
    mail = world.disk.mails.get(ref.mail)
    if mail is None or mail.message != request.text or mail.target != ref.id:
        world.blame(f"{request.verb} {request.text} was told mail {ref.mail}, but the log has {mail}")
    if request.verb == "spawn" and ref.id not in world.disk.spawned:
        world.blame(f"spawn {request.text} was told agent {ref.id}, which is not in the log")


async def learn(world: World, handle: Handle, seconds: float) -> None:
    """Waits a while, outside of turns, for the outcome, and keeps it for the judge."""
    with anyio.move_on_after(seconds):
        try:
            outcome = await handle.outcome()
        except (StoreFailed, SessionClosed):
            world.note("outcome ended with the session")
            return
        world.note("outcome by handle")
        keep_outcome(world, handle, outcome)


def keep_outcome(world: World, handle: Handle, outcome: Outcome) -> None:
    """A handle gave this outcome: it is durable, and the judge compares it with the log."""
    world.outcomes.append((handle.ref, outcome))
    if (outcome.agent, outcome.turn) not in world.disk.ended and outcome not in world.disk.answered_apart:
        world.blame(f"the handle of mail {handle.ref.mail} told {outcome}, which is not in the log")


async def refusable(world: World, call: Callable[[], Awaitable[T]]) -> T | None:
    """Calls a verb that may be refused, or whose store may fail. Returns None then."""
    try:
        return await call()
    except StoreError:
        world.note("verb met a store that cannot be read")
    except AgentClosed:
        world.note("refused AgentClosed")
    except Refusal as refusal:
        world.note(f"refused {type(refusal).__name__}")
    return None
