"""Makes the digests by which the explorer knows states; agents are interchangeable where the scope says so."""

from __future__ import annotations

import marshal
from hashlib import blake2b
from itertools import permutations, product
from typing import Any

from statemachine.core.config import SessionConfig
from statemachine.core.deadlines import Bound
from statemachine.core.fingerprint import fingerprint
from statemachine.core.session import Session

from .scopes import Scope

Digest = bytes
WAIT = +Bound.WAIT
NEVER_DUE = SessionConfig().max_overtaken
"""More turns than get a slot on any path of a scope."""


def digest_of(s: Session, scope: Scope) -> Digest:
    """Returns the state as 16 bytes; if the scope is symmetric, equal for states that differ only in agents' names."""
    value = relevant(fingerprint(s), scope)
    return hashed(canonical(value) if scope.symmetric else value)


def relevant(value: tuple[Any, ...], scope: Scope) -> tuple[Any, ...]:
    """A fingerprint, as far as it matters in the scope: the order of recovery if it restarts, and how often the oldest
    queued turn was overtaken if it can be due. With a larger `max_overtaken` there are states in which it is due, but
    no path to a new state is that long.
    """
    again = value[-1] if "restart" in scope.faults else ()
    overtaken = value[-2] if scope.config.max_overtaken < NEVER_DUE else 0
    return (*value[:-2], overtaken, again)


def hashed(value: tuple[Any, ...]) -> Digest:
    """Returns a value of plain numbers, strings and tuples as 16 bytes."""
    return blake2b(marshal.dumps(value, 2), digest_size=16).digest()


def canonical(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the least of a fingerprint's forms under all renamings of the sub-agents."""
    agents = len(value[1])
    groups: dict[tuple[Any, ...], list[int]] = {}
    for agent in range(1, agents):
        groups.setdefault(signature(value, agent), []).append(agent)
    if len(groups) == agents - 1:
        return anonymous(value, (0, *(ids[0] for _, ids in sorted(groups.items()))))
    orders = product(*(permutations(ids) for _, ids in sorted(groups.items())))
    return min((anonymous(value, (0, *(a for group in order for a in group))) for order in orders), key=repr)


def signature(value: tuple[Any, ...], agent: int) -> tuple[Any, ...]:
    """Returns what a fingerprint says of an agent without naming others: equal states have equal signatures."""
    _, _, identity, _, status, residency, promised, mailbox, taken, slot, tried, flush = value[1][agent]
    lines = [line.index(agent) if agent in line else -1 for line in (value[2], value[4], value[5])]
    mail = tuple([rest for _, *rest in mailbox]), tuple([rest for _, *rest in taken])
    return (identity, status, residency, promised, repr(mail), slot or 0, len(tried), flush, *lines)


def anonymous(value: tuple[Any, ...], order: tuple[int, ...]) -> tuple[Any, ...]:
    """Returns a fingerprint in which agent `order[i]` is number i. Of paths it keeps only which are the same."""
    new = [0] * len(order)
    for position, old in enumerate(order):
        new[old] = position
    new.append(-1)  # the host, and "none": index -1
    state, rows, ready, entitled, idle, starting, serves, waits, deadlines, lent, *known, to_flush, overtaken, again = (
        value
    )
    paths = [rows[old][0] for old in order]

    def named(line: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([new[a] for a in line])

    def mails(box: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
        return tuple([(new[sender], *rest) for sender, *rest in box])

    def row(old: int) -> tuple[Any, ...]:
        path, settings, identity, closed_by, status, place, promised, mailbox, taken, slot, tried, flush = rows[old]
        return (
            *(paths.index(path), settings, identity, new[closed_by], status, place, promised),
            *(mails(mailbox), mails(taken), slot, tuple(sorted(named(tried))), flush),
        )

    def waiting() -> tuple[Any, ...]:
        pending, lenders, returning = waits
        return (
            tuple(
                [
                    (new[a], mail, named(targets), tuple(sorted([(new[b], *rest) for b, *rest in links])), *how)
                    for a, mail, targets, links, *how in pending
                ]
            ),
            named(lenders),
            named(returning),
        )

    attempts, loads, stops = known
    return (
        state,
        tuple([row(old) for old in order]),
        *[named(line) for line in (ready, entitled, idle, starting)],
        tuple([(new[a], new[b]) for a, b in serves]),
        waiting() if waits else (),
        tuple([(left, bound, of if bound == WAIT else new[of]) for left, bound, of in deadlines]),
        named(lent),
        *[tuple(sorted([(new[a], count) for a, count in counts])) for counts in (attempts, loads)],
        tuple(sorted([(new[a], new[below]) for a, below in stops])),
        None if to_flush is None else named(to_flush),
        overtaken,
        named(again),
    )
