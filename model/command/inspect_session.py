"""Shows what a session's file has: its agents, its log, and the rollout of an agent.

It claims and changes nothing, so the session may be running in another process. What is shown is durable: after a crash
the session would begin like this. Residency and slots are not durable, so they are not here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from rich.console import Console
from rich.text import Text

from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST
from statemachine.core.machines import Identity, MailState
from statemachine.core.records import (
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.log import trace
from statemachine.log.times import Moments
from statemachine.stores import places
from statemachine.stores.contents import Contents
from statemachine.stores.protocol import Entry, LogRecord

from ..printing import bounded, on_one_line, printable, table
from ..scenarios.replay import program_of

TEXT_MAX = 100
"""Most characters of a text that are shown to a person."""


class NoSuchAgent(ValueError):
    """The session has no such agent; the message gives a path that it has."""


@frozen
class Inspection:
    """What a file has of its session."""

    path: str
    schema: int
    epoch: int
    owner: int | None
    """Id of the process that opened it last."""
    config: SessionConfig | None
    agents: tuple[Agent, ...]
    """All that are not forgotten, by path."""
    forgotten: tuple[int, ...]
    """Ids of those that are."""
    moments: dict[int, Moments]
    """Agent -> when it came to be as it is."""
    mail: dict[str, int]
    """State of mail -> number of mails."""
    records: int
    """Records in the file."""
    position: int
    """Number of records ever written."""
    tail: int
    """Records behind the last snapshot."""
    receipts: int
    file_bytes: int
    wal_bytes: int


def inspect(place: str | Path) -> Inspection:
    """Returns what is in the file, or what the DSN names, as of the last commit. Raises `StoreError`."""

    def read(contents: Contents) -> Inspection:
        contents.quick_check()
        meta = contents.meta()
        folded = contents.folded(meta, meta.config or SessionConfig())
        ledger, sizes = folded.ledger, contents.sizes()
        forgotten = tuple([agent.id for agent in ledger.agents if agent.identity is Identity.FORGOTTEN])
        agents = [agent for agent in ledger.agents if agent.identity is not Identity.FORGOTTEN]
        return Inspection(
            places.shown(place),
            sizes.schema,
            meta.epoch,
            meta.owner,
            meta.config,
            tuple(sorted(agents, key=lambda a: (a.path, a.id))),
            forgotten,
            {a.id: folded.times.moments(a.id, a.identity is Identity.OPEN, a.status) for a in agents},
            {state.name.lower(): ledger.mail_states[state] for state in MailState},
            sizes.records,
            contents.last_position(meta.covered),
            folded.tail,
            sizes.receipts,
            sizes.file_bytes,
            sizes.wal_bytes,
        )

    return places.read(place, read)


def find(found: Inspection, wanted: str) -> Agent:
    """Returns the agent with this id, or the open one, or else the last one, at this path. Raises `NoSuchAgent`."""
    matching = [a for a in found.agents if wanted in (a.path, str(a.id))]
    if wanted in map(str, found.forgotten):
        raise NoSuchAgent(f"agent {wanted} of {found.path} is forgotten: nothing is known of it")
    if not matching:
        raise NoSuchAgent(
            f"there is no agent '{wanted:.100}' in {found.path}; give a path such as {found.agents[-1].path}"
        )
    return max(matching, key=lambda a: (a.identity is Identity.OPEN, a.id))


def difference(found: Inspection, agent: Agent, rollout: tuple[LogRecord, ...]) -> str | None:
    """Returns in what the rollout of an agent, read after its facts, lacks what they say; None: in nothing."""
    ended = [record.outcome for record in rollout if isinstance(record, TurnEnded)]
    if (agent.outcome is None or agent.outcome in ended) and (rollout or not agent.turn):
        return None
    said = f"{agent.turn:,} turn{'s' * (agent.turn != 1)}"
    if agent.outcome is not None:
        said += f", of which turn {agent.outcome.turn:,} ended last ({agent.outcome.status.name.lower()})"
    return (
        f"agent {agent.id}: its facts say {said}, and its rollout has {len(rollout):,} records with the end of "
        f"{len(ended):,}; look for more with `statemachine verify {found.path}`"
    )


# As JSON


def as_json(found: Inspection) -> dict[str, Any]:
    """Returns the inspection for programs."""
    config = None if found.config is None else json.loads(trace.header_line(found.config))["config"]
    said = {name: getattr(found, name) for name in ("path", "schema", "epoch", "owner", "records", "position", "tail")}
    sizes = {name: getattr(found, name) for name in ("receipts", "file_bytes", "wal_bytes", "mail", "forgotten")}
    return {**said, **sizes, "config": config, "agents": [agent_json(found, agent) for agent in found.agents]}


def agent_json(found: Inspection, agent: Agent) -> dict[str, Any]:
    """Returns what the log says of an agent; times are seconds since the epoch."""
    return {
        "id": agent.id,
        "path": agent.path,
        "open": agent.identity is Identity.OPEN,
        "status": agent.status.name.lower(),
        "turn": agent.turn,
        "unread": len(agent.mailbox),
        "triggers": agent.triggers,
        "settings": agent.settings,
        "outcome": agent.outcome and outcome_json(agent.outcome),
        **attrs.asdict(found.moments[agent.id]),
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Returns how a turn ended."""
    return {
        "turn": outcome.turn,
        "status": outcome.status.name.lower(),
        "result": outcome.result,
        "cause": outcome.cause.name.lower(),
        "by": outcome.by,
    }


def rollout_json(rollout: tuple[LogRecord, ...]) -> list[dict[str, Any]]:
    """Returns the rollout, with the names of enums, and results as turns gave them."""
    return [{"record": type(record).__name__, **record_json(record)} for record in rollout]


