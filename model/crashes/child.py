"""Runs a session under load and writes what it was told: the process that `model/crashes/server.py` kills.

Hosts and agents call every verb. Each line of the journal is one unbuffered write. An `ask` is written before the verb
is called, its `ack` (or `no`, if it was refused) as soon as the verb has returned, so the journal shows what was
acknowledged, and what may have been done without an acknowledgement:

    {"ask": "0.3", "do": "send", "by": -1, "to": 2, "text": "0.3", "key": null}
    {"ack": "0.3", "mail": 17}
    {"took": [2, 5], "mail": [17], "attempt": 1}         a turn runs, and has read this
    {"outcome": 12, "is": [2, 5, "COMPLETED", "r2.5", "FINISHED", null]}   what came of request 12
    {"commit": 120}                                      an append has returned; the log's last position
    {"broken": "..."}                                    something that must not be

Every text, name and key is used once in the life of a file, so that it can be counted in the log.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from functools import partial
from random import Random
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from attrs import define

from statemachine.core.config import SessionConfig
from statemachine.core.effects import ClosedAgents, Forgotten, Interrupted, Resumed
from statemachine.core.events import HOST
from statemachine.core.machines import Identity
from statemachine.core.records import Outcome
from statemachine.core.refusals import Refusal, StoreFailed, UnknownAgent
from statemachine.runtime import AgentControl, AgentInfo, AgentRef, Handle, Thread, ThreadLost, Turn, engine
from statemachine.runtime.control import inside
from statemachine.runtime.threads import Work
from statemachine.stores import Entry, SQLiteStore, StoreError
from statemachine.stores.durability import Synchronous
from statemachine.stores.protocol import LogRecord, Snapshot, Write

from ..configurations import KILLED, KILLED_LIVE, draw
from .delegating import delegate

Request = dict[str, Any]
HOSTS = 4
NAP_S = 0.002


@define(kw_only=True)
class Order:
    """The task of one process. `number` is unique in the life of the file."""

    path: str
    seed: int
    number: int
    takeover: bool = False
    contends: bool = False
    """Whether it opens the session repeatedly, for a few requests each time."""
    checkpoints: bool = True
    """False: the WAL keeps everything since the opening."""
    trace: str | None = None
    repeat: Sequence[Request] = ()
    """Earlier requests with keys, to be repeated."""
    requests: Sequence[tuple[int, str, int]] = ()
    """Requests whose outcome was not told yet: agent, path, mail."""


def config_of(seed: int) -> SessionConfig:
    """Returns the configuration of the life with this seed: small caps, so that they are soon reached."""
    rng = Random(f"config {seed}")
    return draw(rng.choices((KILLED, KILLED_LIVE), (85, 15))[0], rng.choice)


class Journal:
    """Writes the lines of one process."""

    def __init__(self, write: Callable[[bytes], object], number: int) -> None:
        self._write = write
        self._number = number
        self._counter = itertools.count()

    def line(self, **words: Any) -> None:
        """Writes one line, at once and as a whole: what it says has happened."""
        self._write(json.dumps(words).encode() + b"\n")

    def fresh(self) -> str:
        """Returns a name that the file has never had."""
        return f"{self._number}.{next(self._counter)}"


class JournalingStore(SQLiteStore):
    """Writes where the log ends, after each append."""

    def __init__(self, order: Order, journal: Journal) -> None:
        chance = Random(f"store {order.seed} {order.number}").random()
        synchronous = Synchronous.FULL if chance < 0.5 else Synchronous.NORMAL  # no matter to SIGKILL, but to timing
        super().__init__(order.path, takeover=order.takeover, synchronous=synchronous)
        self._journal = journal
        self._checkpoints = order.checkpoints

    async def open(self, config: SessionConfig) -> Any:
        found = await super().open(config)
        assert self._tables is not None
        if not self._checkpoints:
            self._tables.connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._journal.line(open=found.epoch, process=os.getpid(), position=self._tables.position)
        return found

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        await super().append(items)
        assert self._tables is not None
        self._journal.line(commit=self._tables.position)


# Asking


async def perform(control: AgentControl, request: Request, turn: Turn | None = None) -> tuple[Request, Handle | None]:
    """Makes the request, through the turn if there is one. Returns what was acknowledged."""
    to = request.get("to")
    found = None if to is None else inside(control).session.agent(to)  # None if its spawn was lost
    turn_before = None if found is None else found.turn
    status_before = None if found is None else found.status
    result = await (of_host(control, request) if turn is None else of_turn(turn, request))
    if isinstance(result, Handle):
        return {"agent": result.id, "path": result.path, "mail": result.ref.mail}, result
    if isinstance(result, Interrupted):
        # The core may have been told the time in between. What was so before and was interrupted is the same turn.
        known = result.previous is status_before
        return {"previous": result.previous.name, "turn": turn_before} if known else {}, None
    if isinstance(result, ClosedAgents | Forgotten | Resumed):
        return {"agents": list(result.agents)}, None
    return {} if result is None else {"mail": result}, None


def of_host(control: AgentControl, request: Request) -> Awaitable[Any]:
    """Calls the verb of the host, in the name of the request's sender."""
    words: list[Any] = [request.get(name) for name in ("do", "by", "to", "text", "key")]
    do, by, to, text, key = words
    match do:
        case "spawn":
            settings, role = request["settings"], request["role"]
            return control.spawn(request["parent"], request["name"], text, settings, role=role, sender=by, key=key)
        case "send":
            return control.send(to, text, sender=by, key=key)
        case "follow_up":
            return control.follow_up(to, text, sender=by, key=key)
        case "start":
            return control.start(to, text, key=key)
        case "interrupt":
            return control.interrupt(to, sender=by)
        case "interrupt subtree":
            return control.interrupt(to, subtree=True, sender=by)
        case "withdraw":
            return control.withdraw(request["mail"], sender=by)
        case "forget":
            return control.forget(to)
        case "close":
            return control.close(to, sender=by)
    return control.resume(to, sender=by)


