"""Writes what sessions append, and reads it back.

The problem. A process that was taken over may be in the middle of an append, or hang before one and go on after an
hour. What it writes then must not be there, and what it was told is durable must be found by the one who took over. And
a thousand sessions of a process cannot have a thousand commits of their own: a disk makes some hundreds a second.

What is done. An append is one statement, and so is one of many sessions. It compares the epoch of each session, and
locks its row `FOR SHARE`, where it inserts. Who takes over changes that row, so he waits until the statement has
committed, and reads after that; and an append that comes later finds another epoch. Without the lock, an append may
compare the epoch before the take-over, and commit after the new owner has read: it is acknowledged, and lost
(`tests/stores/test_postgres_fence.py`). A statement that is sent whole is carried out even if its process hangs, so no
process that hangs keeps a lock.

A row that another connection has locked is passed over (`SKIP LOCKED`), so that a take-over of one session does not
hold up the others; its append is tried again.

What was rejected. SQLAlchemy Core, which takes ten times as long to say a statement as the text of it takes. The
isolation levels SERIALIZABLE and REPEATABLE READ, in which appends of one process would fail because of another one's.
An advisory lock as ownership: it ends with the connection, and the process does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from struct import Struct, pack
from typing import TYPE_CHECKING, Any, LiteralString

from attrs import define, field, frozen

from statemachine.pauses import Bound
from statemachine.stores.encoding import ENTRY, EncodingError, Stored, is_id, parse, stored
from statemachine.stores.folding import needed
from statemachine.stores.postgres import driver, prepared
from statemachine.stores.protocol import LogRecord, Receipt
from statemachine.stores.rows import Encoded, Postponed, decode_at, receipt_of

if TYPE_CHECKING:
    from psycopg import Connection

FACTS_BYTES_MAX = 900 * 1000 * 1000
"""The most that the facts of an agent may take in a row; PostgreSQL takes a gigabyte."""
ALONE_BYTES = 16 * 2**20
"""An append of more is not written together with others, and in several statements: PostgreSQL takes a gigabyte in one.
They are one transaction, sent at once, so that it depends on no answer.
"""

Rows = "Connection[tuple[Any, ...]]"


# Arrays


class Numbers(list[int | None]):
    """Whole numbers as an array of `bigint`."""


class Texts(list[str]):
    """Texts without a NUL as an array of `text`."""


class Bytes(list[bytes]):
    """Bytes as an array of `bytea`."""


HEADER = Struct("!iiIii")
number = Struct("!q").pack
"""Returns a whole number as PostgreSQL reads a `bigint`."""
BIGINT, TEXT, BYTEA = 20, 25, 17
"""Number of a type in PostgreSQL."""
ARRAY_OF = {BIGINT: 1016, TEXT: 1009, BYTEA: 1001}


def joined(oid: int, parts: Sequence[bytes | None]) -> bytes:
    """Returns an array as PostgreSQL reads it. psycopg makes one too, in eight times the time."""
    found = [HEADER.pack(1, 1, oid, len(parts), 1) if parts else pack("!iiI", 0, 0, oid)]
    for part in parts:
        if part is None:
            found.append(NULL)
        else:
            found += (pack("!i", len(part)), part)
    return b"".join(found)


NULL = pack("!i", -1)


@cache
def dumpers() -> dict[type, Any]:
    """Returns the classes with which psycopg writes these arrays."""
    from_driver: Any = driver.psycopg("")
    base: Any = from_driver.adapt.Dumper

    def dumper(oid: int, write: Any) -> Any:
        def dump(_: Any, array: Sequence[Any]) -> bytes:
            return joined(oid, [None if each is None else write(each) for each in array])

        return type(
            "ArrayDumper", (base,), {"format": from_driver.pq.Format.BINARY, "oid": ARRAY_OF[oid], "dump": dump}
        )

    return {
        Numbers: dumper(BIGINT, number),
        Texts: dumper(TEXT, str.encode),
        Bytes: dumper(BYTEA, bytes),
    }


def prepare(connection: Connection[tuple[Any, ...]]) -> None:
    """Makes the connection ready for the statements here."""
    for kind, dumper in dumpers().items():
        connection.adapters.register_dumper(kind, dumper)


def as_bytes(data: Stored) -> bytes:
    """Returns the bytes in which a text is stored."""
    return data if isinstance(data, bytes) else data.encode()


def as_stored(data: bytes) -> Stored:
    """Returns the text: bytes only if it has lone surrogates."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def digest_of(key: bytes) -> bytes:
    """Returns that by which a key is found."""
    return sha256(key).digest()


