"""Carries out the verbs, in the name of the host or of an agent (semantics.md section 4, operations).

`AgentControl` offers them to the host and `Turn` to the code of an agent; each is written here once. A verb checks its
values, gives one event to the core, and returns when its answer is durable, or raises the refusal.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.events import HOST
from statemachine.core.refusals import UnknownAgent
from statemachine.runtime.checks import check_sender, check_text
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import UnknownPath
from statemachine.runtime.handles import AgentRef, Handle, Target
from statemachine.runtime.requests import Requests
from statemachine.runtime.settings import wrap
from statemachine.runtime.status import AgentStatus, status_of
from statemachine.stores.protocol import LogRecord

REFERENCES = (Handle, AgentRef)


class Verbs:
    """The verbs of the host and of agents. A `sender` is an agent's id, or HOST."""

    def __init__(self, engine: Engine, requests: Requests) -> None:
        self._engine = engine
        self._session = engine.session
        self._requests = requests

    def id_of(self, target: Target) -> int:
        """Returns the id. A path means the open agent there, or else the last closed there. Raises `UnknownPath`."""
        if isinstance(target, REFERENCES):
            return target.id
        if isinstance(target, int) and not isinstance(target, bool):
            return target
        if not isinstance(target, str):
            raise TypeError(f"a target is a path, an id or a reference, not {target!r}")
        found = self._session.find(target)
        if found is None:
            found = next((a.id for a in reversed(self._session.agents) if a.path == target), None)
        if found is None:
            raise UnknownPath(target)
        return found

    def mail_of(self, request: Handle | AgentRef | int) -> int:
        """Returns the number of a mail, which a handle or reference has too."""
        if isinstance(request, Handle):
            return request.ref.mail
        if isinstance(request, AgentRef):
            return request.mail
        if isinstance(request, int) and not isinstance(request, bool):
            return request
        raise TypeError(f"a request is a handle, a reference or the number of a mail, not {request!r}")

    # Requests: they return the coroutine of the request itself, which saves a call around it

    def spawn(
        self, sender: int, parent: Target, name: str, message: str, settings: Any, role: str, key: str | None
    ) -> Coroutine[Any, Any, Handle]:
        """Opens an agent below the parent; the sender is told how its turn ended."""
        check_text(message)
        check_text(name, "a name")
        check_text(role, "a role")
        if sender != HOST:
            check_sender(sender)
        event = ev.Spawn(self.id_of(parent), name, message, wrap(role, settings), sender)
        return self._requests.make(event, None, key, role)

    async def send(self, sender: int, target: Target, message: str, key: str | None) -> int:
        """Sends queue-only mail; returns its number."""
        check_text(message)
        if sender != HOST:
            check_sender(sender)
        agent = self.id_of(target)
        return (await self._requests.make(ev.Send(sender, agent, message), agent, key)).ref.mail

    def follow_up(self, sender: int, target: Target, message: str, key: str | None) -> Coroutine[Any, Any, Handle]:
        """Sends trigger mail."""
        check_text(message)
        if sender != HOST:
            check_sender(sender)
        agent = self.id_of(target)
        return self._requests.make(ev.FollowUp(sender, agent, message), agent, key)

    def start(self, target: Target, message: str, key: str | None) -> Coroutine[Any, Any, Handle]:
        """Starts a turn for the host."""
        check_text(message)
        agent = self.id_of(target)
        return self._requests.make(ev.Start(agent, message), agent, key)

    # Control

    async def withdraw(self, sender: int, request: Handle | AgentRef | int) -> None:
        """Makes an unread mail a dead letter."""
        if sender != HOST:
            check_sender(sender)
        await self._engine.ask(ev.Withdraw(sender, self.mail_of(request)), fx.Withdrawn)

    async def interrupt(self, sender: int, target: Target, subtree: bool) -> fx.Interrupted:
        """Stops the running or queued turn of the target."""
        if sender != HOST:
            check_sender(sender)
        return await self._engine.ask(ev.Interrupt(sender, self.id_of(target), bool(subtree)), fx.Interrupted)

    async def close(self, sender: int, target: Target) -> fx.ClosedAgents:
        """Closes the target and all agents below it."""
        if sender != HOST:
            check_sender(sender)
        return await self._engine.ask(ev.Close(sender, self.id_of(target)), fx.ClosedAgents)

    async def resume(self, sender: int, target: Target) -> fx.Resumed:
        """Opens a closed agent again."""
        if sender != HOST:
            check_sender(sender)
        return await self._engine.ask(ev.Resume(sender, self.id_of(target)), fx.Resumed)

    # Reading

    async def forget(self, target: Target) -> fx.Forgotten:
        """Drops a closed agent and all below it."""
        return await self._engine.ask(ev.Forget(self.id_of(target)), fx.Forgotten)

    async def status(self, target: Target) -> AgentStatus:
        """Returns the logical facts of an agent."""
        return status_of(await self._engine.ask(ev.Status(self.id_of(target)), fx.AgentStatus))

    async def list(self, prefix: str) -> tuple[AgentStatus, ...]:
        """Returns the status of every open agent at or below the prefix."""
        check_text(prefix, "a prefix")
        listing = await self._engine.ask(ev.ListAgents(prefix), fx.Listing)
        return tuple([status_of(said) for said in listing.agents])

    async def history(self, target: Target) -> tuple[LogRecord, ...]:
        """Returns the rollout of an agent, with all that was accepted before the call."""
        agent = self.id_of(target)
        if not 0 <= agent < len(self._session.agents):
            raise UnknownAgent(agent)
        await self._engine.settled()
        return await self._requests.rollout(agent)
