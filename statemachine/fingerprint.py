"""A session as a value: equal for two sessions exactly if they go on in the same way.

What decides nothing is left out. Numbers that only ever count up (mail, turns, generations, flushes, tickets): what
matters of them is the order of what they number, and that is in the value. Time: deadlines count from now. Message
texts: the core never looks inside. How a turn ended: no rule asks more than whether there was one. Which requests of
the host a turn has taken: only its answer names them. Likewise whom a shutdown will name.

Enums are plain numbers (`+` makes them so), which `marshal` takes. A session of bounded size has finitely many
fingerprints, so its reachable states can all be visited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from statemachine.events import HOST
from statemachine.machines import Turn
from statemachine.records import MailAccepted, MailKind

if TYPE_CHECKING:
    from statemachine.session import Session

TRIGGER = MailKind.TRIGGER
ENDED = +Turn.COMPLETED


def fingerprint(s: Session, order: Sequence[int] | None = None) -> tuple[Any, ...]:
    """The value. `order` renames the agents: the agent `order[i]` appears as number i; the default is as they are.

    The last component is the order in which recovery would ask for turns again; who never restarts may drop it.
    """
    agents = s.agents
    if order is None:
        order = range(len(agents))
        name: Any = _same
    else:
        new = [0] * len(agents)
        for position, old in enumerate(order):
            new[old] = position
        new.append(-1)  # the host, and "none": index -1
        name = new.__getitem__
    slots, residents = s.slots, s.residents
    rows: list[tuple[Any, ...]] = []
    for number in order:
        a = agents[number]
        rows.append(
            (
                a.path,
                a.settings,
                +a.identity,
                name(a.closed_by),
                min(+a.status, ENDED) if a.status <= Turn.INTERRUPTED else +a.status,
                +a.residency,
                a.promised,
                tuple([_mail(m, name) for m in a.mailbox]) if a.mailbox else (),
                tuple([name(m.sender) for m in a.asked if m.sender != HOST]) if a.asked else (),
                +slots.holders[number][1] if number in slots.holders else None,
                tuple(sorted([name(t) for t in residents.tried[number]])) if number in residents.tried else (),
                number in residents.flushes,
            )
        )
    deadlines = sorted([(at - s.now, ticket, key) for key, (at, ticket) in s.deadlines.pending.items()])
    return (
        +s.state,
        tuple(rows),
        tuple([name(a) for a in slots.ready]),
        tuple([name(a) for a in slots.entitled]),
        tuple([name(a) for a in residents.idle]),
        tuple([name(a) for a in residents.starting]),
        tuple([(name(a), name(b)) for a, b in residents.serves.items()]),
        tuple([(name(a), tuple([name(t) for t in w.targets])) for a, w in s.waits.items()]) if s.waits else (),
        tuple([(left, +key[0], name(key[1])) for left, _, key in deadlines]),
        None if s.draining is None else tuple([name(a) for a in s.draining.to_flush]),
        tuple([name(a) for a in asked_again(s)]),
    )


def asked_again(s: Session) -> list[int]:
    """The agents with unread trigger mail, oldest such mail first: the order in which recovery requests turns."""
    oldest = [(m.mail, a.id) for a in s.agents if a.triggers for m in a.mailbox if m.kind is TRIGGER]
    return list(dict.fromkeys([agent for _, agent in sorted(oldest)]))


def _same(agent: int) -> int:
    return agent


def _mail(mail: MailAccepted, name: Any) -> tuple[Any, ...]:
    return (name(mail.sender), +mail.kind, mail.notice is None)