def record_json(record: Any) -> dict[str, Any]:
    """Returns the fields of a record."""
    said: dict[str, Any] = {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}
    for name, value in said.items():
        if isinstance(value, Outcome):
            said[name] = {"agent": value.agent, **outcome_json(value)}
        elif isinstance(value, Enum):
            said[name] = value.name.lower()
    return said


# For people


def print_inspection(found: Inspection, console: Console) -> None:
    """Prints the session, then its agents."""
    opened = sum(agent.identity is Identity.OPEN for agent in found.agents)
    config = "none" if found.config is None else program_of(found.config, ())[0].removeprefix("config").strip()
    mail = ", ".join(f"{n:,} {'unread' if state == 'accepted' else state}" for state, n in found.mail.items())
    facts = {
        "session": f"{found.path}, schema {found.schema}, epoch {found.epoch}, last opened by process {found.owner}",
        "config": config or "the default",
        "agents": f"{opened:,} open, {len(found.agents) - opened:,} closed"
        + (f", {len(found.forgotten):,} forgotten" if found.forgotten else ""),
        "mail": mail,
        "log": f"{found.records:,} records kept of {found.position:,}, {found.tail:,} behind the last snapshot, "
        f"{found.receipts:,} receipts, {found.file_bytes:,} bytes and {found.wal_bytes:,} in the WAL",
    }
    for name, value in facts.items():
        console.print(Text.assemble((f"{name:8}", "bold"), on_one_line(value)), soft_wrap=True)
    made = table("id", "agent", "open", "status", "turn", "unread", "trigger", "since (UTC)", "last outcome")
    made.box = None
    for column in (0, 4, 5, 6):
        made.columns[column].justify = "right"
    for agent in found.agents:
        is_open = agent.identity is Identity.OPEN
        made.add_row(
            str(agent.id),
            on_one_line(agent.path),
            "yes" if is_open else "no",
            agent.status.name.lower(),
            str(agent.turn),
            str(len(agent.mailbox) or ""),
            str(agent.triggers or ""),
            utc(found.moments[agent.id].since),
            Text("" if agent.outcome is None else outcome_text(agent.outcome)),
            style="" if is_open else "dim",
        )
    console.print()
    console.print(made)


def print_rollout(found: Inspection, agent: Agent, rollout: tuple[LogRecord, ...], console: Console) -> None:
    """Prints the rollout of an agent, a record a line, each with its time if the file has it (UTC)."""
    paths = {a.id: on_one_line(a.path) for a in found.agents}
    state = "open" if agent.identity is Identity.OPEN else "closed"
    console.print(
        Text(f"{paths[agent.id]}: agent {agent.id}, {state}, {agent.status.name.lower()}", "bold"), soft_wrap=True
    )
    for record in rollout:
        console.print(Text(f"    {utc(record.at):19}  {record_text(record, paths)}"), soft_wrap=True)


def record_text(record: LogRecord, paths: dict[int, str]) -> str:
    """Returns a record of a rollout as a line."""
    match record:
        case MailAccepted(notice=None):
            kind = "trigger mail" if record.kind is MailKind.TRIGGER else "mail"
            return f"{kind} {record.mail} from {who(record.sender, paths)}: {short(record.message)}"
        case MailAccepted(notice=Outcome() as notice):
            return f"notice {record.mail} of turn {notice.turn} of {who(notice.agent, paths)}: {outcome_text(notice)}"
        case MailWithdrawn():
            return f"mail {record.mail} is {cause_text(record.outcome, paths)}"
        case MailDemoted():
            return f"mail {listed(record.mails)} asks for no turn any more: {cause_text(record.outcome, paths)}"
        case MailRead():
            return f"turn {record.turn} reads notice {listed(record.mails)}"
        case TurnStopped():
            return f"turn {record.turn} is asked to stop: {cause_text(record, paths)}"
        case TurnReturned():
            return f"turn {record.turn} is returned, and what it has read is unread again"
        case TurnStarted():
            return f"turn {record.turn} starts, and reads what is unread"
        case MailDrained():
            return f"turn {record.turn} reads what came meanwhile"
        case TurnEnded():
            return f"turn {record.outcome.turn} ends: {outcome_text(record.outcome)}"
        case Entry():
            return f"turn {record.turn} records {short(record.data)}"
        case _:
            return repr(record)  # not part of any rollout


def who(agent: int, paths: dict[int, str]) -> str:
    """Returns the path of an agent, or `host`."""
    return "host" if agent == HOST else paths.get(agent, "forgotten")


def cause_text(found: Outcome | TurnStopped, paths: dict[int, str]) -> str:
    """Returns in a few words what ends a turn, and who asked for that."""
    cause = found.cause.name.lower().replace("_", " ")
    return cause if found.by is None else f"{cause} by {who(found.by, paths)}"


def listed(mails: tuple[int, ...]) -> str:
    """Returns numbers of mails, for people."""
    return ", ".join(map(str, mails))


def utc(at: float | None) -> str:
    """A time for people; nothing, if it is not known; the number, if no calendar has it."""
    if at is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{at:.10g} s, no date"


def outcome_text(outcome: Outcome) -> str:
    """Returns in a few words how a turn ended."""
    status, result = outcome.status.name.lower(), outcome.result
    return status if result is None or result == "" else f"{status} {short(result)}"


def short(value: Any) -> str:
    """Returns a value as JSON on one line, cut off where it is too long for a person, without control characters."""
    return bounded(printable(json.dumps(value, ensure_ascii=False)), TEXT_MAX)