# Writing


@define(eq=False)
class Owned:
    """A session that a store of this process owns: where its log ends, and how far the snapshot covers it."""

    id: int
    epoch: int
    position: int
    covered: int
    postponed: Postponed = field(factory=Postponed)
    failure: Exception | None = None
    """Why an append failed, and every later one does."""
    waiting: Append | None = None
    """An append that found the session locked, and is tried again."""
    locked: Bound | None = None
    """For how long it is tried again."""


@define(eq=False)
class Append:
    """What an append of one session comes to, in tables."""

    owned: Owned
    rows: list[tuple[int, int | None, str, bytes]] = field(factory=list[tuple[int, int | None, str, bytes]])
    """Position, agent, kind and fields."""
    receipts: dict[bytes, tuple[bytes, bytes, bytes, int | None]] = field(
        factory=dict[bytes, tuple[bytes, bytes, bytes, int | None]]
    )
    """Digest of the key -> key, request, answer, and the agent that was asked."""
    facts: dict[int, bytes] = field(factory=dict[int, bytes])
    covered: int | None = None
    """The position that the snapshot covers; None: there is none."""
    mail_states: str = ""
    forgotten: set[int] = field(factory=set[int])
    position: int = 0
    """Where the log ends with it."""

    @property
    def is_plain(self) -> bool:
        """Tells whether it is rows of the log and nothing else, as nearly always."""
        return not self.receipts and self.covered is None

    @property
    def size(self) -> int:
        """Returns about how many bytes are sent."""
        return (
            sum([len(row[3]) for row in self.rows])
            + sum([len(data) for data in self.facts.values()])
            + sum([len(key) + len(request) + len(answer) for key, request, answer, _ in self.receipts.values()])
        )

    def succeed(self) -> None:
        """Notes that it is durable."""
        self.owned.position = self.position
        if self.covered is not None:
            self.owned.covered = self.covered


def append_of(owned: Owned, parts: Sequence[Encoded]) -> Append:
    """Returns what these parts come to. What a snapshot among them covers or forgets is not written first."""
    append = Append(owned, position=owned.position)
    for part in parts:
        if part.mail_states is not None:
            cover(append, part, part.mail_states)
        for at, (kind, agent, data) in enumerate(part.rows, append.position + 1):
            append.rows.append((at, agent, kind, as_bytes(data)))
        append.position += len(part.rows)
        for texts in part.receipts:
            key, request, answer = map(as_bytes, texts)
            append.receipts[digest_of(key)] = (key, request, answer, asked_in(texts[2]))
    return append


def cover(append: Append, part: Encoded, mail_states: Sequence[int]) -> None:
    """Takes a snapshot, unless it waits."""
    due = append.owned.postponed.due(part, FACTS_BYTES_MAX)
    if due is None:
        return
    append.facts.update({agent: as_bytes(data) for agent, data in due.facts})
    append.covered = append.position
    append.mail_states = f"[{','.join([f'{count:d}' for count in mail_states])}]"
    append.forgotten.update(due.forgotten)
    append.rows = [row for row in append.rows if row[1] is not None and row[1] not in append.forgotten]
    for digest, (key, _, answer, agent) in append.receipts.items():
        if agent in append.forgotten:
            append.receipts[digest] = (key, b"", answer, agent)


def asked_in(answer: Stored) -> int | None:
    """Returns the agent that was asked: if the answer is a list, it begins with its id."""
    if answer[:1] not in ("[", b"["):
        return None
    try:
        first = parse(answer)[:1]
    except EncodingError:
        return None
    return first[0] if first and is_id(first[0]) else None


