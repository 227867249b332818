"""Draws the demo: holders of slots and residency slots, the ready queue, the tree of agents, and the last events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from statemachine.core import effects as fx
from statemachine.core import records as rec
from statemachine.core.agents import Agent
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import Identity, Residency, TurnState
from statemachine.core.session import Session
from statemachine.runtime import AgentControl
from statemachine.runtime.control import inside

from .inspect_session import outcome_text, short

LOG_LINES = 12
REST_LINES = 20
"""Lines of the screen beside those of the log."""
PLACES_LINES = 5
STYLES = {
    "evict": "bold red",
    "reload": "bold green",
    "load": "green",
    "unload": "red",
    "failed": "bold red",
    "closed": "magenta",
}
"""Kind of line -> its style; the others are plain."""
STATUS_STYLES = {
    TurnState.QUEUED: "yellow",
    TurnState.STARTING: "cyan",
    TurnState.RUNNING: "bold cyan",
    TurnState.WAITING: "cyan",
    TurnState.RETURNING: "yellow",
    TurnState.STOPPING: "cyan",
    TurnState.ERRORED: "red",
    TurnState.INTERRUPTED: "magenta",
    TurnState.COMPLETED: "green",
}


@define
class Show:
    """What the screen shows."""

    control: AgentControl
    lines: deque[Text] = field(factory=lambda: deque[Text](maxlen=LOG_LINES))
    act: str = ""
    """The present action of the host."""

    @property
    def session(self) -> Session:
        """The core's session."""
        return inside(self.control).session

    @property
    def seconds(self) -> float:
        """Seconds since the session was opened."""
        return inside(self.control).engine.now()

    @property
    def agents(self) -> list[Agent]:
        """All agents."""
        return self.session.agents

    def name(self, agent: int) -> str:
        """Returns a short name: the end of the path."""
        return "host" if agent == HOST else self.agents[agent].path.rpartition("/")[2]


# Lines


def said(show: Show, event: Any) -> Text | None:
    """Returns a line about an event; None if it is not of interest here."""
    tell = TELL.get(event.__class__)
    found = None if tell is None else tell(show, event)
    if found is None:
        return None
    kind, text = found
    return Text(f"{show.seconds:6.1f} s  {kind:8} {text}", STYLES.get(kind, ""))


def tell_mail(show: Show, mail: rec.MailAccepted) -> tuple[str, str] | None:
    if mail.notice is not None:
        return "notice", f"{show.name(mail.target)} is told that {show.name(mail.sender)} ended"
    kind = "asks" if mail.kind is rec.MailKind.TRIGGER else "tells"
    return "mail", f"{show.name(mail.sender)} {kind} {show.name(mail.target)}: {short(mail.message)}"


def tell_end(show: Show, ended: rec.TurnEnded) -> tuple[str, str]:
    outcome = ended.outcome
    kind = "ended" if outcome.status is TurnState.COMPLETED else "failed"
    return kind, f"turn {outcome.turn} of {show.name(outcome.agent)}: {outcome_text(outcome)}"


def tell_load(show: Show, load: fx.Load) -> tuple[str, str]:
    if load.generation > 1:
        return "reload", f"{show.name(load.agent)} comes back from its rollout (thread number {load.generation})"
    return "load", f"{show.name(load.agent)} gets a residency slot"


def tell_flush(show: Show, flush: fx.Flush) -> tuple[str, str] | None:
    if flush.agent == ROOT:
        return None
    served = show.session.residents.serves.get(flush.agent, -1)
    return "evict", f"{show.name(flush.agent)} makes room{f' for {show.name(served)}' if served > ROOT else ''}"


