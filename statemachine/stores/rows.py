"""Says what of a session stands in tables, whatever database has them.

Every database has the log by position, the facts of agents as of position `covered`, receipts by key, and the few facts
of the session as a whole (`Meta`). What stands in a row, and how a ledger comes of rows, is here; where a row stands,
and how it is asked for, is in the module of statements that each database has.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import define, field, frozen

from statemachine.core.config import SessionConfig
from statemachine.core.machines import Identity
from statemachine.core.records import MailAccepted
from statemachine.log import trace
from statemachine.log.snapshot import AgentFacts
from statemachine.stores.encoding import (
    ID_MAX,
    WITH_TEXTS,
    EncodingError,
    Stored,
    check_id,
    check_items,
    check_texts,
    decode,
    decode_facts,
    encode,
    encode_facts,
    encode_receipt,
    parse,
    text_of,
)
from statemachine.stores.leaving_out import Unreadable
from statemachine.stores.limits import is_larger
from statemachine.stores.protocol import LogRecord, Receipt, Snapshot, Write

NUMBER_MAX = 2**62
"""Upper bound of all numbers of a session, which no session reaches: databases have numbers of 64 bits."""

Row = tuple[str, int | None, Stored]
"""Kind, agent and fields of a record."""


# Reading


@frozen
class Meta:
    """Facts of the session as a whole."""

    epoch: int
    owner: int | None
    """Id of the process that opened it last."""
    config: SessionConfig | None
    covered: int
    """The log position up to which the facts of `agents` include the log."""
    mail_states: tuple[int, ...]
    keys: int
    """Number of receipts."""


def meta_of(values: Mapping[str, Any]) -> Meta:
    """Returns the facts of the session as a whole, by their names. Raises `EncodingError` for a wrong value."""
    return Meta(
        _whole(values, "epoch"),
        _whole(values, "owner") if "owner" in values else None,
        _config(text_of(values["config"])) if "config" in values else None,
        _whole(values, "covered"),
        tuple([_whole({"mail_states": count}, "mail_states") for count in parse(text_of(values.get("mail_states")))]),
        _whole(values, "keys"),
    )


def _whole(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    if type(value) is not int:
        raise EncodingError(f"{name} is {value!r:.100}, which is not a whole number")
    if not 0 <= value < NUMBER_MAX:
        raise EncodingError(f"{name} is {value}, which no session reaches")
    return value


def _config(line: str) -> SessionConfig:
    try:
        return trace.config_of(line.encode())
    except trace.TraceError as error:
        raise EncodingError(f"config: {error}") from error


def tail_of(rows: Iterable[tuple[int, int | None, str, Stored]], covered: int) -> Iterator[LogRecord | Unreadable]:
    """Yields the records behind the snapshot, by position, agent, kind and fields. Raises `EncodingError` if one is
    missing.
    """
    for expected, (position, agent, kind, data) in enumerate(rows, covered + 1):
        if position != expected:
            raise EncodingError(f"log position {expected} is missing")
        record: LogRecord | Unreadable
        try:
            record = decode_at(position, kind, data)
        except EncodingError as error:
            record = Unreadable(kind, agent, error)
        yield record


LOOKED_BACK_MAX = 10_000
"""Records before the end of the snapshot among which opening looks for the last mail: reading all could take long."""


def check_last_mail(meta: Meta, position: int, kind: str, data: Stored) -> None:
    """Raises `EncodingError` if the snapshot knows of fewer mails than its last one, in this row, shows: their numbers
    would be given again. A row that cannot be read says nothing; `check` tells of it.
    """
    try:
        record = decode(kind, data)
    except EncodingError:
        return
    known = sum(meta.mail_states)
    if isinstance(record, MailAccepted) and record.mail >= known:
        raise EncodingError(
            f"the snapshot knows of {known} mails, and mail {record.mail} is at log position {position}"
        )


def facts_in(agent: int, data: Stored) -> AgentFacts:
    """Returns the facts in the row of an agent. Raises an `EncodingError` that names it."""
    try:
        found = decode_facts(data)
    except EncodingError as error:
        raise EncodingError(str(error), agent) from error
    if found.agent != agent:
        raise EncodingError(f"its facts are those of agent {found.agent}", agent)
    return found


@contextmanager
def no_collections() -> Generator[None]:
    """Suspends garbage collection. What recovery builds is not garbage, and with many agents most of its time would go
    into finding that out.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def decode_at(position: int, kind: str, data: Stored) -> LogRecord:
    """Returns the record. Raises an `EncodingError` that says where in the log it stands."""
    try:
        return decode(kind, data)
    except EncodingError as error:
        raise EncodingError(f"log position {position}: {error}") from error


