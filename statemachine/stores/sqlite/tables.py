"""Reads the rows that recovery needs, and writes those of an append.

Only `Tables.write_alone` begins or ends a transaction: it is one.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any

from attrs import define, field

from statemachine.core.config import SessionConfig
from statemachine.stores.encoding import (
    ENTRY,
    ID_MAX,
    EncodingError,
    Stored,
    is_id,
    stored,
)
from statemachine.stores.folding import Folded, fold, needed
from statemachine.stores.leaving_out import gone
from statemachine.stores.protocol import LogRecord, Receipt
from statemachine.stores.rows import (
    LOOKED_BACK_MAX,
    Encoded,
    Meta,
    Postponed,
    Row,
    check_last_mail,
    decode_at,
    facts_in,
    meta_of,
    no_collections,
    receipt_of,
    tail_of,
)

# Reading


NAMES = ("epoch", "owner", "config", "covered", "mail_states", "keys")


def read_meta(connection: sqlite3.Connection) -> Meta:
    """Reads the facts of the session as a whole. Raises `EncodingError` for a wrong value."""
    asked = ", ".join(["?"] * len(NAMES))
    return meta_of(dict(connection.execute(f"SELECT name, value FROM meta WHERE name IN ({asked})", NAMES).fetchall()))


def read_folded(
    connection: sqlite3.Connection, meta: Meta, config: SessionConfig, left_out: set[int] | None = None
) -> Folded:
    """Returns the facts with the log after them folded in. Raises `EncodingError` if no session can have them. Agents
    that are `left_out` are forgotten, however damaged their rows are.
    """
    tail = "SELECT position, agent, kind, data FROM log WHERE position > ? ORDER BY position"
    left_out = set() if left_out is None else left_out
    _check_covered(connection, meta.covered)
    for agent, position, kind, data in connection.execute(LAST_MAIL, {"covered": meta.covered}).fetchall():
        if agent not in left_out:
            check_last_mail(meta, position, kind, data)
    # A cursor left in the middle keeps its transaction open as long as a reference to the error exists.
    with no_collections(), closing(connection.cursor()) as cursor:
        cursor.execute("SELECT agent, facts FROM agents ORDER BY agent")
        facts = [gone(agent) if agent in left_out else facts_in(agent, data) for agent, data in cursor]
        cursor.execute(tail, (meta.covered,))
        return fold(config, facts, meta.mail_states, tail_of(cursor, meta.covered), left_out)


def _check_covered(connection: sqlite3.Connection, covered: int) -> None:
    """Raises `EncodingError` if the last record that the snapshot covers, or the first that it does not, is not where
    a snapshot would have put it: then records would be passed over, or counted twice.
    """
    in_rollouts = "EXISTS (SELECT * FROM rollouts WHERE agent = log.agent AND position = log.position)"
    last = f"SELECT position, {in_rollouts} FROM log WHERE position <= ? ORDER BY position DESC LIMIT 1"
    first = f"SELECT position, {in_rollouts} FROM log WHERE position > ? ORDER BY position LIMIT 1"
    for statement, is_covered in ((last, True), (first, False)):
        for position, found in connection.execute(statement, (covered,)).fetchall():
            if found != is_covered:
                does = "does not cover" if is_covered else "covers"
                raise EncodingError(f"covered is {covered}, but the snapshot {does} log position {position}")


LAST_MAIL = f"""
    SELECT agent, position, kind, data FROM log
    WHERE position <= :covered AND position > :covered - {LOOKED_BACK_MAX} AND kind = 'MailAccepted'
    ORDER BY position DESC LIMIT 1
"""


def last_position(connection: sqlite3.Connection, covered: int) -> int:
    """Returns the last position ever used. The rows of a snapshot's records may have been deleted."""
    (position,) = connection.execute("SELECT max(position) FROM log").fetchone()
    return max(covered, position or 0)


ROLLOUT = """
    SELECT position, kind, data FROM log WHERE position IN (SELECT position FROM rollouts WHERE agent = :agent)
    UNION ALL
    SELECT position, kind, data FROM log
    WHERE position > (SELECT value FROM meta WHERE name = 'covered') AND agent = :agent
    ORDER BY position
"""


def read_rollout(connection: sqlite3.Connection, agent: int) -> tuple[LogRecord, ...]:
    """Returns the agent's rollout, oldest first."""
    if not is_id(agent):
        return ()  # as of any other agent that never was
    rows = connection.execute(ROLLOUT, {"agent": agent})
    return tuple([decode_at(*row) for row in rows.fetchall()])


AT_MAX = 32
"""Records that one statement looks up by their positions."""
OWN_ROLLOUT = f"""
    SELECT position, kind, data FROM log
    WHERE position IN (SELECT position FROM rollouts WHERE agent = ? UNION VALUES {", ".join(["(?)"] * AT_MAX)})
"""