def of_turn(turn: Turn, request: Request) -> Awaitable[Any]:
    """Calls the verb of the turn."""
    words: list[Any] = [request.get(name) for name in ("do", "to", "text", "key")]
    do, to, text, key = words
    match do:
        case "spawn":
            return turn.spawn(request["name"], text, request["settings"], role=request["role"], key=key)
        case "send":
            return turn.send(to, text, key=key)
        case "follow_up":
            return turn.follow_up(to, text, key=key)
        case "interrupt":
            return turn.interrupt(to)
        case "interrupt subtree":
            return turn.interrupt(to, subtree=True)
        case "withdraw":
            return turn.withdraw(request["mail"])
        case "close":
            return turn.close(to)
        case "resume":
            return turn.resume(to)
    return turn.record(request["data"])


class Life:
    """One opening of the session, until it is killed."""

    def __init__(self, order: Order, journal: Journal, tasks: TaskGroup) -> None:
        self.order = order
        self.journal = journal
        self.tasks = tasks
        self.control: AgentControl
        self.mails: list[int] = []
        """Of this opening, as they were accepted."""

    async def ask(self, request: Request, turn: Turn | None = None) -> Handle | None:
        """Asks, and says what was told. Returns the handle, if there is one."""
        number = self.journal.fresh()
        self.journal.line(ask=number, **request)
        try:
            facts, handle = await perform(self.control, request, turn)
        except Refusal as refusal:
            if isinstance(refusal, StoreFailed):
                raise  # it may have been done or not
            self.journal.line(no=number, why=type(refusal).__name__)
            return None
        self.journal.line(ack=number, **facts)
        if "mail" in facts:
            self.mails.append(facts["mail"])
        if handle is not None:
            Context().run(self.tasks.start_soon, self.watch, handle)  # not in the name of the turn that asks
        return handle

    async def watch(self, handle: Handle) -> None:
        """Writes the outcome of a request."""
        try:
            outcome = await handle.outcome()
        except Refusal:
            return  # the session ended before
        self.journal.line(outcome=handle.ref.mail, **{"is": list(words_of(outcome))})

    def told(self, turn: Turn, handle: Handle, outcome: Outcome) -> None:
        """Says what a turn was told that has awaited a request."""
        told = [turn.agent.id, turn.number]
        self.journal.line(told=told, outcome=handle.ref.mail, **{"is": list(words_of(outcome))})

    def broken(self, text: str) -> None:
        """Says that something is so that must not be."""
        self.journal.line(broken=text)

    # What to ask

    def request(self, rng: Random, by: int) -> Request:
        """Draws a request. Agents make fewer that stop others."""
        weights = WEIGHTS_OF_HOST if by == HOST else WEIGHTS_OF_AGENT
        (do,) = rng.choices(tuple(weights), tuple(weights.values()))
        fresh = self.journal.fresh()
        if do == "record":
            return {"do": do, "by": by, "turn": inside(self.control).session.agents[by].turn, "data": {"said": fresh}}
        if do in ("interrupt", "interrupt subtree", "close", "resume", "forget"):
            return {"do": do, "by": by, "to": self.someone(rng, is_open=do not in ("resume", "forget"))}
        if do == "withdraw":
            return {"do": do, "by": by, "mail": rng.choice(self.mails[-4:] or [0])}
        request: Request = {"do": do, "by": by, "text": fresh, "key": f"key {fresh}" if rng.random() < 0.4 else None}
        if do != "spawn":
            return {**request, "to": self.someone(rng)}
        name = fresh.replace(".", "_")
        parent = self.someone(rng) if by == HOST else by
        return {**request, "parent": parent, "name": name, "settings": {"of": name}, "role": rng.choice(ROLES)}

    def work_for_others(self, rng: Random, by: int) -> Request:
        """A request that an agent awaits."""
        while (request := self.request(rng, by))["do"] not in ("spawn", "follow_up"):
            pass
        return request

    def someone(self, rng: Random, is_open: bool = True) -> int:
        """Returns an agent, most often an open one."""
        agents = inside(self.control).session.agents
        found = [a.id for a in agents if (a.identity is Identity.OPEN) == is_open]
        return rng.choice(found if found and rng.random() < 0.95 else [a.id for a in agents])

    # Who asks

    async def host(self, number: int) -> None:
        """Plays one client of the embedding program."""
        rng = Random(f"host {self.order.seed} {self.order.number} {number}")
        while True:
            await checkpoint()  # a refusal waits for nothing
            request = self.request(rng, HOST)
            await self.ask(request)
            if request["do"] == "follow_up" and rng.random() < 0.1:  # before it can have been answered
                await self.ask({"do": rng.choice(("close", "interrupt")), "by": HOST, "to": request["to"]})
            if rng.random() < 0.2:
                await anyio.sleep(rng.random() * NAP_S)

    async def again(self) -> None:
        """Repeats earlier requests, and asks for the outcomes of others."""
        for request in self.order.repeat:
            await self.ask(request)
        for agent, path, mail in self.order.requests:
            try:
                handle = await self.control.handle(AgentRef(agent, path, mail))
            except UnknownAgent:
                self.journal.line(unknown=agent)
            else:
                self.tasks.start_soon(self.watch, handle)

    async def work(self, turn: Turn) -> Any:
        """Plays one turn. Returns a text, or another JSON value."""
        agent = turn.agent.id
        self.journal.line(took=[agent, turn.number], mail=[mail.number for mail in turn.mail], attempt=turn.attempt)
        rng = Random(f"turn {self.order.seed} {self.order.number} {agent} {turn.number}")
        for _ in range(rng.randrange(4)):
            await self.act(turn, rng)
        if rng.random() < 0.1:
            raise ValueError(f"e{agent}.{turn.number}")
        if (
            rng.random() < 0.05 and not inside(self.control).session.live_threads
        ):  # there a death closes, which is not told
            raise ThreadLost(f"e{agent}.{turn.number}")
        return rng.choice((f"r{agent}.{turn.number}", {"r": [agent, turn.number]}))

    async def act(self, turn: Turn, rng: Random) -> None:
        """Does one thing that turns do."""
        chance = rng.random()
        try:
            if chance < 0.15:
                mail = await turn.drain()
                self.journal.line(took=[turn.agent.id, turn.number], mail=[m.number for m in mail])
            elif chance < 0.25:
                await turn.wait(rng.random() * NAP_S, (self.someone(rng),))
            elif chance < 0.5:
                await delegate(self, turn, rng)
            elif chance < 0.6:
                with anyio.CancelScope(shield=rng.random() < 0.2):
                    await anyio.sleep(rng.random() * NAP_S)
            else:
                await self.ask(self.request(rng, turn.agent.id), turn)
        except Refusal as refusal:
            if isinstance(refusal, StoreFailed):
                raise


