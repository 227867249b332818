"""A session as a value: equal for two sessions exactly if they go on in the same way.

What decides nothing is left out. Numbers that only ever count up (mail, turns, waits, generations, flushes, tickets):
what matters of them is the order of what they number, or which of them another part names, and that is in the value.
Time: deadlines count from now. Message texts: the core never looks inside. How a turn or a wait ended: no rule asks
more than whether there was one. Which requests of the host a turn has taken, unless a turn waits for them: only their
answer names them. Likewise the agents that a shutdown will name. How often the oldest queued turn was overtaken, once
it is due.

Enums are plain numbers (`+` makes them so), which `marshal` takes. A session of bounded size has finitely many
fingerprints, so its reachable states can all be visited.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.state import State

TRIGGER, WAIT = MailKind.TRIGGER, Bound.WAIT
ENDED = (TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED)
WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)
STATUS = {status: +TurnState.COMPLETED if status in ENDED else +status for status in TurnState}

Link = tuple[int, int, int]
"""A request that is awaited: whose it is, 0 if it is unread and 1 if a turn has read it, and which mail there."""


def fingerprint(s: State) -> tuple[Any, ...]:
    """The value. The last component is the order in which recovery would ask for turns again; a reader that never
    restarts may drop it.
    """
    slots, residents, waits = s.slots, s.residents, s.waits
    holders, tried, flushes = slots.holders, residents.tried, residents.flushes
    deadlines = sorted([(at - s.now, ticket, key) for key, (at, ticket) in s.deadlines.pending.items()])
    places = {number: place for place, number in enumerate(waits.pending)} if waits.pending else {}
    return (
        +s.state,
        tuple(
            [
                (
                    a.path,
                    a.settings,
                    +a.identity,
                    a.closed_by,
                    STATUS[a.status],
                    +a.residency,
                    a.promised,
                    tuple([mail_value(m) for m in a.mailbox]) if a.mailbox else (),
                    taken_value(s, a) if a.taken else (),
                    +holders[a.id][1] if a.id in holders else None,
                    tuple(sorted(tried[a.id])) if a.id in tried else (),
                    a.id in flushes,
                )
                for a in s.agents
            ]
        ),
        tuple(slots.ready),
        tuple(slots.entitled),
        tuple(residents.idle),
        tuple(residents.starting),
        tuple(residents.serves.items()),
        waits_value(s) if waits.pending or waits.returning else (),
        tuple([(left, +bound, places[of] if bound is WAIT else of) for left, _, (bound, of) in deadlines]),
        tuple(slots.lent),
        tuple(sorted(s.ledger.attempts.items())),
        tuple(sorted(s.ledger.loads.items())),
        tuple(sorted([(a, -1 if x.below is None else x.below) for a, x in s.ledger.stops.items()])),
        None if s.draining is None else tuple(s.draining.to_flush),
        min(slots.overtaken, max(1, s.config.max_overtaken)),
        tuple(asked_after_crash(s)),
    )


def mail_value(m: MailAccepted) -> tuple[Any, ...]:
    """What decides anything of an unread mail."""
    return m.sender, +m.kind, m.notice is None


def taken_value(s: State, a: Agent) -> tuple[Any, ...]:
    """What decides anything of the mail that a turn has read; if it may be unread again, also between which mails."""
    if not may_return(s, a):
        return tuple([mail_value(m) for m in kept(s, a)])
    return tuple([(*mail_value(m), sum(other.mail < m.mail for other in a.mailbox)) for m in kept(s, a)])


def kept(s: State, a: Agent) -> list[MailAccepted]:
    """The mail that a turn has read and that decides anything, oldest first: a request of an agent, which is told; one
    that is awaited; all of it, if it may be unread again.
    """
    if may_return(s, a):
        return sorted(a.taken, key=lambda m: m.mail)
    awaited = s.waits.on_request
    return [m for m in a.taken if m.kind is TRIGGER and m.notice is None and (m.sender != HOST or m.mail in awaited)]


def may_return(s: State, a: Agent) -> bool:
    """Would a crash return the agent's turn? (S17)"""
    failed = s.ledger.attempts.get(a.id, 0)
    return a.status in WORKING and rules.has_attempts_left(failed, s.config.max_attempts)


def waits_value(s: State) -> tuple[Any, ...]:
    """Which turns wait for what, which may lend their slot, and which return."""
    waits = s.waits
    links: dict[int, Link] = {}
    for number, a in ((number, s.agents[s.ledger.requests[number]]) for number in waits.on_request):
        for box, mails in enumerate((a.mailbox, kept(s, a))):
            links.update([(number, (a.id, box, place)) for place, m in enumerate(mails) if m.mail == number])
    return (
        tuple(
            [
                (w.agent, w.mail, w.targets, tuple(sorted(known(links, w.requests))), +w.mode, w.is_bounded)
                for w in waits.pending.values()
            ]
        ),
        tuple(waits.lenders),
        tuple(waits.returning),
    )


def known(links: dict[int, Link], requests: Iterable[int]) -> list[Link]:
    """Where the requests are; of those that are answered nothing is left."""
    return [links[number] for number in requests if number in links]


def asked_again(s: State) -> list[int]:
    """The agents with unread trigger mail, oldest such mail first: the order in which recovery requests turns."""
    return in_order([(m.mail, a.id) for a in s.agents if a.triggers for m in a.mailbox if m.kind is TRIGGER])


def asked_after_crash(s: State) -> list[int]:
    """What `asked_again` would give after a crash, which returns turns."""
    if s.config.max_attempts == 1:
        return asked_again(s)
    boxes = [(a, (*a.taken, *a.mailbox) if may_return(s, a) else a.mailbox) for a in s.agents]
    return in_order([(m.mail, a.id) for a, mails in boxes for m in mails if m.kind is TRIGGER])


def in_order(triggers: list[tuple[int, int]]) -> list[int]:
    """The agents of these (number, agent), lowest number first, each once."""
    return list(dict.fromkeys([agent for _, agent in sorted(triggers)])) if triggers else []
