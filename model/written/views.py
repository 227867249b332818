"""Judges what is asked of a session: `status`, `list`, and looking for a path. Here is a second implementation, which
looks at every agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from statemachine.core.agents import Agent
from statemachine.core.effects import AgentStatus, Listing, Refused, Reply
from statemachine.core.events import ListAgents, Status
from statemachine.core.machines import Identity, Residency, SessionState
from statemachine.core.refusals import StoreFailed, UnknownAgent
from statemachine.core.session import Session

from .lives import life

PREFIXES = (
    "/root",
    "/root/",
    "/",
    "",
    "/root/a",
    "/root/a/",
    "/root/a/b",
    "/root/b",
    "/roo",
    "/root/z",
    "/root/aX",
    "root",
)


def views_are_true(seeds: Iterable[int]) -> Iterator[str]:
    """Yields what a session says of its agents that is not so, in random lives."""
    for seed in seeds:
        for number, (s, _, _) in enumerate(life(Random(seed))):
            if number % 4 == 0:
                yield from (f"seed {seed}, event {number}: {what}" for what in wrong(s))


def wrong(s: Session) -> Iterator[str]:
    """Yields what the session says now that is not so."""
    known = [agent for agent in s.agents if agent.identity is not Identity.FORGOTTEN]
    for prefix in PREFIXES:
        for closed in (False, True):
            reply = s.handle(ListAgents(prefix, closed)).reply
            if failed(s):
                if not same(reply, failed(s)):
                    yield f"a failed session lists {reply!r:.200}"
                continue
            path = prefix.rstrip("/") or "/root"
            found = [a for a in known if (a.path == path or a.path.startswith(f"{path}/")) and (closed or is_open(a))]
            expected = Listing(tuple(told(a) for a in sorted(found, key=lambda a: (a.path, a.id))))
            if reply != expected:
                yield f"the list of {prefix!r} is {reply!r:.200}, not {expected!r:.200}"
    for target in range(-2, len(s.agents) + 2):
        reply = s.handle(Status(target)).reply
        mine = [agent for agent in known if agent.id == target]
        answer = failed(s) or (told(mine[0]) if mine else Refused(UnknownAgent(target)))
        if not same(reply, answer):
            yield f"the status of agent {target} is {reply!r:.200}, not {answer!r:.200}"
    for path in {*PREFIXES, *[agent.path for agent in known]}:
        at = [agent.id for agent in known if agent.path == path]
        opened = [agent for agent in at if is_open(s.agents[agent])]
        if (s.find(path), s.find_last(path)) != (opened[0] if opened else None, [*at, *opened][-1] if at else None):
            yield f"at {path!r} is found {s.find(path)}, or {s.find_last(path)}"
    if [s.agent(number) for number in (-1, len(s.agents))] != [None, None] or s.agent(0) is not s.agents[0]:
        yield "an agent is found by another number"


def failed(s: Session) -> Refused | None:
    """Returns what a failed session says to everything."""
    return Refused(StoreFailed(s.error)) if s.state is SessionState.FAILED else None


def same(reply: Reply, expected: Reply | None) -> bool:
    """Are two replies the same? Refusals are, if they have the same facts."""
    if isinstance(reply, Refused) and isinstance(expected, Refused):
        return reply.refusal.facts == expected.refusal.facts
    return reply == expected


def is_open(agent: Agent) -> bool:
    return agent.identity is Identity.OPEN


def told(agent: Agent) -> AgentStatus:
    """Returns what a caller may know of an agent."""
    return AgentStatus(
        agent=agent.id,
        path=agent.path,
        parent=agent.parent,
        open=is_open(agent),
        status=agent.status,
        turn=agent.turn,
        unread=len(agent.mailbox),
        outcome=agent.outcome,
        settings=agent.settings,
        resident=agent.residency is Residency.RESIDENT,
    )