WEIGHTS_OF_HOST = {
    **{"spawn": 8, "send": 4, "follow_up": 9, "start": 2, "interrupt": 2, "close": 2, "resume": 2},
    **{"interrupt subtree": 1, "withdraw": 2, "forget": 0.5},
}
WEIGHTS_OF_AGENT = {
    **{"spawn": 4, "send": 3, "follow_up": 4, "record": 8, "interrupt": 0.5, "close": 0.5, "resume": 0.5},
    **{"interrupt subtree": 0.2, "withdraw": 1},
}
ROLES = ("default", "keeper")


OutcomeWords = tuple[int, int, str, Any, str, int | None]
"""Agent, turn, status, result, cause, and the agent that asked for the end."""


def words_of(outcome: Outcome) -> OutcomeWords:
    """Returns an outcome as the journal has it."""
    return (outcome.agent, outcome.turn, outcome.status.name, outcome.result, outcome.cause.name, outcome.by)


def keeper_of(life: Life) -> type[Thread]:
    """Returns the class of threads that count what they have recorded, and find the count again in the rollout."""

    class Keeper(Thread):
        def __init__(self, agent: AgentInfo) -> None:
            super().__init__(agent)
            self.kept = 0
            if agent.settings != {"of": agent.path.rpartition("/")[2]}:
                life.journal.line(broken=f"S11: {agent.path} was loaded with the settings {agent.settings}")

        async def load(self, history: tuple[LogRecord, ...]) -> None:
            if Random(f"load {life.order.seed} {self.agent.id} {len(history)}").random() < 0.05:
                raise OSError("not now")
            self.kept = sum("kept" in record.data for record in history if isinstance(record, Entry))

        async def run(self, turn: Turn) -> Any:
            self.kept += 1
            request = {"do": "record", "by": self.agent.id, "turn": turn.number, "data": {"kept": self.kept}}
            await life.ask(request, turn)
            return await life.work(turn)

        async def flush(self) -> Any:
            if Random(f"flush {life.order.seed} {self.agent.id} {self.kept}").random() < 0.1:
                raise OSError("not now")
            return {"flushed": self.kept}

    return Keeper


