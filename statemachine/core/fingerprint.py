"""A session as a value: equal for two sessions exactly if they go on in the same way.

What decides nothing is left out. Numbers that only ever count up (mail, turns, generations, flushes, tickets): what
matters of them is the order of what they number, and that is in the value. Time: deadlines count from now. Message
texts: the core never looks inside. How a turn ended: no rule asks more than whether there was one. Which requests of
the host a turn has taken: only its answer names them. Likewise the agents that a shutdown will name.

Enums are plain numbers (`+` makes them so), which `marshal` takes. A session of bounded size has finitely many
fingerprints, so its reachable states can all be visited.
"""

from __future__ import annotations

from typing import Any

from statemachine.core.deadlines import Bound
from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.state import State

TRIGGER, WAIT = MailKind.TRIGGER, Bound.WAIT
ENDED = (TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED)
STATUS = {status: +TurnState.COMPLETED if status in ENDED else +status for status in TurnState}


def fingerprint(s: State) -> tuple[Any, ...]:
    """The value. The last component is the order in which recovery would ask for turns again; a reader that never
    restarts may drop it.
    """
    slots, residents, waits = s.slots, s.residents, s.waits
    holders, tried, flushes = slots.holders, residents.tried, residents.flushes
    rank = ranks(s)
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
                    tuple([mail_value(m, rank) for m in a.mailbox]) if a.mailbox else (),
                    tuple([mail_value(m, rank) for m in a.taken if matters(m, s)]) if a.taken else (),
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
        waits_value(s, rank),
        tuple([(left, +bound, places[of] if bound is WAIT else of) for left, _, (bound, of) in deadlines]),
        (slots.overtaken, tuple(slots.lent)),
        tuple(sorted(s.ledger.attempts.items())),
        tuple(sorted(s.ledger.loads.items())),
        tuple(sorted([(a, stop.below) for a, stop in s.ledger.stops.items()], key=str)) if s.ledger.stops else (),
        None if s.draining is None else tuple(s.draining.to_flush),
        tuple(asked_again(s)),
    )


def matters(m: MailAccepted, s: State) -> bool:
    """Does a mail that the turn has read decide anything? A request of an agent does, because that agent is told; and
    every mail does if the turn may be returned.
    """
    return s.config.max_attempts > 1 or (m.kind is TRIGGER and m.notice is None and m.sender != HOST)


def ranks(s: State) -> dict[int, int]:
    """The requests that a wait may still be about -> their place in the order in which they were made."""
    known = {n for a in s.agents for m in a.mailbox for n in (m.mail, *m.answers)}
    known.update(n for a in s.agents for m in a.taken if matters(m, s) for n in (m.mail, *m.answers))
    return {number: place for place, number in enumerate(sorted(known))} if known else {}


def mail_value(m: MailAccepted, rank: dict[int, int]) -> tuple[Any, ...]:
    """What decides anything of a mail that is unread, or that a turn has read."""
    return m.sender, +m.kind, m.notice is None, tuple([rank[n] for n in m.answers]) or rank.get(m.mail, -1)


def waits_value(s: State, rank: dict[int, int]) -> tuple[Any, ...]:
    """Which turns wait for what, which may lend their slot, and which return."""
    waits = s.waits
    if not waits.pending and not waits.over:
        return ()
    return (
        tuple(
            [
                (w.agent, w.mail, w.targets, tuple([rank.get(r, -1) for r in w.requests]), +w.mode, w.is_bounded)
                for w in waits.pending.values()
            ]
        ),
        tuple(waits.lenders),
        tuple(waits.returning),
        tuple([(a, tuple([+why for _, why in over])) for a, over in sorted(waits.over.items())]),
    )


def asked_again(s: State) -> list[int]:
    """The agents with unread trigger mail, oldest such mail first: the order in which recovery requests turns."""
    oldest = [(m.mail, a.id) for a in s.agents if a.triggers for m in a.mailbox if m.kind is TRIGGER]
    return list(dict.fromkeys([agent for _, agent in sorted(oldest)])) if oldest else []