def receipt_of(key: str, request: object, answer: object) -> Receipt:
    """Returns the receipt in a row. Raises an `EncodingError` that names its key."""
    try:
        return Receipt(key, text_of(request), text_of(answer))
    except EncodingError as error:
        raise EncodingError(f"the receipt for key {key!r:.100}: {error}") from error


# Writing


@define
class Encoded:
    """Some consecutive writes, or a snapshot, as rows."""

    rows: list[Row]
    receipts: list[tuple[Stored, Stored, Stored]]
    facts: list[tuple[int, Stored]]
    mail_states: tuple[int, ...] | None = None
    """None: not a snapshot."""
    forgotten: tuple[int, ...] = ()
    """Agents of the snapshot whose rollouts are deleted."""


def encode_items(items: Sequence[Write | Snapshot]) -> list[Encoded]:
    """Returns the rows of an append, in its order. Raises `EncodingError` for a value that cannot be written."""
    check_items(items)
    part = Encoded([], [], [])
    parts = [part]
    for item in items:
        if isinstance(item, Snapshot):
            for f in item.agents:
                check_id(f.agent)
            facts = [(f.agent, encode_facts(f)) for f in item.agents]
            part = Encoded([], [], [])
            forgotten = tuple([f.agent for f in item.agents if f.identity is Identity.FORGOTTEN])
            parts += [Encoded([], [], facts, item.mail_states, forgotten), part]
            continue
        for record in item.records:
            row = encode(record)
            if record.__class__ in WITH_TEXTS:
                check_texts(record)
            agent = row[1]
            if not (type(agent) is int and 0 <= agent <= ID_MAX):
                check_id(agent)
            part.rows.append(row)
        if (receipt := item.receipt) is not None:
            part.receipts.append(encode_receipt(receipt))
    return parts


def encode_opening(snapshot: Snapshot, left_out: Collection[int]) -> list[Encoded]:
    """Returns the rows of the snapshot that opening takes. What is left of the rollouts of agents that are left out
    stays.
    """
    parts = encode_items([snapshot])
    for part in parts:
        part.forgotten = tuple([agent for agent in part.forgotten if agent not in left_out])
    return parts


@define
class Postponed:
    """Snapshots that wait for the next one, because one had facts too large for a row, as of an agent with a gigabyte
    of unread mail: the log has it all.
    """

    facts: dict[int, Stored] = field(factory=dict[int, Stored])
    forgotten: set[int] = field(factory=set[int])
    """Agents whose rollouts are deleted then."""

    def due(self, part: Encoded, bytes_max: int) -> Due | None:
        """Returns what the tables take now that this snapshot is there; None: it waits, too."""
        self.facts.update(part.facts)
        self.forgotten.update(part.forgotten)
        if any(is_larger(data, bytes_max) for data in self.facts.values()):
            return None
        due = Due([*self.facts.items()], [*self.forgotten])
        self.facts, self.forgotten = {}, set()
        return due


@frozen
class Due:
    """The facts of a snapshot, and the agents whose rollouts it deletes."""

    facts: list[tuple[int, Stored]]
    forgotten: list[int]
