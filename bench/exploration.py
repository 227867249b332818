"""(f) figures of the exhaustive check: how many events a second, in one process.

An *event* is one (state, event) pair that was played, those that are refused or stale included; a *transition* is one
that was accepted. In lockstep an event goes to the core and to the reference, everything is compared and judged, and
new states are kept. The reference alone is `step`, with the copy of the world that it makes, on the same pairs.
"""

from __future__ import annotations

from typing import Any

from bench.measure import QUICK, Row, Size, at_least, best_seconds
from model import reference
from model.exploration.explorer import explore
from model.exploration.scopes import Scope, events, find
from model.exploration.symmetry import digest_of
from model.lockstep import TRANSLATE, core_step, start


def rows(size: Size) -> list[Row]:
    """The figures, on the default scope with three agents."""
    quick = size is QUICK
    scope = find("reject" if quick else "trio")
    every, accepted = pairs(scope)
    found = [explore(scope)]

    def alone(worlds: list[tuple[Any, Any]]) -> None:
        for world, event in worlds:
            reference.step(world, event)

    best = best_seconds(
        1 if quick else 5,
        {
            "lockstep": lambda: found.append(explore(scope)),
            "every": lambda: alone(every),
            "accepted": lambda: alone(accepted),
        },
    )
    name = f"scope {scope.name}"
    return [
        Row(f"(f) lockstep exploration, events, {name}", found[0].offered / best["lockstep"], "/s", at_least(15_000)),
        Row(f"(f) lockstep exploration, transitions, {name}", found[0].transitions / best["lockstep"], "/s"),
        Row(f"(f) the reference alone, events, {name}", len(every) / best["every"], "/s", at_least(60_000)),
        Row(f"(f) the reference alone, transitions, {name}", len(accepted) / best["accepted"], "/s"),
    ]


def pairs(scope: Scope) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Every (world, event) of the scope, and those that are accepted."""
    line = [start(scope.config)]
    known = {digest_of(line[0][0], scope)}
    every: list[tuple[Any, Any]] = []
    accepted: list[tuple[Any, Any]] = []
    for session, world in line:
        for event in events(scope, session):
            told = TRANSLATE[event.__class__](event)
            every.append((world, told))
            after_world, reply, _ = reference.step(world, told)
            if reply[0] in ("refused", "stale"):
                continue
            accepted.append((world, told))
            after, _ = core_step(session.fork(), event)
            digest = digest_of(after, scope)
            if digest not in known:
                known.add(digest)
                line.append((after, after_world))
    return every, accepted
