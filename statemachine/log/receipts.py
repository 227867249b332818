"""Says what a receipt of the runtime is: the request is the line of its event, as in a trace, and the answer
`[agent, path, mail]`: who was asked, and the number of the mail that asks.

    {"event":"FollowUp","sender":-1,"target":1,"message":"again","headers":null}    [1,"/root/a",7]

What a store has may be damaged, so nothing is believed of it: `answer_in` reads, `problem_of` judges, and the mark of
the mail is compared with that of the request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from attrs import frozen

from statemachine.core.agents import Agent
from statemachine.core.events import HOST, FollowUp, Send, Spawn, Start
from statemachine.core.machines import Identity
from statemachine.core.records import MailAccepted, MailKind
from statemachine.log import trace

Request = Spawn | Send | FollowUp | Start
"""The events that may have a key."""


@frozen
class Answer:
    """The answer to a request with a key."""

    agent: int
    path: str
    mail: int


def answer_in(text: str) -> Answer:
    """Returns the answer in a receipt. Raises `ValueError` for what is not one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    match found:
        case [agent, path, mail] if type(agent) is type(mail) is int and type(path) is str:
            return Answer(agent, path, mail)
        case _:
            raise ValueError(f"its answer is {text!r:.100}, and not an agent, a path and a mail")


def request_in(line: str) -> Request | None:
    """Returns the request in a receipt; None for what is not one."""
    try:
        event = trace.event_of(line.encode("utf-8", "surrogatepass"))
    except trace.TraceError:
        return None
    return event if isinstance(event, Request) else None


def mark_of(mail: MailAccepted) -> int:
    """Returns what tells a mail from others of this process, in the memory of one number: all of it but its own number
    and its headers, which the request of a receipt does not have.
    """
    return hash((mail.target, mail.sender, mail.kind, mail.message, mail.notice))


def mark_wanted(request: Request, target: int) -> int:
    """Returns the mark of the mail that this request makes for the agent."""
    sender = HOST if isinstance(request, Start) else request.sender
    if isinstance(request, Spawn) and sender is None:
        sender = request.parent
    kind = MailKind.QUEUE if isinstance(request, Send) else MailKind.TRIGGER
    return hash((target, sender, kind, request.message, None))


def problem_of(request: str, answer: Answer, agents: Sequence[Agent]) -> str | None:
    """Returns why a session with these agents cannot have given this answer to this request, or None. Whether the agent
    has got the mail, and whether that is the one of the request, is in its rollout.
    """
    if not 0 <= answer.agent < len(agents):
        return f"it names agent {answer.agent}, which the session does not have"
    agent = agents[answer.agent]
    if agent.identity is Identity.FORGOTTEN:
        return None  # nothing is known of it
    if agent.path != answer.path:
        return f"it names agent {agent.id} as {answer.path!r:.200}, and that one is {agent.path:.200}"
    asked = request_in(request)
    if asked is None:
        return f"its request is {request!r:.100}, and not the line of one"
    if isinstance(asked, Spawn):
        is_asked = asked.parent == agent.parent and asked.name == agent.path.rpartition("/")[2]
    else:
        is_asked = asked.target == agent.id
    return None if is_asked else f"its request {request!r:.200} is not one of agent {agent.id}"