# One process


async def live(order: Order, journal: Journal) -> None:
    """Opens the session and works on it until the process is killed."""
    rng = Random(f"openings {order.seed} {order.number}")
    while True:
        store = JournalingStore(order, journal)
        async with anyio.create_task_group() as tasks:
            life = Life(order, journal, tasks)
            roles: Mapping[str, Work] = {"default": life.work, "keeper": keeper_of(life)}
            life.control = AgentControl.open(store, roles, config_of(order.seed), trace=order.trace)
            try:
                async with life.control, anyio.create_task_group() as hosts:
                    hosts.start_soon(life.again)
                    for number in range(HOSTS):
                        hosts.start_soon(life.host, number)
                    if order.contends:
                        await anyio.sleep(rng.random() * 20 * NAP_S)
                        hosts.cancel_scope.cancel()
            except* (StoreError, StoreFailed) as group:
                if not order.contends:
                    raise
                journal.line(lost=[type(error).__name__ for error in leaves(group)])
            tasks.cancel_scope.cancel()
        if not order.contends:
            return
        await anyio.sleep(rng.random() * NAP_S)


def leaves(error: BaseException) -> list[BaseException]:
    """Returns the exceptions in a group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]


def main(order: Order, file: int) -> None:
    """Runs the process. Returns only after a failure, which the journal names."""
    logging.disable()
    rng = Random(f"process {order.seed} {order.number}")
    engine.SNAPSHOT_RECORDS = rng.choice((7, 60, 5_000))
    journal = Journal(partial(os.write, file), order.number)
    try:
        anyio.run(live, order, journal, backend=rng.choice(("asyncio", "trio")))
        journal.line(broken="the process came to an end")
    except BaseException:
        journal.line(broken=traceback.format_exc())
