"""What a turn's code gets: its mail, and what it may do in its agent's name.

Everything here is for the turn's own code, while the turn lasts. Afterwards each call is refused with `NotRunning`, so
code that was abandoned or kept a reference changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field

from statemachine.core.effects import ClosedAgents, Drained, Interrupted, Resumed, StartTurn, WaitEnd
from statemachine.core.events import HOST, Drain
from statemachine.core.facts import fact
from statemachine.core.records import MailAccepted, MailKind, Outcome
from statemachine.runtime.checks import seconds_of
from statemachine.runtime.engine import Engine
from statemachine.runtime.handles import Handle, Target
from statemachine.runtime.settings import DEFAULT_ROLE, AgentInfo, json_value
from statemachine.runtime.status import AgentStatus
from statemachine.runtime.verbs import Verbs
from statemachine.runtime.waits import Waits
from statemachine.stores.protocol import Entry, LogRecord

__all__ = ["Mail", "Turn"]

TRIGGER = MailKind.TRIGGER


@fact
class Mail:
    """One mail that a turn has read. `sender` is a path, or "host". A notice has an `outcome`: how the turn ended that
    this agent had asked for; its text is empty.
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
        """Turns of an agent count from 1."""
        self.mail: tuple[Mail, ...] = self._read(start.mail)
        """What was unread when the turn started, oldest first."""
        asked = next((mail for mail in self.mail if mail.is_trigger), None)
        self.headers: dict[str, Any] = {} if asked is None else asked.headers
        """The headers of the oldest trigger mail in it, which this turn is due to. Give them on to what the turn asks
        of others: `turn.spawn("scout", "look", headers=turn.headers)`.
        """

    @property
    def over(self) -> bool:
        """Has the turn ended, whatever its code still does?"""
        return self._waits.is_over

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
                    "host" if m.sender == HOST else agents[m.sender].path,
                    m.message,
                    m.kind is TRIGGER,
                    m.notice,
                    {} if m.headers is None else json.loads(m.headers),
                    m.at,
                )
                for m in mail
            ]
        )

    # Mail

    async def drain(self) -> tuple[Mail, ...]:
        """Reads all mail that came since the turn started, or since the last drain, oldest first."""
        self._waits.check()
        reply = await self._engine.ask(Drain(self.agent.id, self.number), Drained)
        return self._read(reply.mail)

    async def wait(self, timeout: float, targets: tuple[Target, ...] = ()) -> WaitEnd:
        """Waits until there is unread mail (MAIL), one of `targets` is idle with an outcome or closed (TARGET), or
        `timeout` seconds have passed (TIMEOUT). The turn keeps its slot. STALLED: everybody waits while a turn queues
        for a slot, so this one should end soon. INTERRUPTED comes with the turn's cancellation.

        Raises `AlreadyWaiting` for a second wait at the same time, `InvalidTimeout` below 0 and beyond `max_wait`, and
        `UnknownPath` or `UnknownAgent` for a target that never was.
        """
        self._waits.check()
        return await self._waits.wait(seconds_of(timeout), tuple([self._verbs.id_of(target) for target in targets]))

    # The rollout

    async def record(self, entry: Any) -> None:
        """Writes an entry, any JSON value, into the agent's rollout; returns when it is durable. Raises `NotJson`."""
        self._waits.check()
        engine = self._engine
        engine.record(Entry(self.agent.id, self.number, json_value(entry)))
        await engine.settled()

    async def history(self, target: Target | None = None) -> tuple[LogRecord, ...]:
        """Reads the rollout of this agent, or of `target`. See `AgentControl.history`."""
        self._waits.check()
        return await self._verbs.history(self.agent.id if target is None else target)

    # Others

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
        return await self._verbs.spawn(self.agent.id, self.agent.id, name, message, settings, role, headers, key)

    async def send(
        self, target: Target, message: str, *, headers: Mapping[str, Any] | None = None, key: str | None = None
    ) -> int:
        """Sends queue-only mail; returns its number. See `AgentControl.send`."""
        self._waits.check()
        return await self._verbs.send(self.agent.id, target, message, headers, key)

    async def follow_up(
        self, target: Target, message: str, *, headers: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Handle:
        """Sends trigger mail, which asks for a turn of `target`. See `AgentControl.follow_up`."""
        self._waits.check()
        return await self._verbs.follow_up(self.agent.id, target, message, headers, key)

    async def interrupt(self, target: Target) -> Interrupted:
        """Stops the turn that another agent has or waits for. See `AgentControl.interrupt`."""
        self._waits.check()
        return await self._verbs.interrupt(self.agent.id, target)

    async def close(self, target: Target) -> ClosedAgents:
        """Closes another agent and all below it. See `AgentControl.close`."""
        self._waits.check()
        return await self._verbs.close(self.agent.id, target)

    async def resume(self, target: Target) -> Resumed:
        """Opens a closed agent again. See `AgentControl.resume`."""
        self._waits.check()
        return await self._verbs.resume(self.agent.id, target)

    async def status(self, target: Target) -> AgentStatus:
        """Tells the logical facts of an agent. See `AgentControl.status`."""
        self._waits.check()
        return await self._verbs.status(target)

    async def list(self, prefix: str = "/root", *, closed: bool = False) -> tuple[AgentStatus, ...]:
        """Tells the same of every open agent at or below `prefix`. See `AgentControl.list`."""
        self._waits.check()
        return await self._verbs.list(prefix, closed)