def read_own_rollout(connection: sqlite3.Connection, agent: int, uncovered: Sequence[int]) -> tuple[LogRecord, ...]:
    """Does what `read_rollout` does, given the positions of the agent's records behind the snapshot, so that the log
    behind it need not be searched. A newer snapshot may cover some of them by now.
    """
    if not is_id(agent):
        return ()
    rows: dict[int, Any] = {}
    for first in range(0, len(uncovered) or 1, AT_MAX):
        some = uncovered[first : first + AT_MAX]
        whose = None if first else agent  # the table of rollouts is asked once
        found = connection.execute(OWN_ROLLOUT, [whose, *some, *[None] * (AT_MAX - len(some))])
        rows.update({row[0]: row for row in found.fetchall()})
    return tuple([decode_at(*rows[position]) for position in sorted(rows)])


def read_needed(
    connection: sqlite3.Connection, agent: int, uncovered: Sequence[int], mail: int
) -> tuple[LogRecord, ...]:
    """Returns what tells how a mail was answered (`Store.rollout`), reading from the end of the rollout back."""
    with closing(_backwards(connection, agent, uncovered, but=ENTRY)) as records:
        return needed(records, mail)


def read_last(connection: sqlite3.Connection, agent: int, uncovered: Sequence[int], last: int) -> tuple[LogRecord, ...]:
    """Returns the last records of the rollout, so many, reading it from the end back."""
    with closing(_backwards(connection, agent, uncovered)) as records:
        return tuple(reversed([*islice(records, max(0, min(last, ID_MAX)))]))


SOME = f"""
    SELECT position, kind, data FROM log WHERE kind <> ? AND position IN ({", ".join("?" * AT_MAX)})
    ORDER BY position DESC
"""
COVERED = """
    SELECT position, kind, data FROM rollouts CROSS JOIN log USING (position)
    WHERE rollouts.agent = ? AND rollouts.position < ? AND kind <> ? ORDER BY rollouts.position DESC
"""


def _backwards(
    connection: sqlite3.Connection, agent: int, uncovered: Sequence[int], but: str = ""
) -> Generator[LogRecord]:
    """Yields the records of an agent's rollout, the last ones first, without those of one kind."""
    if not is_id(agent):
        return
    for end in range(len(uncovered), 0, -AT_MAX):
        some = uncovered[max(0, end - AT_MAX) : end]
        for row in connection.execute(SOME, [but, *some, *[None] * (AT_MAX - len(some))]).fetchall():
            yield decode_at(*row)
    before = uncovered[0] if uncovered else ID_MAX
    with closing(connection.cursor()) as cursor:  # left in the middle, it would keep its transaction open
        for row in cursor.execute(COVERED, (agent, before, but)):
            yield decode_at(*row)


def read_receipt(connection: sqlite3.Connection, key: str) -> Receipt | None:
    """Returns the receipt for the key, if there is one."""
    row = connection.execute("SELECT request, answer FROM keys WHERE key = ?", (stored(key),)).fetchone()
    return None if row is None else receipt_of(key, *row)


# Writing


ROW_BYTES = 100
"""Upper bound of what a row takes besides its text."""


ALONE_MAX = 64
"""Most rows in one statement: each number of rows is a statement of its own, and SQLite caches some of these."""


def values(size: int) -> str:
    """Returns the part of a statement that has `size` rows of the log."""
    return f"VALUES {', '.join(['(?, ?, ?, ?)'] * size)}"


INTO_LOG = "INSERT INTO log (position, agent, kind, data)"
INSERTS = tuple((size, f"{INTO_LOG} {values(size)}") for size in (ALONE_MAX, 32, 16, 8, 4, 2, 1))
"""Number of rows, and the statement that inserts them."""
OWNED = "WHERE (SELECT value FROM meta WHERE name = 'epoch') = ?"
INSERTS_IF_OWNED = ("", *[f"{INTO_LOG} SELECT * FROM ({values(size)}) {OWNED}" for size in range(1, ALONE_MAX + 1)])
"""Number of rows -> the statement that inserts them if the epoch is still that of its last parameter."""


