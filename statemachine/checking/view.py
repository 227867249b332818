"""Shows a session as text: one line for each agent, one for the session.

Replay, golden traces and the scenario tests all show this, so that a test asserts the *whole* state after every step.
A line leaves out ordinary facts::

    /root    new
    /root/a  running 1, resident, slot active, asked by root, waits 1 for mail
    /root/b  queued 1, unread root!
    session  open, slots 1/1, residency 1/1, ready b, idle -

`running 1` is the status with the turn's number. Unread mail is named by its sender, oldest first; `!` asks for a turn,
`=completed` is a notice of how the sender's turn ended. A stopping turn says why, as in `interrupted by host`. A wait
has its number before what it is for; a turn in memory that shows no slot has lent it. The ready queue is in the order
of requests; `overtaken` counts who got a slot before its first. `returned 2` are the attempts that failed, `loads lost
2` the loads that crashes cut off. An agent that is forgotten is shown by `#` and its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from statemachine.core.events import HOST, ROOT, WaitMode
from statemachine.core.machines import Identity, Residency, SlotState, TurnState
from statemachine.core.records import MailKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from statemachine.core.agents import Agent
    from statemachine.core.records import Cause, MailAccepted
    from statemachine.core.session import Session
    from statemachine.core.waits import Waiting


def lines(s: Session) -> list[str]:
    """Returns the whole state as lines: agents by id, then the session."""
    paths = [agent.path or name(s, agent.id) for agent in s.agents]
    width = max(len("session"), *[len(path) for path in paths])
    shown = [f"{path:{width}}  {', '.join(agent_facts(s, agent))}" for path, agent in zip(paths, s.agents, strict=True)]
    return [*shown, f"{'session':{width}}  {', '.join(session_facts(s))}"]


def text(s: Session) -> str:
    """Returns the same as one text, with a newline after each line."""
    return "".join(f"{line}\n" for line in lines(s))


def agent_facts(s: Session, a: Agent) -> list[str]:
    """Returns the facts of one agent, without its path."""
    if a.identity is Identity.FORGOTTEN:
        return ["forgotten"]
    facts = [a.status.name.lower() if a.turn == 0 else f"{a.status.name.lower()} {a.turn}"]
    if a.identity is not Identity.OPEN:
        top = a
        while top.closed_by != top.id and top.identity is Identity.CLOSED:
            top = s.agents[top.closed_by]
        facts.insert(0, "closed" if top is a else f"closed with {name(s, top.id)}")
    if a.residency is not Residency.UNLOADED and a.id != ROOT:
        facts.append(a.residency.name.lower())
    slot = s.slots.holders.get(a.id)
    if slot is not None:
        facts.append(f"slot {SlotState(slot[1]).name.lower()}")
    if a.id in s.ledger.stops:
        stopped = s.ledger.stops[a.id]
        facts.append(why(s, stopped.cause, stopped.by))
    asked = [mail.sender for mail in a.taken if mail.kind is MailKind.TRIGGER and mail.notice is None]
    if asked:
        facts.append(f"asked by {names(s, asked)}")
    if a.mailbox:
        facts.append(f"unread {' '.join(mail_name(s, mail) for mail in a.mailbox)}")
    if a.promised:
        facts.append(f"owed {a.promised}")
    facts += [f"waits {wait_facts(s, wait)}" for wait in s.waits.of(a.id)]
    if a.id in s.ledger.attempts:
        facts.append(f"returned {s.ledger.attempts[a.id]}")
    lost = s.ledger.loads.get(a.id, 0) - (a.residency is Residency.LOADING)
    if lost > 0:
        facts.append(f"loads lost {lost}")
    if a.id in s.residents.tried:
        facts.append(f"tried {names(s, s.residents.tried[a.id])}")
    served = s.residents.serves.get(a.id, HOST)
    if served != HOST:
        facts.append(f"makes room for {name(s, served)}")
    return facts


def wait_facts(s: Session, wait: Waiting) -> str:
    """The number of a wait, and what it is for."""
    requests = [f"request {request}" for request in wait.requests]
    if wait.mode is WaitMode.ALL and len(requests) > 1:
        requests = [" and ".join(requests)]
    what = [*(["mail"] if wait.mail else []), *[name(s, target) for target in wait.targets], *requests]
    return f"{wait.number} for {' or '.join(what) or 'nothing'}"


def session_facts(s: Session) -> list[str]:
    """Returns the facts of the session as a whole."""
    facts = [
        s.state.name.lower(),
        f"slots {s.slots.held}/{s.slots.cap}",
        f"residency {s.residents.occupied}/{s.residents.max_resident}",
        f"ready {names(s, s.slots.ready)}",
        *([f"overtaken {s.slots.overtaken}"] if s.slots.overtaken else []),
        *([f"returning {names(s, s.waits.returning)}"] if s.waits.returning else []),
        f"idle {names(s, s.residents.idle)}",
    ]
    if s.draining is not None:
        facts.append(f"done {names(s, s.draining.done)}")
        facts.append(f"interrupted {names(s, s.draining.interrupted)}")
        facts.append(f"unflushed {names(s, s.draining.unflushed)}")
    return facts


def why(s: Session, cause: Cause, by: int | None) -> str:
    """Returns in words what ended a turn, or is to end it, and who asked for that."""
    words = cause.name.lower().replace("_", " ")
    return words if by is None else f"{words} by {name(s, by)}"


def mail_name(s: Session, mail: MailAccepted) -> str:
    """Returns sender and kind of a mail."""
    about = "" if mail.notice is None else f"={mail.notice.status.name.lower()}"
    return f"{name(s, mail.sender)}{about}{'!' if mail.kind is MailKind.TRIGGER else ''}"


def name(s: Session, agent: int) -> str:
    """Returns `host`, `root`, or the path below the root; of an agent that is forgotten, `#` and its id."""
    if agent == HOST:
        return "host"
    if s.agents[agent].identity is Identity.FORGOTTEN:
        return f"#{agent}"
    return "root" if agent == ROOT else s.agents[agent].path.removeprefix("/root/")


def names(s: Session, agents: Iterable[int]) -> str:
    """Returns several names, or `-` for none."""
    return " ".join(name(s, agent) for agent in agents) or "-"


def is_quiescent(s: Session) -> bool:
    """Tells whether nothing is in flight: no load, no unload, no turn that could still report by itself (section 1)."""
    return (
        not s.residents.loading and not s.residents.flushes and not any(a.status >= TurnState.RUNNING for a in s.agents)
    )
