"""What a turn's code gets: its mail, and verbs in its agent's name.

Everything here is for the turn's own code, while the turn lasts. Afterwards each call is refused with `NotRunning`, so
code that was abandoned or kept a reference changes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import anyio
from attrs import field

from statemachine.core.effects import ClosedAgents, Drained, Interrupted, Resumed, StartTurn, WaitEnd
from statemachine.core.events import HOST, Drain, WaitMode
from statemachine.core.facts import fact
from statemachine.core.records import MailAccepted, MailKind, Outcome
from statemachine.core.refusals import InvalidTimeout
from statemachine.runtime.checks import mode_of, seconds_of, several
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import give_way, gives_way
from statemachine.runtime.handles import AgentRef, Handle, Target, copy_of, requests_of
from statemachine.runtime.settings import DEFAULT_ROLE, AgentInfo, json_value
from statemachine.runtime.status import AgentStatus
from statemachine.runtime.verbs import PAGE, Verbs
from statemachine.runtime.waits import Lending, Waits
from statemachine.stores.protocol import Entry, LogRecord

__all__ = ["Mail", "Turn"]

TRIGGER = MailKind.TRIGGER


@fact
class Mail:
    """One mail that a turn has read. `sender` is a path, "host", or "forgotten". A notice has as its `outcome` how a
    turn ended that this agent had asked for; its text is empty.
    """

    number: int
    sender: str
    text: str
    is_trigger: bool
    outcome: Outcome | None
    headers: dict[str, Any] = field(hash=False)
    """What its sender gave with it; empty if that was nothing."""
    at: float | None
    """When it came, in seconds since the epoch; None if the file is of a version that recorded no times."""


class Turn:
    """One turn of an agent's work: the mail that it has read, and the verbs with which its code acts for its agent.

    The verbs are those of `AgentControl`, with the same names, values and errors, and with this agent as the sender:
    it gets a notice when a turn ends that it has asked for. Once the turn has ended, each of them raises `NotRunning`
    (`over` tells), or `SessionClosed` or `StoreFailed` if the session has.
    """

    def __init__(self, engine: Engine, verbs: Verbs, waits: Waits, agent: AgentInfo, start: StartTurn) -> None:
        self._engine = engine
        self._verbs = verbs
        self._waits = waits
        self.agent = agent
        self.number = start.turn
        """Number of the turn; an agent's turns count from 1."""
        self._drains = 0
        """How many times it has drained."""
        self._undelivered: dict[int, tuple[MailAccepted, ...]] = {}
        """Which drain -> the mail that it has read in the log, and has not given, because it was cancelled."""
        self.mail: tuple[Mail, ...] = self._read(start.mail)
        """Mail that was unread when the turn started, oldest first."""
        self.attempt: int = start.attempt
        """1, or one more for each turn before it that was returned: a crash, or the death of the thread, ended it, and
        what it had read is this turn's mail again (`max_attempts`)."""

    @property
    def over(self) -> bool:
        """Whether the turn has ended, even if its code still runs."""
        return self._waits.is_over

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the oldest trigger mail in `mail`, which this turn is due to. Give them on to what the turn
        asks of others: `turn.spawn("scout", "look", headers=turn.headers)`.
        """
        asked = next((mail for mail in self.mail if mail.is_trigger), None)
        return {} if asked is None else asked.headers

    @property
    def path(self) -> str:
        """The agent's path."""
        return self.agent.path

    @property
    def settings(self) -> Any:
        """What the agent was spawned with."""
        return self.agent.settings

    def _read(self, mail: tuple[MailAccepted, ...]) -> tuple[Mail, ...]:
        agents = self._engine.session.agents
        return tuple(
            [
                Mail(
                    m.mail,
                    "host" if m.sender == HOST else agents[m.sender].path or "forgotten",
                    m.message,
                    m.kind is TRIGGER,
                    None if m.notice is None else copy_of(m.notice),
                    {} if m.headers is None else json.loads(m.headers),
                    m.at,
                )
                for m in mail
            ]
        )

    # Mail

    @gives_way
    async def drain(self) -> tuple[Mail, ...]:
        """Reads all mail that came since the turn started, or since the last drain, oldest first. What a drain would
        have given that was cancelled, the next one gives.
        """
        self._waits.check()
        reply = self._engine.apply(Drain(self._waits.agent, self._waits.turn))
        place = self._drains = self._drains + 1
        try:
            mail = (await self._engine.answered(reply, Drained)).mail
        except BaseException:
            if isinstance(reply, Drained) and reply.mail:
                self._undelivered[place] = reply.mail
            raise
        if self._undelivered:
            # what was drained before this is durable with it
            earlier = sorted([number for number in self._undelivered if number < place])
            mail = (*[one for number in earlier for one in self._undelivered.pop(number)], *mail)
        return self._read(mail)

    @gives_way
    async def wait(
        self,
        timeout: float | None = None,
        targets: tuple[Target, ...] = (),
        *,
        requests: tuple[Handle | AgentRef | int, ...] = (),
        mode: WaitMode = WaitMode.ANY,
        mail: bool = True,
    ) -> WaitEnd:
        """Waits until there is unread mail (MAIL; not with `mail=False`), one of `targets` is idle with an outcome or
        closed (TARGET), one of `requests`, or with `mode=WaitMode.ALL` all of them, are answered (ANSWERED), or
        `timeout` seconds have passed (TIMEOUT); by default, and at most, `max_wait`. The turn lends its slot meanwhile,
        and has one when this returns.

        STALLED: every slot is held by a turn that waits, and no more turns may be in memory, so this one should end
        soon. DRAINING: the session is shut down, and what could have ended the wait does not start any more.
        INTERRUPTED comes with the turn's cancellation.

        Raises `InvalidTimeout` below 0 and beyond `max_wait`, `UnknownMail` for a request that never was, and
        `UnknownPath` or `UnknownAgent` for a target that never was.
        """
        self._waits.check()
        seconds = self._engine.session.config.max_wait if timeout is None else seconds_of(timeout)
        ids = await self._verbs.ids_of(cast("tuple[Target, ...]", several(targets, "targets")))
        numbers = tuple([self._verbs.mail_of(request) for request in several(requests, "requests")])
        if not (mail and self._undelivered):
            return await self._waits.wait(seconds, ids, numbers, mode_of(mode), bool(mail))
        # To the code it is unread, and the core has read it: the wait is over at once, and comes before a target.
        if 0 <= seconds <= self._engine.session.config.max_wait:
            seconds = 0.0
        end = await self._waits.wait(seconds, ids, numbers, mode_of(mode), True)
        return WaitEnd.MAIL if end in (WaitEnd.TIMEOUT, WaitEnd.TARGET) else end

    @gives_way
    async def outcomes(self, *handles: Handle) -> tuple[Outcome, ...]:
        """Waits until all of these requests are answered, and returns their outcomes in the same order. It is one wait
        of the turn, and raises what `Handle.outcome` raises.
        """
        self._waits.check()
        self._engine.check_here()
        requests = requests_of(self._engine.session, handles)
        await self._waits.until_answered(tuple([request.ref.mail for request in requests]), WaitMode.ALL)
        return tuple([await request.told() for request in requests])

    async def as_completed(self, *handles: Handle) -> AsyncGenerator[Outcome]:
        """Gives the outcomes of these requests one after the other, the first to be answered first:
        `async for outcome in turn.as_completed(*children)`. Raises what `Handle.outcome` raises.
        """
        try:
            self._engine.check_here()
            pending = requests_of(self._engine.session, handles)
            unanswered = self._engine.session.ledger.requests
            while pending:
                self._waits.check()
                told = [request for request in pending if request.outcome is not None]
                pending = [request for request in pending if request.outcome is None]
                for number, first in enumerate(sorted(told, key=lambda request: request.place), 1):
                    self._waits.check()
                    # reads its notice, if it is unread
                    await self._waits.until_answered((first.ref.mail,), WaitMode.ANY)
                    yield await first.told()
                    if not number % PAGE:
                        await anyio.lowlevel.checkpoint()  # what is answered already is not waited for
                if told or not pending:
                    continue
                if all(request.ref.mail in unanswered for request in pending):
                    await self._waits.until_answered(tuple([request.ref.mail for request in pending]), WaitMode.ANY)
                else:
                    await self._engine.settled()  # the outcome is told when it is durable
        except Exception:
            await give_way()  # as `gives_way`, which takes no generator
            raise

    def lend(self) -> Lending:
        """Lends the slot: within `async with turn.lend():` the turn needs none, because a person is asked or a tool
        runs for an hour. Others use it meanwhile, if they need it. The block is left with a slot, after a wait for one
        if need be, however it is left; only a turn that is stopped goes on without.
        """
        return self._waits.lend()

    @gives_way
    async def sleep(self, seconds: float) -> None:
        """Sleeps, and lends the slot meanwhile. Raises `InvalidTimeout` below 0 and for no finite number."""
        seconds = seconds_of(seconds)
        if not 0 <= seconds < math.inf:
            raise InvalidTimeout(seconds, math.inf)
        async with self.lend():
            await anyio.sleep(seconds)

    # The rollout

    @gives_way
    async def record(self, entry: Any) -> None:
        """Writes an entry, any JSON value, into the agent's rollout; returns when it is durable. Raises `NotJson`
        and `TooLarge`.
        """
        self._waits.check()
        engine = self._engine
        engine.record(Entry(self._waits.agent, self._waits.turn, json_value(entry)))
        await engine.settled()

    @gives_way
    async def history(self, target: Target | None = None) -> tuple[LogRecord, ...]:
        """Reads the rollout of this agent, or of `target`. See `AgentControl.history`."""
        self._waits.check()
        return await self._verbs.history(self._waits.agent if target is None else target)

    # Other agents

    @gives_way
    async def spawn(
        self,
        name: str,
        message: str,
        settings: Any = None,
        *,
        role: str = DEFAULT_ROLE,
        headers: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Handle:
        """Opens an agent `name` under this one, with `message` as its first mail. See `AgentControl.spawn`."""
        self._waits.check()
        return await self._verbs.spawn(
            self._waits.agent, self._waits.agent, name, message, settings, role, headers, key
        )

    @gives_way
    async def send(
        self, target: Target, message: str, *, headers: Mapping[str, Any] | None = None, key: str | None = None
    ) -> int:
        """Sends queue-only mail; returns its number. See `AgentControl.send`."""
        self._waits.check()
        return (await self._verbs.send(self._waits.agent, target, message, headers, key)).ref.mail

    @gives_way
    async def follow_up(
        self, target: Target, message: str, *, headers: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Handle:
        """Sends trigger mail, which asks for a turn of `target`. See `AgentControl.follow_up`."""
        self._waits.check()
        return await self._verbs.follow_up(self._waits.agent, target, message, headers, key)

    @gives_way
    async def withdraw(self, request: Handle | AgentRef | int) -> None:
        """Takes back mail of this agent that is still unread. See `AgentControl.withdraw`."""
        self._waits.check()
        await self._verbs.withdraw(self._waits.agent, request)

    @gives_way
    async def interrupt(self, target: Target, *, subtree: bool = False) -> Interrupted:
        """Stops the running or queued turn of another agent. See `AgentControl.interrupt`."""
        self._waits.check()
        return await self._verbs.interrupt(self._waits.agent, target, subtree)

    @gives_way
    async def close(self, target: Target) -> ClosedAgents:
        """Closes another agent and all agents below it. See `AgentControl.close`."""
        self._waits.check()
        return await self._verbs.close(self._waits.agent, target)

    @gives_way
    async def resume(self, target: Target) -> Resumed:
        """Opens a closed agent again. See `AgentControl.resume`."""
        self._waits.check()
        return await self._verbs.resume(self._waits.agent, target)

    @gives_way
    async def status(self, target: Target) -> AgentStatus:
        """Returns the logical facts of an agent. See `AgentControl.status`."""
        self._waits.check()
        return await self._verbs.status(target)

    @gives_way
    async def list(self, prefix: str = "/root", *, closed: bool = False) -> tuple[AgentStatus, ...]:
        """Returns the status of every open agent at or below `prefix`. See `AgentControl.list`."""
        self._waits.check()
        return await self._verbs.list(prefix, closed)