@define
class Tables:
    """The writer's view of the tables: where the log ends, and how far snapshots cover it."""

    connection: sqlite3.Connection
    position: int
    covered: int
    _uncovered: defaultdict[int, list[int]] = field(factory=lambda: defaultdict[int, list[int]](list), init=False)
    """Agent -> the positions of its durable records that may be missing in the table of rollouts."""
    _pending: dict[int, list[int]] = field(factory=dict[int, list[int]], init=False)
    """The same for the transaction under way, behind its last snapshot."""
    _covers: bool = field(default=False, init=False)
    """Whether the transaction under way has a snapshot."""
    _postponed: Postponed = field(factory=Postponed, init=False)

    def uncovered(self, agent: int) -> list[int]:
        """Returns the positions for `read_own_rollout`. May be called in any thread, before the rollout is read."""
        return [*self._uncovered.get(agent, ())]

    def committed(self) -> None:
        """Marks what was written as durable."""
        if self._covers:
            self._uncovered = defaultdict(list)
        for agent, positions in self._pending.items():
            self._uncovered[agent].extend(positions)
        self._pending, self._covers = {}, False

    def write_alone(self, parts: Sequence[Encoded], epoch: int) -> bool:
        """Writes the rows in a transaction of their own, by one statement, if they are few, as nearly always, and the
        file still has this epoch. Otherwise writes nothing and returns False.

        Every statement hands the interpreter to other threads and has to get it back, which costs more than rows do.
        """
        only = parts[0]
        if len(parts) > 1 or only.receipts or not 0 < len(only.rows) <= ALONE_MAX:
            return False
        rows = self._numbered(only.rows)
        parameters = [*chain.from_iterable(rows), epoch]
        before = self.connection.total_changes
        cursor = self.connection.execute(INSERTS_IF_OWNED[len(rows)], parameters)
        if self.connection.total_changes - before > len(rows):
            raise EncodingError("a trigger changed more than was written")
        if cursor.rowcount != len(rows):
            return False
        uncovered = self._uncovered
        for position, agent, _, _ in rows:
            if agent is not None:
                uncovered[agent].append(position)
        self.position += len(rows)
        return True

    def write(self, parts: Sequence[Encoded]) -> None:
        """Writes all parts, in their order."""
        for part in parts:
            if part.mail_states is not None:
                self._cover(part, part.mail_states)
            if part.rows:
                rows = self._numbered(part.rows)
                self._insert(rows)
                self._written(rows)
            if part.receipts:
                self._answer(part.receipts)

    def _numbered(self, rows: Sequence[Row]) -> list[tuple[int, int | None, str, Stored]]:
        """Returns the rows with the next positions."""
        return [(at, agent, kind, data) for at, (kind, agent, data) in enumerate(rows, self.position + 1)]

    def _written(self, rows: Sequence[tuple[int, int | None, str, Stored]]) -> None:
        self.position += len(rows)
        for position, agent, _, _ in rows:
            if agent is not None:
                self._pending.setdefault(agent, []).append(position)

    def _insert(self, rows: list[tuple[int, int | None, str, Stored]]) -> None:
        """Inserts rows into the log, many by one statement."""
        done = 0
        for size, statement in INSERTS:
            while len(rows) - done >= size:
                self.connection.execute(statement, [*chain.from_iterable(rows[done : done + size])])
                done += size

    def _answer(self, receipts: list[tuple[Stored, Stored, Stored]]) -> None:
        """Writes receipts, and counts the keys that are new."""
        new = self.connection.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", receipts).rowcount
        if new < len(receipts):
            changed = [(request, answer, key) for key, request, answer in receipts]
            self.connection.executemany("UPDATE keys SET request = ?, answer = ? WHERE key = ?", changed)
        self.connection.execute("UPDATE meta SET value = value + ? WHERE name = 'keys'", (new,))

    def _cover(self, snapshot: Encoded, mail_states: tuple[int, ...]) -> None:
        """Writes the facts at the end of the log, and deletes the records that only said facts, unless the snapshot
        waits.
        """
        due = self._postponed.due(snapshot, self.connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - ROW_BYTES)
        if due is None:
            return
        self.connection.executemany("INSERT OR REPLACE INTO agents (agent, facts) VALUES (?, ?)", due.facts)
        self.set_meta("mail_states", f"[{','.join([f'{count:d}' for count in mail_states])}]")
        self.set_meta("covered", self.position)
        since = "FROM log WHERE position > ? AND position <= ?"
        found = f"SELECT agent, position {since} AND agent IS NOT NULL ORDER BY agent, position"
        self.connection.execute(f"INSERT INTO rollouts {found}", (self.covered, self.position))
        self.connection.execute(f"DELETE {since} AND agent IS NULL", (self.covered, self.position))
        self.covered = self.position
        self._pending, self._covers = {}, True
        if due.forgotten:
            self._forget(due.forgotten)

    def _forget(self, agents: list[int]) -> None:
        """Deletes the rollouts of these agents, which the snapshot covers, and what was asked of them with keys. The
        keys stay used. They are looked through once, because there may be millions.
        """
        parameters = (f"{agents}",)
        whose = "agent IN (SELECT value FROM json_each(?))"
        positions = f"SELECT position FROM rollouts WHERE {whose}"
        self.connection.execute(f"DELETE FROM log WHERE position IN ({positions})", parameters)
        self.connection.execute(f"DELETE FROM rollouts WHERE {whose}", parameters)
        whose = "CAST(substr(answer, 2) AS INTEGER) IN (SELECT value FROM json_each(?))"  # what an agent's id begins
        self.connection.execute(f"UPDATE keys SET request = '' WHERE answer LIKE '[%' AND {whose}", parameters)

    def set_meta(self, name: str, value: int | str) -> None:
        """Sets one fact of the session as a whole."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    @property
    def epoch(self) -> int | None:
        """Returns the epoch that the file has now."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        return None if row is None else row[0]
