"""Makes requests and answers them, with keys, receipts and handles (semantics.md section 4).

A request is one event to the core. With a key it is made once, however often it is repeated: its receipt is durable
with it, and a repeat gets the first answer. Its outcome comes as an `Answer` effect while the session is open, and is
found in the rollout afterwards.

A request with a key is made in a task of the session, because the key has to be held until it is known whether it is
used, and asyncio can cancel the caller's task at any await: no shield of anyio stops that. A request without a key is
made at once, in the caller's task.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import anyio
import attrs
from attrs import define

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.machines import Identity
from statemachine.core.records import MailAccepted
from statemachine.core.refusals import UnknownAgent
from statemachine.eventloops import Signal
from statemachine.log import receipts
from statemachine.log.trace import event_line
from statemachine.runtime.checks import key_of
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import KeyReused, UnknownRequest, give_way, gives_way
from statemachine.runtime.handles import AgentRef, Handle, Request, is_at, outcome_in
from statemachine.runtime.settings import json_text
from statemachine.stores.errors import StoreCorrupt
from statemachine.stores.protocol import LogRecord, Receipt

RequestEvent = ev.Spawn | ev.Send | ev.FollowUp | ev.Start


@define(eq=False)
class Making:
    """A request with a key, from its call until it is known whether the key is used."""

    key: str
    event: RequestEvent
    target: int | None
    role: str | None
    over: Signal
    is_wanted: bool = True
    """False once its caller was cancelled. Then it is not given to the core any more."""
    is_begun: bool = False
    """Whether its task has begun. asyncio never begins one that is cancelled before its first step."""
    made: Handle | Exception | None = None
    """What the caller gets. None: nothing yet, or the session has ended."""


class Requests:
    """All requests of a session. `check_role` raises `UnknownRole` for a role that has no work. `start_soon` starts a
    task of the session.
    """

    def __init__(self, engine: Engine, check_role: Callable[[str], object], start_soon: Callable[..., object]) -> None:
        self._engine = engine
        self.session = engine.session
        self._check_role = check_role
        self._start_soon = start_soon
        self.signal = engine.signal
        self.ended_by = engine.ended_by
        self.check_here = engine.check_here
        self.has_ended = False
        """Whether the session was shut down or has failed."""
        self.is_left = False
        """Whether the store was closed."""
        self._unanswered: dict[int, Request] = {}
        """Mail -> a request of this process that is not answered yet."""
        self._looked_up: WeakValueDictionary[int, Request] | None = None
        """Mail -> a request found by its reference, answered or not; None: there never was one. An empty dictionary of
        this kind takes 700 bytes, and asking it whether it is empty is a call in Python.
        """
        self._places = itertools.count()
        """The order in which requests are answered."""
        self._making: dict[str, Making] = {}
        """Key -> the request with it that is being made."""

    # Making

    def make(
        self, event: RequestEvent, target: int | None, key: str | None, role: str | None = None
    ) -> Coroutine[Any, Any, Handle]:
        """Makes a request of the agent `target`, or (None) of one to be spawned. Returns its handle. `role` is that of
        this agent, unless it is known to have work. Raises the refusal, `UnknownRole` and `KeyReused`.
        """
        if key is not None:
            return self._once(key, event, target, role)
        if role is not None:
            self._check_role(role)
        return self._carried_out(event, target, None)

    @gives_way
    async def _once(self, key: str, event: RequestEvent, target: int | None, role: str | None) -> Handle:
        """Makes a request with a key; if the key was used before, returns the first answer again."""
        self._engine.enter()
        key = key_of(key)
        while key in self._making:
            await self._making[key].over.wait()
        self._check_not_left()
        making = self._making[key] = Making(key, event, target, role, self.signal())
        self._start_soon(self._make_with_key, making)
        try:
            await making.over.wait()
        except BaseException:
            self._give_up(making)
            raise
        if isinstance(making.made, Handle):
            return making.made
        raise self.ended_by() if making.made is None else making.made

    async def _make_with_key(self, making: Making) -> None:
        """The task of a request with a key. It is shielded from the end of the session's tasks, which waits for it: a
        key is either used, with its receipt, or free.
        """
        if not making.is_wanted:
            return  # it was given up, and the key may be another one's
        making.is_begun = True
        try:
            with anyio.CancelScope(shield=True):
                making.made = await self._first_or_again(making)
        except Exception as error:
            making.made = error
        finally:
            self._free(making)

    def _give_up(self, making: Making) -> None:
        """Its caller waits no more, or the session has ended: its key is free at once if its task has not begun, which
        it may never do.
        """
        making.is_wanted = False
        if not making.is_begun:
            self._free(making)

    def _free(self, making: Making) -> None:
        if self._making.get(making.key) is making:
            del self._making[making.key]
        with suppress(RuntimeError):  # if the event loop is closed, the caller has gone with it
            making.over.set()

    async def _first_or_again(self, making: Making) -> Handle | None:
        key = making.key
        request = event_line(without_headers(making.event)).decode().strip()
        first = await self._engine.store.receipt(key)
        if first is not None:
            return await self._again(key, request, first)
        if making.role is not None:
            self._check_role(making.role)
        if not making.is_wanted:
            return None
        return await self._carried_out(making.event, making.target, (key, request))

    async def _again(self, key: str, request: str, first: Receipt) -> Handle:
        """Returns the handle of the request that was made with this key. Raises `StoreCorrupt` for a receipt that no
        session can have written.
        """
        try:
            answer = receipts.answer_in(first.answer)
        except ValueError as error:
            raise self._damaged(key, str(error)) from None
        await self.check_not_forgotten(answer.agent)
        problem = receipts.problem_of(first.request, answer, self.session.agents)
        if problem is not None:
            raise self._damaged(key, problem)
        try:
            found = self._known(AgentRef(answer.agent, answer.path, answer.mail))
            mail = await self._read(found)
        except UnknownRequest:
            raise self._damaged(key, f"agent {answer.agent} never got its mail {answer.mail}") from None
        asked = receipts.request_in(first.request)
        if asked is None or receipts.mark_wanted(asked, answer.agent) != receipts.mark_of(mail):
            raise self._damaged(key, f"its request {first.request!r:.200} did not make mail {mail.mail}")
        if first.request != request:
            raise KeyReused(key, first.request, answer.agent, answer.path)
        return Handle(found)

    def _damaged(self, key: str, problem: str) -> StoreCorrupt:
        path = getattr(self._engine.store, "path", "memory")
        return StoreCorrupt(path, f"the receipt for key {key!r:.100}: {problem}")

    async def _carried_out(self, event: RequestEvent, target: int | None, key: tuple[str, str] | None) -> Handle:
        receipt = None if key is None else partial(self._receipt_of, key, target)
        try:
            reply = self._engine.apply(event, receipt)
        except Exception:
            await give_way()  # as `gives_way`, which would be one more coroutine for each turn
            raise
        if reply.__class__ is fx.Refused:
            await self._engine.answered(reply, fx.Accepted)
        made: Any = reply
        agent: int = made.agent if target is None else target
        request = Request(AgentRef(agent, self.session.agents[agent].path, made.mail), self)
        if event.__class__ is not ev.Send:  # which is not answered
            self._unanswered[made.mail] = request  # before anything is awaited, so that no answer is missed
        batch = self._engine.in_line  # which its step is in; `settled` would be one more coroutine for each turn
        await batch.settled.wait()
        if not batch.is_durable:
            raise self.ended_by()
        return Handle(request)

    def _receipt_of(self, key: tuple[str, str], target: int | None, reply: Any) -> Receipt:
        agent = reply.agent if target is None else target
        return Receipt(*key, json_text([agent, self.session.agents[agent].path, reply.mail]))

    @property
    def keys(self) -> list[str]:
        """Returns the keys of requests being made."""
        return sorted(self._making)

    # Answering

    def answer(self, effect: fx.Answer) -> None:
        """Gives the outcome that the core has told to its requests."""
        for mail in effect.mails:
            if (request := self._unanswered.pop(mail, None)) is not None:
                request.answer(effect.outcome, next(self._places))
            # also if it was looked up before the mail was accepted
            if self._looked_up is not None and (request := self._looked_up.pop(mail, None)) is not None:
                request.answer(effect.outcome, next(self._places))

    @gives_way
    async def find(self, ref: AgentRef) -> Handle:
        """Returns the handle of an earlier request, of this process or another. Raises `UnknownRequest` if it was never
        made, and `UnknownAgent` if its agent was forgotten.
        """
        self._engine.enter()
        if not 0 <= ref.id < len(self.session.agents):
            raise UnknownAgent(ref.id)
        await self.check_not_forgotten(ref.id)
        if not is_at(self.session, ref):
            raise UnknownRequest(ref.id, ref.path, ref.mail)
        found = self._known(ref)
        if found.outcome is None:  # also if it was found: the call that put it there may have been cancelled
            await self._read(found)
        return Handle(found)

    async def check_unread_of(self, ref: AgentRef) -> None:
        """Raises `UnknownAgent` if the agent of the reference was forgotten, and `UnknownRequest` if its mail is unread
        mail of another agent.
        """
        await self.check_not_forgotten(ref.id)
        unread = self.session.ledger.find_unread(ref.mail)
        if unread is not None and unread.target != ref.id:
            await self._engine.settled()
            raise UnknownRequest(ref.id, ref.path, ref.mail)

    def _known(self, ref: AgentRef) -> Request:
        """Returns the request that a reference names, as far as it is known without the store."""
        found = self._unanswered.get(ref.mail)
        if found is not None and found.ref.id != ref.id:
            raise UnknownRequest(ref.id, ref.path, ref.mail)
        if self._looked_up is None:
            self._looked_up = WeakValueDictionary()
        found = found or self._looked_up.get(ref.mail)
        if found is None or found.ref.id != ref.id:  # a look-up of another agent's mail is refused below
            found = self._looked_up[ref.mail] = Request(ref, self)
        return found

    async def _read(self, found: Request) -> MailAccepted:
        """Returns the mail of a request, and answers the request if that was answered. Raises `UnknownRequest` if its
        agent never got it.
        """
        ref = found.ref
        rollout = await self.rollout(ref.id, ref.mail)
        mail = next((each for each in rollout if isinstance(each, MailAccepted) and each.mail == ref.mail), None)
        if mail is None:
            await self.check_not_forgotten(ref.id)  # it may have been, since the last look
            raise UnknownRequest(ref.id, ref.path, ref.mail)
        outcome = outcome_in(rollout, ref.mail, self.session.live_threads)
        if outcome is not None and found.outcome is None:
            found.answer(outcome, next(self._places))
        return mail

    # The end

    def end(self) -> None:
        """Ends all waits: no more answers will come, and waiting callers are told so."""
        self.has_ended = True
        for request in [*self._unanswered.values(), *(self._looked_up or {}).values()]:
            request.end()

    def leave(self) -> None:
        """Marks the block as left, and the store as closed."""
        self.is_left = True
        for making in [*self._making.values()]:
            if not making.is_begun:
                self._give_up(making)

    def _check_not_left(self) -> None:
        """Raises `SessionClosed` or `StoreFailed` once the block was left and the store closed."""
        if self.is_left:
            raise self.ended_by()

    async def check_not_forgotten(self, agent: int) -> None:
        """Raises `UnknownAgent`, once that is durable, for an agent that was forgotten: its rollout may still be in the
        store.
        """
        agents = self.session.agents
        if 0 <= agent < len(agents) and agents[agent].identity is Identity.FORGOTTEN:
            await self._engine.settled()
            raise UnknownAgent(agent)

    async def rollout(self, agent: int, since: int | None = None) -> tuple[LogRecord, ...]:
        """Returns the agent's mail, turns and entries, from the store; `since`: see `Store.rollout`."""
        self._engine.enter()
        self._check_not_left()
        return await self._engine.store.rollout(agent, since)


def without_headers(event: Any) -> RequestEvent:
    """The request itself: headers such as the context of a trace differ whenever it is made again."""
    request: RequestEvent = event if event.headers is None else attrs.evolve(event, headers=None)
    return request