OWNED = """
    owned AS MATERIALIZED (
        SELECT s.id FROM statemachine.sessions AS s
        JOIN unnest(%(sessions)b, %(epochs)b) AS mine (session, epoch) ON s.id = mine.session AND s.epoch = mine.epoch
        FOR SHARE OF s SKIP LOCKED
    )
"""
PUT = """
    put AS (
        INSERT INTO statemachine.log (session, position, agent, kind, data)
        SELECT * FROM unnest(%(of)b, %(positions)b, %(agents)b, %(kinds)b, %(data)b)
        AS r (session, position, agent, kind, data)
        WHERE r.session IN (SELECT id FROM owned)
    )
"""
REST = """
    receipts AS (
        SELECT * FROM unnest(%(r_of)b, %(r_digests)b, %(r_keys)b, %(r_requests)b, %(r_answers)b, %(r_agents)b)
        AS r (session, digest, key, request, answer, agent) WHERE r.session IN (SELECT id FROM owned)
    ),
    answered AS (
        INSERT INTO statemachine.keys (session, digest, key, request, answer, agent) SELECT * FROM receipts
        ON CONFLICT (session, digest)
        DO UPDATE SET request = excluded.request, answer = excluded.answer, agent = excluded.agent
        RETURNING session, xmax = 0 AS is_new
    ),
    known AS (
        INSERT INTO statemachine.agents (session, agent, facts)
        SELECT * FROM unnest(%(f_of)b, %(f_agents)b, %(f_facts)b) AS f (session, agent, facts)
        WHERE f.session IN (SELECT id FROM owned)
        ON CONFLICT (session, agent) DO UPDATE SET facts = excluded.facts
    ),
    snapshots AS (
        SELECT * FROM unnest(%(s_of)b, %(s_before)b, %(s_covered)b, %(s_states)b)
        AS c (session, before, covered, mail_states) WHERE c.session IN (SELECT id FROM owned)
    ),
    told AS (
        DELETE FROM statemachine.log AS l USING snapshots AS c
        WHERE l.session = c.session AND l.position > c.before AND l.position <= c.covered AND l.agent IS NULL
    ),
    forgotten AS (
        SELECT * FROM unnest(%(g_of)b, %(g_agents)b) AS g (session, agent) WHERE g.session IN (SELECT id FROM owned)
    ),
    gone AS (
        DELETE FROM statemachine.log AS l USING forgotten AS g WHERE l.session = g.session AND l.agent = g.agent
    ),
    unasked AS (
        UPDATE statemachine.keys AS k SET request = '' FROM forgotten AS g
        WHERE k.session = g.session AND k.agent = g.agent
        AND NOT EXISTS (SELECT FROM receipts AS r WHERE r.session = k.session AND r.digest = k.digest)
    ),
    noted AS (
        UPDATE statemachine.sessions AS s SET
            covered = coalesce(c.covered, s.covered),
            mail_states = coalesce(c.mail_states, s.mail_states),
            keys = s.keys + (SELECT count(*) FROM answered AS a WHERE a.session = s.id AND a.is_new)
        FROM owned LEFT JOIN snapshots AS c ON c.session = owned.id
        WHERE s.id = owned.id AND s.id = ANY (%(noted)b)
    )
"""
ONE = """
    WITH owned AS MATERIALIZED (
        SELECT s.id FROM statemachine.sessions AS s WHERE s.id = $1 AND s.epoch = $2
        FOR SHARE OF s SKIP LOCKED
    )
    INSERT INTO statemachine.log (session, position, agent, kind, data)
    SELECT owned.id, r.* FROM owned, unnest($3, $4, $5, $6) AS r (position, agent, kind, data)
"""
"""For one session alone, in half the time."""
ONE_TYPES = (BIGINT, BIGINT, ARRAY_OF[BIGINT], ARRAY_OF[BIGINT], ARRAY_OF[TEXT], ARRAY_OF[BYTEA])
PLAIN = f"WITH {OWNED}, {PUT} SELECT id FROM owned"
WHOLE = f"WITH {OWNED}, {PUT}, {REST} SELECT id FROM owned"


def write(connection: Connection[tuple[Any, ...]], appends: Sequence[Append]) -> set[int]:
    """Writes appends of different sessions by one statement, which is a transaction. Returns the ids of those sessions
    that have theirs: of the others, nothing was written, because they were taken over, or are locked now.
    """
    if len(appends) == 1 and appends[0].is_plain and appends[0].rows:
        return write_one(connection, appends[0])
    return {row[0] for row in connection.execute(*statement(appends), prepare=True, binary=True).fetchall()}


def write_one(connection: Connection[tuple[Any, ...]], append: Append) -> set[int]:
    """Does what `write` does for rows of one session."""
    positions, agents, kinds, data = zip(*append.rows, strict=True)
    values = (
        number(append.owned.id),
        number(append.owned.epoch),
        joined(BIGINT, [number(position) for position in positions]),
        joined(BIGINT, [None if agent is None else number(agent) for agent in agents]),
        joined(TEXT, [kind.encode() for kind in kinds]),
        joined(BYTEA, data),
    )
    written = prepared.change(connection, ONE, ONE_TYPES, values)
    return {append.owned.id} if written == len(append.rows) else set()


