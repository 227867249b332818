"""A session as a value: equal for two sessions exactly if they go on in the same way.

What decides nothing is left out. Numbers that only ever count up (mail, turns, generations, flushes, tickets): what
matters of them is the order of what they number, and that is in the value. Time: deadlines count from now. Message
texts: the core never looks inside. How a turn ended: no rule asks more than whether there was one. Which requests of
the host a turn has taken: only its answer names them. Likewise whom a shutdown will name.

Enums are plain numbers (`+` makes them so), which `marshal` takes. A session of bounded size has finitely many
fingerprints, so its reachable states can all be visited.
"""

from __future__ import annotations

from typing import Any

from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.records import MailKind
from statemachine.core.state import State

TRIGGER = MailKind.TRIGGER
ENDED = (TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED)
STATUS = {status: +TurnState.COMPLETED if status in ENDED else +status for status in TurnState}


def fingerprint(s: State) -> tuple[Any, ...]:
    """The value. The last component is the order in which recovery would ask for turns again; who never restarts may
    drop it.
    """
    slots, residents = s.slots, s.residents
    holders, tried, flushes = slots.holders, residents.tried, residents.flushes
    deadlines = sorted([(at - s.now, ticket, key) for key, (at, ticket) in s.deadlines.pending.items()])
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
                    tuple([(m.sender, +m.kind, m.notice is None) for m in a.mailbox]) if a.mailbox else (),
                    tuple([m.sender for m in a.asked if m.sender != HOST]) if a.asked else (),
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
        tuple([(a, w.targets) for a, w in s.waits.items()]) if s.waits else (),
        tuple([(left, +bound, a) for left, _, (bound, a) in deadlines]),
        None if s.draining is None else tuple(s.draining.to_flush),
        tuple(asked_again(s)),
    )


def asked_again(s: State) -> list[int]:
    """The agents with unread trigger mail, oldest such mail first: the order in which recovery requests turns."""
    oldest = [(m.mail, a.id) for a in s.agents if a.triggers for m in a.mailbox if m.kind is TRIGGER]
    return list(dict.fromkeys([agent for _, agent in sorted(oldest)])) if oldest else []
