"""The same state: what the explorer knows states by, which names agents only where the scope does."""

from __future__ import annotations

import marshal
from hashlib import blake2b
from itertools import permutations, product
from typing import Any

from model.scopes import Scope
from statemachine.fingerprint import fingerprint
from statemachine.session import Session

Digest = bytes


def digest_of(s: Session, scope: Scope) -> Digest:
    """The state as 16 bytes; equal for states that differ only in who is who, if the scope is symmetric."""
    value = canonical(s) if scope.symmetric else fingerprint(s)
    if "restart" not in scope.faults:
        value = value[:-1]
    return hashed(value)


def hashed(value: tuple[Any, ...]) -> Digest:
    """A value of plain numbers, strings and tuples as 16 bytes."""
    return blake2b(marshal.dumps(value, 2), digest_size=16).digest()


def canonical(s: Session) -> tuple[Any, ...]:
    """The least of the fingerprints under all renamings of the sub-agents."""
    value = fingerprint(s)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for agent in range(1, len(s.agents)):
        groups.setdefault(signature(value, agent), []).append(agent)
    if len(groups) == len(s.agents) - 1:
        return anonymous(s, (0, *(ids[0] for _, ids in sorted(groups.items()))))
    orders = product(*(permutations(ids) for _, ids in sorted(groups.items())))
    return min((anonymous(s, (0, *(a for group in order for a in group))) for order in orders), key=repr)


def signature(value: tuple[Any, ...], agent: int) -> tuple[Any, ...]:
    """What a fingerprint says of an agent without naming others: states that are equal have equal signatures."""
    _, _, identity, _, status, residency, promised, mailbox, asked, slot, tried, flush = value[1][agent]
    lines = [line.index(agent) if agent in line else -1 for line in (value[2], value[4], value[5])]
    mail = tuple([(kind, plain) for _, kind, plain in mailbox])
    return (identity, status, residency, promised, mail, len(asked), slot or 0, len(tried), flush, *lines)


def anonymous(s: Session, order: tuple[int, ...]) -> tuple[Any, ...]:
    """The fingerprint under a renaming, without paths: what matters of them is which are the same."""
    value = fingerprint(s, order)
    paths = [row[0] for row in value[1]]
    rows = tuple([(paths.index(row[0]), *row[1:]) for row in value[1]])
    return (value[0], rows, *value[2:])