TELL: dict[type, Callable[[Show, Any], tuple[str, str] | None]] = {
    rec.AgentSpawned: lambda show, e: ("spawned", f"{show.name(e.agent)}, by {show.name(e.parent)}"),
    rec.MailAccepted: tell_mail,
    rec.TurnStarted: lambda show, e: ("started", f"turn {e.turn} of {show.name(e.agent)}"),
    rec.TurnEnded: tell_end,
    rec.AgentsClosed: lambda show, e: ("closed", ", ".join([show.name(agent) for agent in e.agents])),
    fx.Load: tell_load,
    fx.Flush: tell_flush,
    fx.Unload: lambda show, e: ("unload", f"{show.name(e.agent)} is out of memory") if e.agent != ROOT else None,
}
"""Class of record or effect -> kind of line and text."""


# The screen


def screen(show: Show, height: int) -> RenderableType:
    """Returns the screen in `height` lines."""
    session, now, counts = show.session, show.seconds, show.control.statistics()
    held = [agent for agent in session.slots.holders if agent != ROOT]
    slots = [slot_text(show, agent) for agent in held]
    inside = [a for a in show.agents[1:] if a.residency is not Residency.UNLOADED]
    rooms = [room_text(show, a) for a in inside]
    queue = Text(", ".join([show.name(agent) for agent in session.slots.ready]) or "empty", "yellow")
    panels = [
        Panel(places(slots, session.config.execution_cap), title="execution slots", width=34, height=PLACES_LINES),
        Panel(places(rooms, session.config.max_resident), title="residency slots", width=34, height=PLACES_LINES),
        Panel(queue, title="ready queue", width=26, height=PLACES_LINES),
    ]
    lines = max(1, min(LOG_LINES, height - REST_LINES))
    log = Panel(Text("\n").join([*show.lines][-lines:]), title="what happens", height=lines + 2)
    seen = f"   loads {counts.loads}, evictions {counts.evictions}, reloads {counts.reloads}"
    act = Text.assemble((f"{now:5.1f} s  ", "dim"), (show.act, "bold"), (seen, "dim"))
    return Group(act, Columns(panels), tree(show), log)


def places(taken: list[Text], cap: int) -> Text:
    """Returns one line for each place, free ones included."""
    return Text("\n").join([*taken, *[Text("free", "dim")] * (cap - len(taken))])


def slot_text(show: Show, agent: int) -> Text:
    turn, state = show.session.slots.holders[agent]
    waits = ", waits" if agent in show.session.waits.of_agent else ""
    style = "bold cyan" if state.name == "ACTIVE" else "cyan"
    return Text(f"{show.name(agent)}, turn {turn}{waits or (', starts' if style == 'cyan' else '')}", style)


def room_text(show: Show, agent: Agent) -> Text:
    styles = {Residency.LOADING: "green", Residency.UNLOADING: "bold red"}
    word = "" if agent.residency is Residency.RESIDENT else f", {agent.residency.name.lower()}"
    return Text(f"{show.name(agent.id)}{word}", styles.get(agent.residency, ""))


def tree(show: Show) -> Table:
    """Returns all agents as a tree."""
    table = Table("agent", "status", "turn", "memory", "unread", "last outcome", box=None, expand=True)
    table.columns[5].no_wrap, table.columns[5].ratio = True, 1
    for agent in sorted(show.agents, key=lambda a: a.path):
        is_open = agent.identity is Identity.OPEN
        status = agent.status.name.lower() if is_open else "closed"
        status += ", waits" if agent.id in show.session.waits.of_agent and agent.status is TurnState.RUNNING else ""
        memory = "" if agent.residency is Residency.UNLOADED else agent.residency.name.lower()
        table.add_row(
            "  " * agent.depth + show.name(agent.id),
            Text(status, STATUS_STYLES.get(agent.status, "") if is_open else "dim"),
            str(agent.turn or ""),
            Text(memory, {Residency.LOADING: "green", Residency.UNLOADING: "bold red"}.get(agent.residency, "")),
            str(len(agent.mailbox) or ""),
            Text("" if agent.outcome is None else outcome_text(agent.outcome)),
            style="" if is_open else "dim",
        )
    return table
