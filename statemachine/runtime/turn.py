"""What a turn's code gets: its mail, and what it may do in its agent's name.

Everything here is for the turn's own code, while the turn lasts. Afterwards each call is refused with `NotRunning`, so
code that was abandoned or kept a reference changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from attrs import define, field

from statemachine.core.effects import AgentStatus, Drained, StartTurn, WaitEnd, Waiting, WaitOver
from statemachine.core.events import HOST, Drain, StopWaiting, Wait
from statemachine.core.facts import fact
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, MailKind, Outcome
from statemachine.core.refusals import NotRunning
from statemachine.runtime.checks import check_seconds
from statemachine.runtime.threads import DEFAULT_ROLE, json_value
from statemachine.stores.protocol import Entry

if TYPE_CHECKING:
    from statemachine.runtime.control import AgentControl
    from statemachine.runtime.handles import Handle, Target
    from statemachine.runtime.threads import AgentInfo
    from statemachine.stores.protocol import LogRecord

TRIGGER, RUNNING = MailKind.TRIGGER, TurnState.RUNNING


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


@define(eq=False)
class Waiter:
    """Code that waits, and why its wait ended."""

    over: anyio.Event = field(factory=anyio.Event)
    end: WaitEnd | None = None


class Turn:
    """One turn of an agent's work."""

    def __init__(self, control: AgentControl, agent: AgentInfo, start: StartTurn) -> None:
        self._control = control
        self.agent = agent
        self.number = start.turn
        """Turns of an agent count from 1."""
        self.mail: tuple[Mail, ...] = self._read(start.mail)
        """What was unread when the turn started, oldest first."""
        self.over = False
        """Has the turn ended, whatever its code still does?"""
        self._waiters: list[Waiter] = []
        """Whoever waits; more than one only if the wakes of the others are on their way."""

    @property
    def path(self) -> str:
        """The agent's path."""
        return self.agent.path

    @property
    def settings(self) -> Any:
        """What the agent was spawned with."""
        return self.agent.settings

    def _read(self, mail: tuple[MailAccepted, ...]) -> tuple[Mail, ...]:
        agents = self._control.session.agents
        return tuple(
            [
                Mail(
                    m.mail,
                    "host" if m.sender == HOST else agents[m.sender].path,
                    m.message,
                    m.kind is TRIGGER,
                    m.notice,
                )
                for m in mail
            ]
        )

    def _lasts(self) -> None:
        """Raises `NotRunning` once the turn has ended, even if nobody has told its code yet."""
        known = self._control.session.agents[self.agent.id]
        if self.over or known.turn != self.number or known.status < RUNNING:
            raise self._ended()

    def _ended(self) -> Exception:
        if self._control.engine.error is not None:
            return self._control.ended_by()
        return NotRunning(self.agent.id, self.number)

    def end(self) -> None:
        """The turn has ended, and so has what waits in it. For the runtime."""
        self.over = True
        for waiter in self._waiters:
            waiter.over.set()
        self._waiters.clear()

    # Mail

    async def drain(self) -> tuple[Mail, ...]:
        """Reads all mail that came since the turn started, or since the last drain, oldest first."""
        self._lasts()
        reply = await self._control.ask(Drain(self.agent.id, self.number), Drained)
        return self._read(reply.mail)

    async def wait(self, timeout: float, targets: tuple[Target, ...] = ()) -> WaitEnd:
        """Waits until there is unread mail (MAIL), one of `targets` is idle with an outcome or closed (TARGET), or
        `timeout` seconds have passed (TIMEOUT). The turn keeps its slot. STALLED: everybody waits while somebody queues
        for a slot, so this turn should end soon. INTERRUPTED comes with the turn's cancellation.

        Raises `AlreadyWaiting` for a second wait at the same time, `InvalidTimeout` beyond `max_wait`.
        """
        self._lasts()
        check_seconds(timeout)
        control = self._control
        ids = tuple([control.id_of(target) for target in targets])
        reply = control.engine.apply(Wait(self.agent.id, self.number, timeout, ids))
        if not isinstance(reply, Waiting):
            return (await control.answered(reply, WaitOver)).end
        waiter = Waiter()
        self._waiters.append(waiter)
        try:
            await waiter.over.wait()
        except BaseException:
            self._give_up(waiter)
            raise
        if waiter.end is None:
            raise self._ended()
        return waiter.end

    def _give_up(self, waiter: Waiter) -> None:
        """Whoever waited was cancelled. If the core has ended that wait, the wake is on its way and has to find it in
        line, because the next one in line may be another wait of this turn.
        """
        waiting = self._control.session.waits.get(self.agent.id)
        is_last = bool(self._waiters) and self._waiters[-1] is waiter
        if is_last and waiting is not None and waiting.turn == self.number:
            self._waiters.pop()
            self._control.engine.apply_at_once(StopWaiting(self.agent.id, self.number))

    def wake(self, end: WaitEnd) -> None:
        """The core says that the wait is over. For the runtime."""
        if self._waiters:
            waiter = self._waiters.pop(0)
            waiter.end = end
            waiter.over.set()

    # The rollout

    async def record(self, entry: Any) -> None:
        """Writes an entry into the agent's rollout, any JSON value; returns when it is durable. Raises `NotJson`."""
        self._lasts()
        engine = self._control.engine
        engine.record(Entry(self.agent.id, self.number, json_value(entry)))
        await engine.settled()

    async def history(self) -> tuple[LogRecord, ...]:
        """The agent's rollout so far: its mail, turns and entries, oldest first."""
        self._lasts()
        return await self._control.history(self.agent.id)

    # Others. What these raise and return is said at the verbs of `AgentControl`.

    async def spawn(
        self, name: str, message: str, settings: Any = None, *, role: str = DEFAULT_ROLE, key: str | None = None
    ) -> Handle:
        """A sub-agent of this one, which gets the notice when its turn ends."""
        self._lasts()
        return await self._control.spawn_for(self.agent.id, self.agent.id, name, message, settings, role, key)

    async def send(self, target: Target, message: str, *, key: str | None = None) -> int:
        """Queue-only mail from this agent; returns its number."""
        self._lasts()
        return await self._control.send(target, message, sender=self.agent.id, key=key)

    async def follow_up(self, target: Target, message: str, *, key: str | None = None) -> Handle:
        """Trigger mail from this agent, which gets the notice when the turn ends that reads it."""
        self._lasts()
        return await self._control.follow_up_for(self.agent.id, target, message, key)

    async def interrupt(self, target: Target) -> None:
        """Stops the turn that another agent has or waits for."""
        self._lasts()
        await self._control.interrupt(target, sender=self.agent.id)

    async def close(self, target: Target) -> tuple[int, ...]:
        """Closes another agent and all below it; returns their ids."""
        self._lasts()
        return await self._control.close(target, sender=self.agent.id)

    async def resume(self, target: Target) -> tuple[int, ...]:
        """Opens a closed agent again; returns the ids of those that are open again."""
        self._lasts()
        return await self._control.resume(target, sender=self.agent.id)

    async def status(self, target: Target) -> AgentStatus:
        """The logical facts of an agent."""
        self._lasts()
        return await self._control.status(target)

    async def list(self, prefix: str = "/root") -> tuple[AgentStatus, ...]:
        """Every open agent at or below `prefix`."""
        self._lasts()
        return await self._control.list(prefix)
