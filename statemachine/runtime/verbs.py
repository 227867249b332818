"""Carries out the verbs, in the name of the host or of an agent (semantics.md section 4, operations).

`AgentControl` offers them to the host and `Turn` to the code of an agent; each is written here once. A verb checks its
values, gives one event to the core, and returns when its answer is durable, or raises the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from heapq import merge
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.events import HOST, Event
from statemachine.core.exact import shown, text
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.refusals import UnknownAgent
from statemachine.runtime.checks import headers_of, number_of, reference_of, sender_of, text_of
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import UnknownPath, gives_way
from statemachine.runtime.handles import AgentRef, Handle, Target, check_own, is_at
from statemachine.runtime.requests import Requests
from statemachine.runtime.settings import role_of, wrap
from statemachine.runtime.status import AgentStatus, status_of
from statemachine.stores import limits
from statemachine.stores.protocol import LogRecord

OPEN = Identity.OPEN
NOT_STARTED = (TurnState.QUEUED, TurnState.STARTING)
REFERENCES = (Handle, AgentRef)
Headers = Mapping[str, Any] | None
Statuses = list[AgentStatus]
PAGE = 256
"""Agents that a list looks at, or tells, before the event loop serves others: a millisecond or two."""

P = ParamSpec("P")
R = TypeVar("R")
Verb = Callable[Concatenate["Verbs", P], Coroutine[Any, Any, R]]


def when_awaited(verb: Verb[P, R]) -> Verb[P, R]:
    """Has the verb raise what it refuses at once only when it is awaited (`Verbs.refused`). One that is not refused
    takes no longer by that.
    """

    @wraps(verb)
    def checked(verbs: Verbs, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        try:
            return verb(verbs, *args, **kwargs)
        except Exception as refusal:
            return verbs.refused(refusal)

    return checked


class Verbs:
    """The verbs of the host and of agents. A `sender` is an agent's id, or HOST."""

    def __init__(self, engine: Engine, requests: Requests) -> None:
        self._engine = engine
        self._session = engine.session
        self._requests = requests

    def id_of(self, target: Target) -> int:
        """Returns the id. A path means the open agent there, or else the last closed one. Raises `UnknownPath`, and
        `TypeError` for a handle or reference of another session, which have the same numbers.
        """
        if type(target) is Handle:
            return check_own(self._session, target).id
        path = text(target)
        if path is None:
            agent = number_of(self._named(target).id if isinstance(target, REFERENCES) else target)
            if agent is None:
                raise TypeError(f"a target is a path, an id or a reference, not {shown(target)}")
            return agent
        found = self._session.find(path)
        if found is None:
            found = self._session.find_last(path)
        if found is None:
            raise UnknownPath(path)
        return found

    async def ids_of(self, targets: Sequence[Target]) -> tuple[int, ...]:
        """Returns the ids. Raises `UnknownPath`, once that is durable."""
        try:
            return tuple([self.id_of(target) for target in targets])
        except UnknownPath as refusal:
            await self.refused(refusal)
            raise

    @gives_way
    async def refused(self, refusal: Exception) -> Any:
        """Raises the refusal. That a path is unknown is told only once that is durable: a forget that is not would be
        undone by a crash, and the agent would be there again.
        """
        try:
            if isinstance(refusal, UnknownPath):
                self._engine.enter()
                await self._engine.settled()
            raise refusal
        finally:
            del refusal  # which holds this frame

    def _named(self, named: Handle | AgentRef) -> AgentRef:
        """Returns the reference. Raises `TypeError` for one of another session, unless that has an agent there too."""
        if isinstance(named, Handle):
            return check_own(self._session, named).ref
        ref = reference_of(named)
        if not is_at(self._session, ref):
            raise TypeError(f"{ref} is not a reference of this session, which has another agent with its number")
        return ref

    def mail_of(self, request: object) -> int:
        """Returns the number of a mail, which a handle or reference has too. Raises `TypeError` for anything else."""
        mail = number_of(self._named(request).mail if isinstance(request, REFERENCES) else request)
        if mail is None:
            raise TypeError(f"a request is a handle, a reference or the number of a mail, not {shown(request)}")
        return mail

    # Requests: they return the coroutine of the request itself, which saves a call around it

    @when_awaited
    def spawn(
        self,
        sender: int,
        parent: Target,
        name: str,
        message: str,
        settings: Any,
        role: str,
        headers: Headers,
        key: str | None,
    ) -> Coroutine[Any, Any, Handle]:
        """A new agent below the parent; the sender is told how its turn ended."""
        message, name, role = text_of(message, limits.MESSAGE), text_of(name, limits.NAME), text_of(role, limits.ROLE)
        if sender is not HOST:
            sender = sender_of(sender)
        wrapped, said = wrap(role, settings), None if headers is None else headers_of(headers)
        above = self.id_of(parent)
        if 0 <= above < len(self._session.agents):
            text_of(f"{self._session.agents[above].path}/{name}", limits.PATH)
        event = ev.Spawn(above, name, message, wrapped, sender, said)
        return self._requests.make(event, None, key, role)

    @when_awaited
    def send(
        self, sender: int, target: Target, message: str, headers: Headers, key: str | None
    ) -> Coroutine[Any, Any, Handle]:
        """Queue-only mail."""
        message, said = text_of(message, limits.MESSAGE), None if headers is None else headers_of(headers)
        if sender is not HOST:
            sender = sender_of(sender)
        agent = self.id_of(target)
        return self._requests.make(ev.Send(sender, agent, message, said), agent, key)

    @when_awaited
    def follow_up(
        self, sender: int, target: Target, message: str, headers: Headers, key: str | None
    ) -> Coroutine[Any, Any, Handle]:
        """Trigger mail."""
        message, said = text_of(message, limits.MESSAGE), None if headers is None else headers_of(headers)
        if sender is not HOST:
            sender = sender_of(sender)
        agent = self.id_of(target)
        return self._requests.make(ev.FollowUp(sender, agent, message, said), agent, key, self._role_of(agent))

    @when_awaited
    def start(self, target: Target, message: str, headers: Headers, key: str | None) -> Coroutine[Any, Any, Handle]:
        """The host's direct way to a turn."""
        message, said = text_of(message, limits.MESSAGE), None if headers is None else headers_of(headers)
        agent = self.id_of(target)
        return self._requests.make(ev.Start(agent, message, said), agent, key, self._role_of(agent))

    def _role_of(self, agent: int) -> str | None:
        """The role of an agent that is asked for a turn. None: there is work for it, or the core refuses the agent."""
        agents = self._session.agents
        if not 0 <= agent < len(agents):
            return None
        found = agents[agent]
        return None if found.settings is None or found.identity is not OPEN else role_of(found.settings)

    # Control

    def _ask(self, event: Event, kind: type[R]) -> Coroutine[Any, Any, R]:
        """What `Engine.ask` does; the event is applied at once."""
        return self._engine.answered(self._engine.apply(event), kind)

    @when_awaited
    def withdraw(self, sender: int, request: Handle | AgentRef | int) -> Coroutine[Any, Any, fx.Withdrawn]:
        """Makes an unread mail a dead letter."""
        if sender is not HOST:
            sender = sender_of(sender)
        ref = self._named(request) if isinstance(request, REFERENCES) else None
        return self._withdraw(ev.Withdraw(sender, self.mail_of(request)), ref)

    @gives_way
    async def _withdraw(self, event: ev.Withdraw, ref: AgentRef | None) -> fx.Withdrawn:
        if ref is not None:
            await self._requests.check_unread_of(ref)
        return await self._ask(event, fx.Withdrawn)

    @when_awaited
    def interrupt(self, sender: int, target: Target, subtree: bool) -> Coroutine[Any, Any, fx.Interrupted]:
        """Stops the running or queued turn of the target, with `subtree` those of all agents below it too."""
        if sender is not HOST:
            sender = sender_of(sender)
        return self._ask(ev.Interrupt(sender, self.id_of(target), bool(subtree)), fx.Interrupted)

    @when_awaited
    def close(self, sender: int, target: Target) -> Coroutine[Any, Any, fx.ClosedAgents]:
        """Closes the target and all agents below it."""
        if sender is not HOST:
            sender = sender_of(sender)
        return self._ask(ev.Close(sender, self.id_of(target)), fx.ClosedAgents)

    @when_awaited
    def resume(self, sender: int, target: Target) -> Coroutine[Any, Any, fx.Resumed]:
        """Opens a closed agent again."""
        if sender is not HOST:
            sender = sender_of(sender)
        return self._ask(ev.Resume(sender, self.id_of(target)), fx.Resumed)

    @when_awaited
    def forget(self, target: Target) -> Coroutine[Any, Any, fx.Forgotten]:
        """Drops a closed agent and all agents below it."""
        return self._ask(ev.Forget(self.id_of(target)), fx.Forgotten)

    # Reading

    @when_awaited
    def status(self, target: Target) -> Coroutine[Any, Any, AgentStatus]:
        """Returns the logical facts of an agent."""
        reply = self._engine.apply(ev.Status(self.id_of(target)))
        return self._status(reply, self._asking(reply))

    async def _status(self, reply: fx.Reply, mail: MailAccepted | None) -> AgentStatus:
        return self._told(await self._engine.answered(reply, fx.AgentStatus), mail)

    @when_awaited
    def list(self, prefix: str, closed: bool) -> Coroutine[Any, Any, tuple[AgentStatus, ...]]:
        """Every open agent at or below the prefix, or every one. A few are told as of one moment. Many are told page by
        page, each as of its own, so that the event loop serves others in between.
        """
        prefix, closed = text_of(prefix, limits.PATH), bool(closed)
        self._engine.enter()
        if self._are_many(prefix, closed):
            return self._listed_in_pages(prefix, closed)
        return self._listed_at_once(prefix, closed)

    def _are_many(self, prefix: str, closed: bool) -> bool:
        """Tells whether a list looks at more than a page of agents."""
        if len(self._session.agents) <= PAGE:
            return False
        return any(True for _ in islice(self._session.below(prefix, closed), PAGE, None))

    async def _listed_in_pages(self, prefix: str, closed: bool) -> tuple[AgentStatus, ...]:
        """Those that are closed or forgotten before their page comes are left out of it, and those spawned meanwhile
        may be.
        """
        found: list[list[tuple[str, int]]] = []
        line = self._session.below(prefix, closed)
        while page := list(islice(line, PAGE)):
            found.append(sorted([(agent.path, agent.id) for agent in page if closed or agent.identity is OPEN]))
            await anyio.lowlevel.checkpoint()
        in_order = merge(*found)
        told: Statuses = []
        while agents := [agent for _, agent in islice(in_order, PAGE)]:
            told += await self._told_of(agents, closed)
        return tuple(told)

    async def _told_of(self, agents: Sequence[int], closed: bool) -> Statuses:
        """The status of these agents, of those that are still known, and open or wanted though they are closed."""
        replies = [self._engine.apply(ev.Status(agent)) for agent in agents]
        mails = [self._asking(reply) for reply in replies]
        await self._engine.settled()
        told: Statuses = []
        for reply, mail in zip(replies, mails, strict=True):
            if isinstance(reply, fx.AgentStatus):
                if closed or reply.open:
                    told.append(self._told(reply, mail))
            elif not (isinstance(reply, fx.Refused) and isinstance(reply.refusal, UnknownAgent)):
                await self._engine.answered(reply, fx.AgentStatus)  # which raises
        return told

    async def _listed_at_once(self, prefix: str, closed: bool) -> tuple[AgentStatus, ...]:
        reply = self._engine.apply(ev.ListAgents(prefix, closed))
        mails = [self._asking(said) for said in reply.agents] if isinstance(reply, fx.Listing) else []
        listing = await self._engine.answered(reply, fx.Listing)
        return tuple([self._told(said, mail) for said, mail in zip(listing.agents, mails, strict=True)])

    def _asking(self, said: fx.Reply) -> MailAccepted | None:
        """The mail that asks for the turn of an agent which has not started. It has its time when the answer is known,
        and is read perhaps.
        """
        if not isinstance(said, fx.AgentStatus) or said.status not in NOT_STARTED:
            return None
        return next((mail for mail in self._session.agents[said.agent].mailbox if mail.kind is MailKind.TRIGGER), None)

    def _told(self, said: fx.AgentStatus, mail: MailAccepted | None) -> AgentStatus:
        asked = None if mail is None else mail.at
        return status_of(said, self._engine.times.moments(said.agent, said.open, said.status, asked))

    @when_awaited
    def history(self, target: Target) -> Coroutine[Any, Any, tuple[LogRecord, ...]]:
        """Returns the rollout of an agent, with all that was accepted before the call."""
        self._engine.enter()
        return self._history(self.id_of(target))

    @gives_way
    async def _history(self, agent: int) -> tuple[LogRecord, ...]:
        if not 0 <= agent < len(self._session.agents):
            raise UnknownAgent(agent)
        await self._requests.check_not_forgotten(agent)
        await self._engine.settled()
        return await self._requests.rollout(agent)