def statement(appends: Sequence[Append]) -> tuple[Any, dict[str, Any]]:
    """Returns the statement that writes these appends, and its parameters."""
    rows = [(append.owned.id, *row) for append in appends for row in append.rows]
    of, positions, agents, kinds, data = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    values: dict[str, Any] = {
        "sessions": Numbers(append.owned.id for append in appends),
        "epochs": Numbers(append.owned.epoch for append in appends),
        "of": Numbers(of),
        "positions": Numbers(positions),
        "agents": Numbers(agents),
        "kinds": Texts(kinds),
        "data": Bytes(data),
    }
    if all(append.is_plain for append in appends):
        return PLAIN, values
    receipts = [(a.owned.id, digest, *texts) for a in appends for digest, texts in a.receipts.items()]
    facts = [(a.owned.id, agent, data) for a in appends for agent, data in a.facts.items()]
    snapshots = [(a.owned.id, a.owned.covered, a.covered, a.mail_states) for a in appends if a.covered is not None]
    forgotten = [(a.owned.id, agent) for a in appends for agent in a.forgotten]
    columns: tuple[tuple[str, Any, int, Sequence[Any]], ...] = (
        ("r_of", Numbers, 0, receipts), ("r_digests", Bytes, 1, receipts), ("r_keys", Bytes, 2, receipts),
        ("r_requests", Bytes, 3, receipts), ("r_answers", Bytes, 4, receipts), ("r_agents", Numbers, 5, receipts),
        ("f_of", Numbers, 0, facts), ("f_agents", Numbers, 1, facts), ("f_facts", Bytes, 2, facts),
        ("s_of", Numbers, 0, snapshots), ("s_before", Numbers, 1, snapshots), ("s_covered", Numbers, 2, snapshots),
        ("s_states", Texts, 3, snapshots),
        ("g_of", Numbers, 0, forgotten), ("g_agents", Numbers, 1, forgotten),
    )  # fmt: skip
    for name, kind, column, found in columns:
        values[name] = column_of(kind, found, column)
    values["noted"] = Numbers(a.owned.id for a in appends if not a.is_plain)
    return WHOLE, values


def column_of(kind: Callable[[Any], Any], rows: Sequence[Any], column: int) -> Any:
    """Returns a column of these rows as an array of this class."""
    return kind([row[column] for row in rows])


def write_alone(connection: Connection[tuple[Any, ...]], append: Append) -> bool:
    """Writes a large append in a transaction of several statements that are sent at once. Returns whether the session
    was owned, and not locked. The first of them locks the row, so the others find it as that one did; if it cannot, it
    fails, and they with it.
    """
    own = {"session": append.owned.id, "epoch": append.owned.epoch}
    try:
        with connection.pipeline(), connection.transaction():
            locked = connection.execute(LOCK, own)
            for some in pieces(append):
                connection.execute(*statement([some]), binary=True)
            found = locked.fetchone()
    except driver.psycopg("").errors.LockNotAvailable:
        return False
    return found is not None


LOCK = """
    SELECT id FROM statemachine.sessions WHERE id = %(session)s::bigint AND epoch = %(epoch)s::bigint FOR SHARE NOWAIT
"""


def is_free(connection: Connection[tuple[Any, ...]], owned: Owned) -> bool:
    """Tells whether this owner could write now."""
    own = {"session": owned.id, "epoch": owned.epoch}
    return connection.execute(LOCK.replace("NOWAIT", "SKIP LOCKED"), own).fetchone() is not None


def pieces(append: Append) -> Iterator[Append]:
    """Yields appends that come to this one: what its snapshot deletes first, then rows and facts, some at a time."""
    whole = Append(append.owned, receipts=append.receipts, covered=append.covered, mail_states=append.mail_states)
    whole.forgotten = append.forgotten
    yield whole
    some = Append(append.owned)
    for row in append.rows:
        some.rows.append(row)
        if some.size >= ALONE_BYTES:
            yield some
            some = Append(append.owned)
    yield some
    for agent, data in append.facts.items():
        yield Append(append.owned, facts={agent: data}, covered=append.covered, mail_states=append.mail_states)


def epochs(connection: Connection[tuple[Any, ...]], sessions: Sequence[int]) -> dict[int, int]:
    """Returns the present epochs of these sessions."""
    found = "SELECT id, epoch FROM statemachine.sessions WHERE id = ANY (%b)"
    return dict(connection.execute(found, (Numbers(sessions),), binary=True).fetchall())


RELEASE = """
    WITH owned AS MATERIALIZED (
        SELECT s.id FROM statemachine.sessions AS s JOIN unnest(%b, %b) AS o (id, epoch) USING (id, epoch)
        FOR UPDATE OF s SKIP LOCKED
    )
    UPDATE statemachine.sessions AS s SET worker = NULL FROM owned WHERE s.id = owned.id RETURNING s.id
"""


def release(connection: Connection[tuple[Any, ...]], leaving: Sequence[Owned]) -> set[int]:
    """Says of sessions that they have no owner any more, if it is still this one. Returns those of which it said so:
    not of one that is locked.
    """
    columns = Numbers([owned.id for owned in leaving]), Numbers([owned.epoch for owned in leaving])
    return {session for (session,) in connection.execute(RELEASE, columns, binary=True).fetchall()}


# Reading, by an owner

IF_OWNED = """
    SELECT NULL::bigint AS position, NULL::text AS kind, NULL::bytea AS data FROM statemachine.sessions
    WHERE id = %(session)s::bigint AND epoch = %(epoch)s::bigint
"""
OF_AGENT = """
    SELECT position, kind, data FROM statemachine.log WHERE session = %(session)s::bigint AND agent = %(agent)s::bigint
"""
ROLLOUT = f"{IF_OWNED} UNION ALL ({OF_AGENT}) ORDER BY position NULLS FIRST"
LAST = f"""
    {IF_OWNED} UNION ALL
    ({OF_AGENT} AND position < %(before)s::bigint AND kind <> %(but)s::text
        ORDER BY position DESC LIMIT %(last)s::bigint)
    ORDER BY position DESC NULLS FIRST
"""
RECEIPT = """
    SELECT k.request, k.answer FROM statemachine.sessions AS s
    LEFT JOIN statemachine.keys AS k ON k.session = s.id AND k.digest = %(digest)s::bytea
    WHERE s.id = %(session)s::bigint AND s.epoch = %(epoch)s::bigint
"""
AT_ONCE = 32
"""Records that are read at a time, from the end of a rollout back."""
END = 2**63 - 1


class Fenced(Exception):
    """The session has another owner."""


@frozen
class Reader:
    """Reads for the owner of a session, who is told by `Fenced` if he is that no more."""

    connection: Connection[tuple[Any, ...]]
    owned: Owned

    def rollout(self, agent: int) -> tuple[LogRecord, ...]:
        """Returns the whole rollout of an agent, oldest first."""
        return tuple([record_at(*row) for row in self._rows(ROLLOUT, agent=agent if is_id(agent) else -1)])

    def last(self, agent: int, last: int) -> tuple[LogRecord, ...]:
        """Returns the last records of the rollout, so many."""
        rows = self._rows(LAST, agent=agent if is_id(agent) else -1, before=END, but="", last=max(0, min(last, END)))
        return tuple([record_at(*row) for row in reversed(rows)])

    def needed(self, agent: int, mail: int) -> tuple[LogRecord, ...]:
        """Returns what tells how a mail was answered (`Store.rollout`), reading from the end of the rollout back."""

        def backwards() -> Iterator[LogRecord]:
            before = END
            while rows := self._rows(LAST, agent=agent, before=before, but=ENTRY, last=AT_ONCE):
                for row in rows:
                    yield record_at(*row)
                before = rows[-1][0]

        if not is_id(agent):
            agent = -1
        return needed(backwards(), mail)

    def receipt(self, key: str) -> Receipt | None:
        """Returns the receipt for the key, if there is one."""
        digest = digest_of(as_bytes(stored(key)))
        found = self._execute(RECEIPT, digest=digest)
        if not found:
            raise Fenced
        request, answer = found[0]
        return None if answer is None else receipt_of(key, request, answer)

    def _rows(self, asked: LiteralString, **values: Any) -> list[tuple[int, str, bytes]]:
        rows = self._execute(asked, **values)
        if not rows or rows[0][0] is not None:  # the first row says that the session is owned, and has no position
            raise Fenced
        return rows[1:]

    def _execute(self, asked: LiteralString, **values: Any) -> list[Any]:
        own = {"session": self.owned.id, "epoch": self.owned.epoch}
        return self.connection.execute(asked, {**values, **own}, prepare=True, binary=True).fetchall()


def record_at(position: int, kind: str, data: bytes) -> LogRecord:
    """Returns the record of a row. Raises `EncodingError`."""
    return decode_at(position, kind, as_stored(data))
